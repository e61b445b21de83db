"""Every malformed or hostile input of tests/support/corpus.py through every command, timed; and a fuzz of headers.

``python validation/hostile.py [--fuzz-s 60] [--write PAGE]``: `deface`, `segment`, `compare`, `qc` and `study`,
each in a process of its own (forked, so that imports are not paid again). An input passes where the command ends with
exit code 2 (in a study: a failed row), says one printable line without a traceback, leaves no file but its OUT's, stays
below twice the memory of a good scan, and takes less than 60 s. What does not pass is printed, and the script fails.
"""

import argparse
import contextlib
import gzip
import io
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import nibabel as nib
import numpy as np
from _markdown import put, table

import corpus
import phantom
from efface.bids.query import T1wScan, find_scans
from efface.cli import main as efface
from efface.errors import InputError
from efface.io.scan import load_scan
from efface.io.scratch import private_temporary_folder
from efface.simulation.cohort import make_cohort
from efface.study import Settings
from efface.study.records import rows_to_tsv
from efface.study.scan_job import ScanJob

LIMIT_S = 60.0
COMMANDS = ("deface", "segment", "compare", "qc", "study")


@dataclass(frozen=True)
class Ran:
    """How a command ended in its process."""

    code: int
    said: str
    seconds: float
    peak_mb: float


def in_child(work: Callable[[], int], folder: Path) -> Ran:
    """Run something in a forked process; what it writes to both streams is kept."""
    log = folder / "said.txt"
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            with log.open("w", encoding="utf-8", errors="backslashreplace") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
                try:
                    code = work()
                except SystemExit as stop:
                    code = stop.code if isinstance(stop.code, int) else 98
                except BaseException:  # noqa: BLE001 - the parent looks for the traceback
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    said = log.read_text(encoding="utf-8", errors="backslashreplace")
    log.unlink()
    return Ran(os.waitstatus_to_exitcode(status), said, time.perf_counter() - start, usage.ru_maxrss / 1024)


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def work_of(command: str, case: corpus.Case, good: Path, out: Path) -> Callable[[], int]:
    """What is done with an input."""
    words = {
        "deface": ["deface", str(case.path), str(out / "out.nii.gz"), "--method", "quickshear"],
        "segment": ["segment", str(case.path), str(out / "out.nii.gz")],
        "compare": ["compare", str(case.path), str(good), "--out", str(out / "out.tsv")],
        "qc": ["qc", str(case.path), str(good), "--json", str(out / "out.json")],
    }
    if command in words:
        return lambda: efface(words[command])

    def unit() -> int:
        logging.disable()  # the command shows rows, not the log
        outcome = ScanJob(T1wScan("01", None, "sub-01", case.path), Settings(case.path.parent, out)).run()
        lines = rows_to_tsv(outcome.failures).decode().split("\n")
        print(lines[1].split("\t")[-1])
        return 2 if len(lines) == 3 and outcome.failures[0].measure == "load" else 1

    return unit


def wrong(command: str, case: corpus.Case, ran: Ran, out: Path, most_mb: float) -> str:
    """Why an input does not pass; empty where it does."""
    if command == "compare" and case.labels and ran.code == 0:
        return ""
    lines = ran.said.rstrip("\n").split("\n")
    reasons = {
        f"exit code {ran.code}": ran.code != 2,
        "a traceback": "Traceback" in ran.said,
        f"{len(lines)} lines": len(lines) != 1,
        "unprintable": not lines[0].isprintable() or not lines[0],
        "files left": command != "study" and any(out.iterdir()),
        f"{ran.seconds:.0f} s": ran.seconds > LIMIT_S,
        f"{ran.peak_mb:.0f} MB": ran.peak_mb > most_mb,
    }
    return ", ".join(name for name, is_so in reasons.items() if is_so)


def whole_study(cases: list[corpus.Case], folder: Path) -> list[object]:
    """The command `efface study` over all of them at once: one row each, and no file elsewhere."""
    bids = folder / "bids"
    scans = [case for case in cases if " called " not in case.name and os.path.lexists(case.path)]
    for number, case in enumerate(scans):
        anat = bids / f"sub-{number:03d}" / "anat"
        anat.mkdir(parents=True)
        ending = "".join(case.path.suffixes[-2:]) if case.path.name.endswith(".gz") else case.path.suffix
        case.path.replace(anat / f"sub-{number:03d}_T1w{ending}")
    (bids / "dataset_description.json").write_text('{"Name": "hostile", "BIDSVersion": "1.10.0"}')
    before, start = tree(folder), time.perf_counter()
    words = [str(Path(sys.executable).with_name("efface")), "study", str(bids), str(folder / "out"), "participant"]
    done = subprocess.run([*words, "--jobs", "2", "--rescan", "none"], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    after = [name for name in tree(folder) if not name.startswith(str(folder / "out"))]
    failed = sum(path.read_text().count("\tfailed\t") for path in (folder / "out").rglob("*_results.tsv"))
    ok = done.returncode == 1 and "Traceback" not in done.stderr and after == before
    what = "one failed row each, exit code 1" if ok else f"exit code {done.returncode}: {done.stderr[-500:]}"
    return ["`study` over all of them at once", f"{len(scans)} files", f"{failed} failed rows; {what}",
            f"{seconds:.0f} s in all", ""]  # fmt: skip


def fuzz(seconds: float, folder: Path) -> list[object]:
    """Change, cut and compress good files at random, headers above all: a scan, or one line."""
    rng, start, read, refused, broken, slowest = random.Random(1), time.perf_counter(), 0, 0, 0, 0.0
    data = phantom.head().values.astype("<i2")
    affine = phantom.stored_affine("LPS")
    raws = {
        ".nii": phantom.nifti_bytes(data, affine), "2.nii": phantom.nifti_bytes(data, affine, version=2),
        ".mgh": bytes(nib.MGHImage(data, affine).to_bytes()),
    }  # fmt: skip
    special = [b"\0\0", b"\xff\xff", b"\x7f\xff", b"\xff\x7f", b"\x80\0", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff" * 8]
    while time.perf_counter() - start < seconds:
        ending, raw = rng.choice(list(raws.items()))
        changed = bytearray(raw)
        for _ in range(rng.randint(1, 6)):
            patch = rng.choice([*special, rng.randbytes(rng.randint(1, 8))])
            at = rng.randrange(0, 560)
            changed[at : at + len(patch)] = patch
        if rng.random() < 0.3:
            changed = changed[: rng.randrange(len(changed))]
        path = folder / f"fuzz{ending}"
        path.write_bytes(gzip.compress(changed, 1) if rng.random() < 0.3 else changed)
        before = time.perf_counter()
        try:
            scan = load_scan(path)
        except InputError as error:
            refused += 1
            broken += "\n" in str(error)
        else:
            read += 1
            broken += not (np.isfinite(scan.data).all() and np.isfinite(scan.affine).all())
        slowest = max(slowest, time.perf_counter() - before)
    result = f"{read} read, {refused} refused in one line, {broken} otherwise"
    return [f"fuzz of headers, {seconds:.0f} s", f"{read + refused} files", result,
            f"{slowest:.1f} s at most", f"{peak_mb():.0f} MB"]  # fmt: skip


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--fuzz-s", type=float, default=60.0)
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    options = parser.parse_args()
    failed: list[str] = []
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["TMPDIR"] = tempfile.tempdir = str(root / "tmp")
        (root / "tmp").mkdir()
        with private_temporary_folder():  # the folder around it stays, empty and closed to others
            pass
        people = make_cohort(root / "people", people=1, sessions=1, mm=1.0)
        fine = find_scans(people)[0].path
        good = phantom.write(root / "good.nii.gz", "RAS", "int16").path
        labels = phantom.write(root / "labels.nii.gz", "RAS", "uint8").path
        reference = subprocess.run(
            [sys.executable, "-c", PEAK, "deface", str(fine), str(root / "x.nii.gz"), "--method", "quickshear"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        most_mb = 2 * float(reference.stdout.split()[-1])
        print(f"a good scan of 1 mm, deface: {most_mb / 2:.0f} MB", flush=True)
        cases = corpus.write(root / "inputs", large=True)
        for command in options.only:
            worst_s = worst_mb = 0.0
            passed = 0
            before = tree(root)
            for case in cases:
                out = root / "out"
                out.mkdir()
                ran = in_child(work_of(command, case, labels if command == "compare" else good, out), root)
                why = wrong(command, case, ran, out, most_mb)
                shutil.rmtree(out)
                passed += not why
                if why:
                    failed.append(f"{command}: {case.name}: {why}: {ran.said[-300:]}")
                    print(failed[-1], flush=True)
                worst_s, worst_mb = max(worst_s, ran.seconds), max(worst_mb, ran.peak_mb)
            if tree(root) != before:
                failed.append(f"{command}: files left: {sorted(set(tree(root)) ^ set(before))[:5]}")
                print(failed[-1], flush=True)
            rows.append([f"`{command}`", f"{len(cases)} inputs", f"{passed} refused in one line, nothing left behind",
                         f"{worst_s:.1f} s at most", f"{worst_mb:.0f} MB at most"])  # fmt: skip
            print(*rows[-1], sep="\t", flush=True)
        rows.append(whole_study(cases, root / "whole"))
        print(*rows[-1], sep="\t", flush=True)
        with contextlib.redirect_stderr(io.StringIO()):
            rows.append(fuzz(options.fuzz_s, root))
        if ", 0 otherwise" not in str(rows[-1][2]):
            failed.append(f"fuzz: {rows[-1]}")
        print(*rows[-1], sep="\t", flush=True)
    rows.append(["a good scan of 1 mm through `deface`", "for comparison", "", "", f"{most_mb / 2:.0f} MB"])
    if options.write:
        put(options.write, "hostile", table(("through", "what", "result", "time", "memory"), rows))
    if failed:
        sys.exit(f"{len(failed)} did not pass")


PEAK = """
import resource, sys
from efface.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
sys.exit(code)
"""

if __name__ == "__main__":
    main()
