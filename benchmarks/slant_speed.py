"""What `efface segment SCAN OUT --segmenter slant` takes: wall and CPU time of each stage, and the peak of memory.

    python benchmarks/slant_speed.py SCAN [NAME=VALUE ...]

Parameters of the segmenter may be given, for example ``networks=tiles``.

A stage within another is part of it; stages side by side share their CPU time. Run it on an idle machine, or go by
the CPU time. ``OMP_NUM_THREADS`` is the number of cores.
"""

import functools
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.perf_counter(), time.process_time()

import efface.anatomy.head_anatomy  # noqa: E402
from efface import _api as api  # noqa: E402
from efface.parameters import pairs_to_mapping  # noqa: E402
from efface.segmentation.slant import pipeline, whole_brain, whole_weights  # noqa: E402
from efface.spatial import registration  # noqa: E402


def timed(owner: Any, name: str) -> None:
    """Print a line at the end of every call of a function of a module or class."""
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = function(*args, **kwargs)
        report(name, wall, cpu)
        return result

    setattr(owner, name, wrapper)


def report(name: str, wall: float, cpu: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    now = time.perf_counter(), time.process_time()
    print(f"{name:20s} {now[0] - wall:6.1f} s wall {now[1] - cpu:6.1f} s CPU, peak {peak:.2f} GB", flush=True)


def main(scan: str, *params: str) -> None:
    report("imports", *STARTED)
    timed(registration, "register_affine")
    timed(efface.anatomy.head_anatomy, "brain_mask")
    for name in ("open_weights", "standardise", "predict"):
        timed(pipeline, name)
    for name in ("z_scores", "label_indices"):
        timed(whole_brain, name)
    for module in (pipeline, whole_brain):
        timed(module, "aligned")
        timed(module, "to_scan_grid")
    timed(whole_weights.MillimetreUNet, "encode")
    with tempfile.TemporaryDirectory() as folder:
        result = api.segment(scan, "slant", **pairs_to_mapping(params))
        wall, cpu = time.perf_counter(), time.process_time()
        result.scan.save_like(result.labels.values, Path(folder) / "labels.nii.gz")
        report("writing", wall, cpu)
    report("all", *STARTED)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
