"""Where the time of one scan goes: six methods, seven segmentations, Dice, quality control, as `efface study` runs them.

``python benchmarks/profile_scan.py [--mm 1] [--segmenter slant] [--out DIR] [--top 40]``: a virtual person of the demo
cohort, in this process, under cProfile. Prints wall and processor time of every step, the peak memory, and the functions
that took most themselves. OUT stays, so that two versions can be compared byte by byte (`diff -r`).
"""

import argparse
import cProfile
import hashlib
import pstats
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from efface.bids.query import find_scans
from efface.simulation.cohort import make_cohort
from efface.study import Settings
from efface.study.scan_job import ScanJob
from efface.study.watchdog import StepTimer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mm", type=float, default=1.0)
    parser.add_argument("--segmenter", default="slant")
    parser.add_argument("--out", type=Path, help="a new folder (default: a temporary one)")
    parser.add_argument("--top", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        out = options.out or Path(name, "out")
        root = make_cohort(Path(name, "people"), people=1, sessions=1, mm=options.mm)
        StepTimer.step = printing_step
        job = ScanJob(find_scans(root)[0], Settings(root, out, segmenter=options.segmenter, rescan="none"))
        profile = cProfile.Profile()
        start, cpu = time.perf_counter(), time.process_time()
        outcome = profile.runcall(job.run)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"whole scan\t{wall:.1f} s\t{cpu:.1f} s of processor\t{peak_gb():.2f} GB\t{len(outcome.failures)} failed")
        pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(options.top)
        results = [p for p in sorted(out.rglob("*")) if p.is_file() and not p.name.endswith("_timing.json")]
        digest = hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in results))
        print(f"sha256 of {len(results)} files\t{digest.hexdigest()}")


quiet_step = StepTimer.step


@contextmanager
def printing_step(timer: StepTimer, name: str) -> Iterator[None]:
    """Print how long a step took."""
    start, cpu = time.perf_counter(), time.process_time()
    with quiet_step(timer, name):
        yield
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{name}\t{wall:.1f} s\t{cpu:.1f} s of processor\t{peak_gb():.2f} GB so far", flush=True)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
