"""Scans a minute with one worker and with two, each of one thread: ``python benchmarks/throughput.py [--people 4]``.

Virtual people of the demo cohort (2 mm), one method, two segmentations each, by the command `efface study`, start-up and
all. The single worker is kept to one core, so that it has one thread too; on two cores, two workers have one each.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pages import put, table

from efface.cohort import make_cohort

EFFACE = str(Path(sys.executable).with_name("efface"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--mm", type=float, default=2.0)
    parser.add_argument("--segmenter", default="atlas")
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two cores are needed")
    rows: list[list[object]] = []
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        root = make_cohort(Path(name, "bids"), people=options.people, sessions=1, mm=options.mm)
        for jobs in (1, 2):
            os.sched_setaffinity(0, cores[:jobs])
            words = [EFFACE, "study", str(root), str(Path(name, f"out{jobs}")), "participant", "--jobs", str(jobs)]
            words += ["--methods", "quickshear", "--rescan", "none", "--segmenter", options.segmenter]
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            rows.append([jobs, f"{wall:.0f}", f"{cpu:.0f}", f"{60 * options.people / wall:.2f}"])
            seconds.append(wall)
            rows[-1].append(f"{seconds[0] / wall:.2f}")
            print(*rows[-1], sep="\t", flush=True)
    made = table(("workers of one thread", "seconds", "processor s", "scans a minute", "times as fast"), rows)
    print(made)
    if options.write:
        put(options.write, "throughput", made)


if __name__ == "__main__":
    main()
