"""What a study survives: the command `efface study` is killed, starved, shut out and misled, then simply run again.

``python validation/faults.py [--only NAME ...] [--kills 20] [--write PAGE]``: eight phantoms, two methods,
three segmentations each, in processes as a study has them; what is slow and not under test has a stand-in that takes two
seconds a scan (`fault_study.py`). First an undisturbed run; then each fault in an OUT of its own, and the same command
again. Lost is what then differs, byte by byte, from the undisturbed
run's files (all of them: images, masks, recipes, verdicts, tables; not the seconds that steps took, nor the list of
runs, which names the one that was disturbed).

Some minutes on two cores. Full and read-only disks are small tmpfs and read-only mounts, which need root.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from _markdown import put, table

import phantom
from efface.io.atomic import LEFTOVER
from efface.study import collect

SCANS = 8
PROGRAM = Path(__file__).with_name("fault_study.py")
DASK = [sys.executable, "-m", "dask"]
OPTIONS = ("--methods", "quickshear,defacer", "--rescan", "none")
HEADER = ("what was done", "what happened", "what was lost after running again")


@dataclass
class Ground:
    """Where all this happens.

    Attributes
    ----------
    root
        A temporary folder.
    bids
        The data set.
    whole
        Files of the undisturbed run, and what is in them.
    seconds
        How long that took.
    kills
        How often the whole run is killed.
    """

    root: Path
    bids: Path
    whole: dict[Path, bytes]
    seconds: float
    kills: int

    def command(self, out: Path, *words: str) -> list[str]:
        jobs = () if "--cluster" in words else ("--jobs", "2")
        return [sys.executable, str(PROGRAM), "study", str(self.bids), str(out), "participant", *OPTIONS, *jobs, *words]

    @contextlib.contextmanager
    def started(self, out: Path, *words: str, fault: str = "") -> Iterator[subprocess.Popen[str]]:
        """The participant level under way, in a process group of its own."""
        command = self.command(out, *words)
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "EFFACE_FAULT": fault},
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def once_more(self, out: Path) -> str:
        """The same command again, then the tables; what is lost, in words."""
        run(self.command(out), expected=0)
        collect(out)
        found = files(out)
        missing = sorted(str(p) for p in self.whole.keys() - found.keys())
        more = sorted(str(p) for p in found.keys() - self.whole.keys())
        changed = sorted(str(p) for p in self.whole.keys() & found.keys() if self.whole[p] != found[p])
        left = sorted(p.name for p in out.rglob(".*") if LEFTOVER.fullmatch(p.name))
        if not (missing or more or changed or left):
            return f"nothing: {len(found)} files, byte by byte"
        return f"missing {missing}, more {more}, changed {changed}, half-written {left}"


def files(out: Path) -> dict[Path, bytes]:
    """Everything a study wrote but its timing."""
    found = (p for p in out.rglob("*") if p.is_file() and not p.name.endswith(("_timing.json", ".lock")))
    return {path.relative_to(out): content(path) for path in found}


def content(path: Path) -> bytes:
    """Bytes of a file; of the description, without the list of runs, for there was another with other options."""
    if path.name != "dataset_description.json":
        return path.read_bytes()
    described = json.loads(path.read_text())
    del described["Efface"]["Runs"]
    return json.dumps(described).encode()


def run(command: list[str], expected: int | None = None) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if expected is not None and done.returncode != expected:
        sys.exit(f"expected exit code {expected}; received {done.returncode}: {' '.join(command)}\n{done.stderr}")
    return done.returncode, done.stderr


def ended(process: subprocess.Popen[str]) -> str:
    """How a command ended: its exit code, and its last line where that is not 0."""
    said = process.communicate()[1].strip().splitlines()
    if process.returncode == 0:
        return "exit code 0"
    errors = [line for line in said if "error" in line] or said[-1:]
    more = f", {len(errors)} lines like" if len(errors) > 1 else ":"
    return f"exit code {process.returncode}{more} `{shortened(errors[-1]) if errors else ''}`"


def shortened(line: str) -> str:
    words = [word if "/" not in word or len(word) < 30 else f"…/{Path(word).name}" for word in line.split()]
    return " ".join(words)[:200]


def at_work(out: Path, process: subprocess.Popen[str], count: int = 1) -> None:
    """Wait until so many units have begun to write."""
    while process.poll() is None and len(list(out.glob("sub-*/**/*_dseg.nii.gz"))) < count:
        time.sleep(0.05)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes of a run: those that do most."""
    children = psutil.Process(process.pid).children(recursive=True)
    found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return sorted(found, key=lambda child: -sum(child.cpu_times()[:2]))


def killed_worker(ground: Ground, out: Path) -> tuple[str, str]:
    with ground.started(out) as process:
        at_work(out, process, 3)
        victim = workers(process)[0]
        victim.kill()
        return "SIGKILL of the busiest worker in mid-scan", f"another took its scan; {ended(process)}"


def killed_scheduler(ground: Ground, out: Path) -> tuple[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        for words in (
            ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
            ["worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--preload", str(PROGRAM)],
        ):
            quiet = subprocess.DEVNULL
            running.append(subprocess.Popen([*DASK, *words], stdout=quiet, stderr=quiet, start_new_session=True))

    def kill() -> None:
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()
        running.clear()

    start()
    try:
        with ground.started(out, "--cluster", address) as process:
            at_work(out, process)
            kill()
            time.sleep(2)
            start()
            return "SIGKILL of a dask scheduler and its workers; started again", f"the run went on; {ended(process)}"
    finally:
        kill()


def killed_run(ground: Ground, out: Path) -> tuple[str, str]:
    rng, killed, whole = random.Random(7), 0, 0
    for _ in range(ground.kills):
        with ground.started(out) as process:
            try:
                process.wait(timeout=rng.uniform(1.0, 0.5 * ground.seconds))
                whole += 1
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
    return (
        f"the whole run started {ground.kills} times, and killed at random moments",
        f"{killed} kills; {whole} runs ended before",
    )


def interrupted(ground: Ground, out: Path) -> tuple[str, str]:
    with ground.started(out) as process:
        at_work(out, process)
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        said = ended(process)
        left = psutil.wait_procs(family, timeout=20)[1]
        return "Ctrl-C (SIGINT to the group)", f"{said}; {len(left)} processes left"


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[None]:
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(["mount", *options], capture_output=True).returncode != 0:
        raise Skipped("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-R", str(folder)], check=True)


def full_disk(ground: Ground, out: Path) -> tuple[str, str]:
    megabytes = sum(map(len, ground.whole.values())) / 2**20
    with small_disk(out, 0.6 * megabytes):
        with ground.started(out) as process:
            said = ended(process)
        half = [p.name for p in out.rglob(".*") if LEFTOVER.fullmatch(p.name)]
        subprocess.run(["mount", "-o", "remount,size=1g", str(out)], check=True)
        lost = ground.once_more(out)
    raise Told(f"OUT on a tmpfs of {0.6 * megabytes:.1f} MB, then more room", f"{said}; {len(half)} half files", lost)


def read_only(ground: Ground, out: Path) -> tuple[str, str]:
    with small_disk(out, 1024):
        with ground.started(out) as process:
            at_work(out, process)
            subprocess.run(["mount", "--bind", str(out), str(out)], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", str(out)], check=True)
            said = ended(process)
        subprocess.run(["umount", str(out)], check=True)
        lost = ground.once_more(out)
    raise Told("OUT becomes read-only (mount) in mid-run, then writable", said, lost)


def memory(ground: Ground, out: Path) -> tuple[str, str]:
    with ground.started(out, "--memory", "1", fault="hungry") as process:
        said = ended(process)
    return "the second scan takes all memory (`--memory 1`); then no more", said


def time_limit(ground: Ground, out: Path) -> tuple[str, str]:
    with ground.started(out, "--step-limit", "5", fault="hangs") as process:
        said = ended(process)
    return "the second scan hangs (`--step-limit 5`); then no more", said


def corrupt(ground: Ground, out: Path) -> tuple[str, str]:
    path = sorted(ground.bids.glob("sub-*/**/*_T1w.nii.gz"))[3]
    good, times = path.read_bytes(), path.stat()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 0xFF
    path.write_bytes(bytes(bad))
    try:
        with ground.started(out) as process:
            said = ended(process)
        others = len(list(out.glob("sub-*/**/*_desc-quickshear_T1w.nii.gz")))
    finally:
        path.write_bytes(good)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return "one byte of the fourth scan flipped; then mended", f"{others} of {SCANS} scans done; {said}"


def twice(ground: Ground, out: Path) -> tuple[str, str]:
    with ground.started(out) as one, ground.started(out) as other:  # which is first is a matter of luck
        refused, went_on = sorted((ended(one), ended(other)), key=lambda said: said.startswith("exit code 0"))
        return "two runs on one OUT, started together", f"one: {refused}; the other: {went_on}"


def phantoms(root: Path) -> Path:
    """A data set of eight, in different orientations."""
    for number in range(1, SCANS + 1):
        folder = root / f"sub-{number:02d}" / "anat"
        folder.mkdir(parents=True)
        phantom.write(folder / f"sub-{number:02d}_T1w.nii.gz", ("LPS", "RAS", "PSR", "LAS")[number % 4])
    (root / "dataset_description.json").write_text('{"Name": "phantoms", "BIDSVersion": "1.10.0"}')
    return root


class Skipped(Exception):
    """A fault that cannot be made here."""


class Told(Exception):
    """A case that has looked at what was lost by itself: done, happened, lost."""


CASES: dict[str, Callable[[Ground, Path], tuple[str, str]]] = {
    "worker": killed_worker, "scheduler": killed_scheduler, "kills": killed_run, "interrupt": interrupted,
    "full": full_disk, "read-only": read_only, "memory": memory, "time": time_limit, "corrupt": corrupt,
    "twice": twice,
}  # fmt: skip


def tried(name: str, ground: Ground) -> tuple[str, str, str]:
    out = ground.root / name
    try:
        done, happened = CASES[name](ground, out)
        return done, happened, ground.once_more(out)
    except Told as told:
        return told.args[0], told.args[1], told.args[2]
    except Skipped as skipped:
        return name, "not tried", str(skipped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--write", type=Path, help="a page that takes the table between its two marks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ground = Ground(root, phantoms(root / "bids"), {}, 0.0, options.kills)
        start = time.perf_counter()
        run(ground.command(root / "whole"), expected=0)
        ground.seconds = time.perf_counter() - start
        collect(root / "whole")
        ground.whole = files(root / "whole")
        print(f"undisturbed: {ground.seconds:.0f} s, {len(ground.whole)} files", flush=True)
        rows = []
        for case in options.only:
            rows.append(tried(case, ground))
            print(*rows[-1], sep="\t", flush=True)
    if options.write:
        put(options.write, "faults", table(HEADER, rows))
    if not all(lost.startswith("nothing") or happened == "not tried" for _, happened, lost in rows):
        sys.exit("something was lost")


if __name__ == "__main__":
    main()
