"""Wall and processor seconds, and peak memory, of `efface deface` and `efface segment`, with 1 and 2 threads.

    python benchmarks/command_speed.py SCAN [--runs 3] [--commands deface segment] [--threads 1 2]

Of several runs, the quickest by processor time: other programs on the machine make all three larger. Wall seconds
count on an idle machine only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measured(command: str, scan: Path, threads: int) -> tuple[float, float, float]:
    """Processor seconds, wall seconds, and peak GB of one run."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "efface.cli", command, str(scan), str(Path(folder, "out.nii.gz"))]
        start = time.perf_counter()
        process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"efface {command} failed")
    return used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scan", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--commands", nargs="+", default=["deface", "segment"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    options = parser.parse_args()
    for command in options.commands:
        for threads in options.threads:
            cpu, wall, peak = min(measured(command, options.scan, threads) for _ in range(options.runs))
            print(f"{command}, {threads} threads\t{cpu:.1f} s of processor\t{wall:.1f} s\t{peak:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
