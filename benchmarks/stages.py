"""Seconds, processor seconds and peak memory of every stage of one scan, at three voxel sizes, and how they grow.

``python benchmarks/stages.py [--mm 2 1 0.7] [--segmenters atlas slant] [--write PAGE]``: a virtual person
of the demo cohort (0.7 mm: the 1 mm scan, resampled by cubic splines), in a process of its own for every size. Memory is
the peak resident set while the stage ran, of the whole process; Linux only (``/proc/self/clear_refs``).
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _markdown import put, table

from efface.bids.query import find_scans
from efface.io.scan import Scan, load_scan
from efface.simulation.cohort import make_cohort
from efface.spatial.types import Grid

COLUMNS = ("voxels", "seconds", "processor", "peak_mb", "bytes")


def measure(path: Path, segmenters: list[str]) -> dict[str, dict[str, float]]:
    """Run every stage of one scan."""
    import efface.spatial.registration  # noqa: F401 - imports are measured apart
    from efface.anatomy.brain_extraction import brain_mask
    from efface.anatomy.head_anatomy import HeadAnatomy
    from efface.anatomy.templates import average_head
    from efface.defacing import METHODS, apply_edit, plan
    from efface.metrics import measure as measures
    from efface.quality import judge
    from efface.segmentation import segment

    found: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text("5")
        start, cpu = time.perf_counter(), time.process_time()
        yield
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        found[name] = {"seconds": wall, "processor": cpu, "peak_mb": _peak_mb()}
        print(f"{name}\t{wall:.1f}\t{cpu:.1f}\t{_peak_mb():.0f}", file=sys.stderr, flush=True)

    with stage("networks and atlas, once a process"):
        average_head()
        warm_up()
    with stage("load"):
        scan = load_scan(path)
        assert scan.data.size
        assert scan.sha256
    voxels = scan.data.size
    anatomy = HeadAnatomy(scan)
    with stage("anatomy: head"):
        assert anatomy.head.any()
    with stage("anatomy: average head registered"):
        assert anatomy.average_to_scan.size
    with stage("anatomy: brain (deepbet)"):
        assert anatomy.brain.any()
    with stage("anatomy: brain again, the networks being there"):
        brain_mask(scan.data)
    with stage("anatomy: distance from the brain, refined registration"):
        assert anatomy.brain_distance_mm.size
        assert anatomy.registration_mi.score
    with stage("anatomy: facial features"):
        assert anatomy.landmarks
    defaced: dict[str, Scan] = {}
    for method in METHODS:
        with stage(f"deface: {method}"):
            params = {"incomplete": "edit"} if method == "defacer" else {}
            edit = plan(anatomy, method, params, protect_brain=False)
            defaced[method] = apply_edit(scan, edit)
    for method in METHODS:
        with stage(f"quality control: {method}"):
            judge(anatomy, defaced[method])
    for segmenter in segmenters:
        with stage(f"segment: {segmenter}"):
            before = segment(anatomy, segmenter).values
        with stage(f"segment: {segmenter}, a defaced scan with its own anatomy"):
            after = segment(HeadAnatomy(defaced["quickshear"]), segmenter).values
    with stage("Dice of 132 labels and nine regions"):
        measures(before, after, scan.spacing_mm, ("dice",))
    with tempfile.TemporaryDirectory() as name:
        with stage("write: defaced scan"):
            defaced["quickshear"].save(Path(name, "a.nii.gz"))
        with stage("write: labels"):
            scan.save_like(after, Path(name, "b.nii.gz"))
        with stage("write: mask"):
            scan.save_like(anatomy.brain, Path(name, "c.nii.gz"))
        for key, letter in (("write: defaced scan", "a"), ("write: labels", "b"), ("write: mask", "c")):
            found[key]["bytes"] = Path(name, f"{letter}.nii.gz").stat().st_size
    return {name: {"voxels": voxels, **values} for name, values in found.items()}


def warm_up() -> None:
    """Load what a process loads once."""
    from efface.anatomy.brain_extraction import _extractor
    from efface.anatomy.landmark_network import trained_network
    from efface.segmentation.atlas.atlas_prior import load_prior
    from efface.segmentation.slant.params import SlantParams
    from efface.segmentation.slant.pipeline import open_weights

    for load in (_extractor, trained_network, load_prior):
        load()
    open_weights(SlantParams())


def _peak_mb() -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def person(mm: float, folder: Path) -> Path:
    """A T1w scan of this voxel size."""
    root = make_cohort(folder / "people", people=1, sessions=1, mm=max(mm, 1.0))
    path = find_scans(root)[0].path
    return path if mm >= 1 else _resampled(load_scan(path), mm, folder / "sub-fine_T1w.nii.gz")


def _resampled(scan: Scan, mm: float, path: Path) -> Path:
    import nibabel as nib

    from efface.spatial.resampling import resample

    x, y, z = (math.floor((n - 1) * s / mm) + 1 for n, s in zip(scan.shape, scan.spacing_mm, strict=True))
    affine = scan.affine @ np.diag([*(mm / scan.spacing_mm), 1.0])
    data = np.clip(resample(scan.volume, Grid((x, y, z), affine), order=3), 0, 32767)
    nib.Nifti1Image(np.rint(data).astype(np.int16), affine).to_filename(path)
    return path


def rows_of(results: dict[str, dict[str, dict[str, float]]]) -> tuple[list[str], list[list[str]]]:
    """The table: stages by sizes, and the exponent of their growth with voxels."""
    sizes = list(results)
    header = ["stage", *(f"{mm} mm: processor s, peak MB" for mm in sizes), "grows as voxels to the power of"]
    rows = []
    for name in results[sizes[0]]:
        cells = [results[mm].get(name) for mm in sizes]
        words = [f"{c['processor']:.1f}, {c['peak_mb']:.0f}" if c else "–" for c in cells]
        known = [c for c in cells if c]
        first, last = known[0], known[-1]
        growth = "–"
        if len(known) > 1 and min(first["processor"], last["processor"]) > 0.05:
            growth = f"{np.log(last['processor'] / first['processor']) / np.log(last['voxels'] / first['voxels']):.1f}"
        rows.append([name, *words, growth])
    return header, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mm", nargs="+", default=["2", "1", "0.7"])
    parser.add_argument("--segmenters", nargs="+", default=["atlas", "slant"])
    parser.add_argument("--json", type=Path, help="where the numbers go (benchmarks/capacity.py reads them)")
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scan:
        print(json.dumps(measure(options.scan, options.segmenters)))
        return
    results = {}
    for mm in options.mm:
        with tempfile.TemporaryDirectory() as name:
            words = [sys.executable, __file__, "--scan", str(person(float(mm), Path(name)))]
            words += ["--segmenters", *options.segmenters]
            print(f"{mm} mm", file=sys.stderr, flush=True)
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ})
            results[mm] = json.loads(done.stdout)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    made = table(*rows_of(results))
    print(made)
    if options.write:
        put(options.write, "stages", made)


if __name__ == "__main__":
    main()
