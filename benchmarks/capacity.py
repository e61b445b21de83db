"""What a study costs: core-hours, memory and disk of 179, 4,000 and 100,000 scans, from the benchmark of the stages.

``python benchmarks/capacity.py [--write docs/validation/capacity.md]`` reads benchmarks/results/stages.json, which
``benchmarks/stages.py --json`` writes. A scan costs what its stages cost: loaded once, its anatomy found once, six
methods, six verdicts, seven segmentations (those of defaced scans with an anatomy of their own), six comparisons, and
everything written.
"""

import argparse
import json
from pathlib import Path

from _markdown import put, table

RESULTS = Path(__file__).parent / "results" / "stages.json"
COHORTS = {"179 (the paper)": 179, "4,000 (OASIS-3)": 4_000, "100,000 (UK Biobank)": 100_000}
METHODS = 6
CORES = 1_000
"""A share of a cluster to reckon with."""
Stages = dict[str, dict[str, float]]


def seconds_of(stages: Stages, segmenter: str) -> float:
    """Processor seconds of one scan."""
    once = [name for name in stages if name.startswith(("load", "anatomy", "deface", "quality")) and "again" not in name]
    total = sum(stages[name]["processor"] for name in once)
    total += stages[f"segment: {segmenter}"]["processor"]
    total += METHODS * stages[f"segment: {segmenter}, a defaced scan with its own anatomy"]["processor"]
    total += METHODS * stages["Dice of 132 labels and nine regions"]["processor"]
    return total + sum(count * stages[name]["processor"] for name, count in WRITTEN.items())


WRITTEN = {"write: defaced scan": METHODS, "write: labels": METHODS + 1, "write: mask": METHODS + 1}


def megabytes_of(stages: Stages) -> float:
    """Disk of one scan's outputs; tables and recipes are 0.3 MB at most."""
    return 0.3 + sum(count * stages[name]["bytes"] for name, count in WRITTEN.items()) / 2**20


def peak_gb(stages: Stages) -> float:
    return max(values["peak_mb"] for values in stages.values()) / 1024


def rows_of(results: dict[str, Stages]) -> list[list[str]]:
    rows = []
    for cohort, scans in COHORTS.items():
        for mm, stages in results.items():
            for segmenter in ("atlas", "slant"):
                seconds = seconds_of(stages, segmenter)
                hours = scans * seconds / 3600
                rows.append(
                    [
                        cohort,
                        f"{mm} mm",
                        segmenter,
                        f"{seconds / 60:.1f}",
                        f"{hours:,.0f}",
                        f"{peak_gb(stages):.1f}",
                        f"{scans * megabytes_of(stages) / 1024:,.0f}",
                        duration(scans * seconds / 2),
                        duration(max(seconds, scans * seconds / CORES)),
                    ]
                )
    return rows


def duration(seconds: float) -> str:
    """Hours or days, as people say it."""
    hours = seconds / 3600
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:.0f} h" if hours < 72 else f"{hours / 24:,.0f} days"


HEADER = (
    "scans", "voxels", "segmenter", "core-minutes a scan", "core-hours", "GB a worker", "GB of disk",
    "on 2 cores", f"on {CORES:,} cores",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    options = parser.parse_args()
    made = table(HEADER, rows_of(json.loads(options.results.read_text())))
    print(made)
    if options.write:
        put(options.write, "capacity", made)


if __name__ == "__main__":
    main()
