"""Every benchmark of cost, one after the other, and their tables into the documentation: ``make bench``.

``python benchmarks/all.py [--quick] [--faults]``: engine, index, stages, throughput, peers, capacity; with ``--faults``
also the fault matrix and the hostile inputs (an hour more). ``--quick`` takes small numbers, to see that all run, and
writes nothing. Run it on a machine that does nothing else.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE, SCALE, CAPACITY = (
    HERE.parent / "docs" / name for name in ("validation/benchmarks.md", "how-to/cluster.md", "validation/capacity.md")
)
STAGES = HERE / "results" / "stages.json"
BENCHMARKS = (
    ("engine.py", ["--write", str(PAGE)], ["--tasks", "500", "--units", "200"]),
    ("bids_index.py", ["--write", str(PAGE)], ["--subjects", "200"]),
    ("stages.py", ["--json", str(STAGES), "--write", str(PAGE)], ["--mm", "2", "--segmenters", "atlas"]),
    ("throughput.py", ["--write", str(PAGE)], ["--people", "2"]),
    ("peers.py", ["--write", str(PAGE)], ["--mm", "2"]),
    ("capacity.py", ["--write", str(CAPACITY)], []),
)
FAULTS = (
    ("../validation/faults.py", ["--write", str(SCALE)], ["--only", "worker", "corrupt"]),
    ("../validation/hostile.py", ["--write", str(SCALE)], ["--fuzz-s", "5"]),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    failed = []
    for name, whole, quick in (*BENCHMARKS, *(FAULTS if options.faults else ())):
        start = time.perf_counter()
        print(f"== {name}", flush=True)
        words = [sys.executable, str(HERE / name), *(quick if options.quick else whole)]
        if subprocess.run(words, check=False).returncode != 0:
            failed.append(name)
        print(f"== {name}: {time.perf_counter() - start:.0f} s", flush=True)
    if failed:
        sys.exit(f"did not end well: {', '.join(failed)}")


if __name__ == "__main__":
    main()
