"""Scans a minute with one worker and with two, each of one thread: ``python benchmarks/throughput.py [--people 4]``.

Virtual people of the demo cohort (2 mm), one method, two segmentations each, by the command `efface study`, start-up and
all. The single worker is kept to one core, so that it has one thread too; on two cores, two workers have one each.
"""

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from _markdown import put, table

from efface.simulation.cohort import make_cohort

LEAST_S = 10.0
"""A child that has worked less is no worker, or has not begun."""
EFFACE = str(Path(sys.executable).with_name("efface"))


HEADER = (
    "workers of one thread", "seconds", "of which its workers waited for a core that others used", "processor s",
    "scans a minute", "times as fast", "without the waiting",
)  # fmt: skip


def watched(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a command; seconds for which its workers' busiest threads were ready to run and were not, on average."""
    waited: dict[int, float] = {}
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            for worker in psutil.Process(process.pid).children(recursive=True):
                threads = [busy_and_waiting(path) for path in Path(f"/proc/{worker.pid}/task").glob("*/schedstat")]
                busy, waiting = max(threads, default=(0.0, 0.0))
                if busy > LEAST_S:
                    waited[worker.pid] = waiting
        time.sleep(1.0)
    if process.returncode != 0:
        sys.exit(f"exit code {process.returncode}")
    return sum(waited.values()) / max(1, len(waited))


def busy_and_waiting(path: Path) -> tuple[float, float]:
    try:
        busy, waiting, _ = path.read_text().split()
    except OSError:
        return 0.0, 0.0
    return int(busy) / 1e9, int(waiting) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--mm", type=float, default=2.0)
    parser.add_argument("--segmenter", default="slant")
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed")
    rows: list[list[object]] = []
    seconds: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        root = make_cohort(Path(name, "bids"), people=options.people, sessions=1, mm=options.mm)
        for jobs in (1, 2):
            os.sched_setaffinity(0, cores[:jobs])
            words = [EFFACE, "study", str(root), str(Path(name, f"out{jobs}")), "participant", "--jobs", str(jobs)]
            words += ["--methods", "quickshear", "--rescan", "none", "--segmenter", options.segmenter]
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            waited = watched(subprocess.Popen(words, stdout=subprocess.DEVNULL))
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            seconds.append((wall, wall - waited))
            faster = (f"{first / now:.2f}" for first, now in zip(seconds[0], seconds[-1], strict=True))
            rows.append(
                [jobs, f"{wall:.0f}", f"{waited:.0f}", f"{cpu:.0f}", f"{60 * options.people / wall:.2f}", *faster]
            )
            print(*rows[-1], sep="\t", flush=True)
    made = table(HEADER, rows)
    print(made)
    if options.write:
        put(options.write, "throughput", made)


if __name__ == "__main__":
    main()
