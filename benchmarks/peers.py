"""efface beside its peers on one virtual person: the same task, one core, wall and processor seconds, and how well.

``python benchmarks/peers.py [--mm 1] [--write PAGE]``: quickshear (PyPI) with the same brain mask; deepbet
alone; pydeface where FSL's flirt is; and for registration of the average head to the scan, ANTsPy's affine and SyN.
A peer that is not installed is skipped with the reason: ``pip install quickshear antspyx``; efface needs none of them.

How well a registration fits: correlation of the registered scan and the average head inside the cranium.
"""

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from _markdown import put, table

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

from efface.anatomy import templates
from efface.anatomy.brain_extraction import brain_mask
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.query import find_scans
from efface.defacing import apply_edit, plan
from efface.io.scan import Scan, load_scan
from efface.simulation.cohort import make_cohort
from efface.spatial import registration, resampling

HEADER = ("task", "program", "seconds", "processor s", "result")
TASK_WARP = "average head to scan, deformable"
Row = tuple[str, str, str, str, str]


def timed(work: Callable[[], object]) -> tuple[object, str, str]:
    """What came of it, and both times; children count."""
    start, before = time.perf_counter(), os.times()
    result = work()
    wall, after = time.perf_counter() - start, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    return result, f"{wall:.1f}", f"{cpu:.1f}"


def quickshear(anatomy: HeadAnatomy, folder: Path) -> list[Row]:
    scan, task = anatomy.scan, "quickshear, brain mask given"
    edit, wall, cpu = timed(lambda: apply_edit(scan, plan(anatomy, "quickshear", protect_brain=False)))
    ours = np.asarray(edit.stored)  # type: ignore[attr-defined]
    rows: list[Row] = [(task, "efface (in memory, with the check that a face is there)", wall, cpu, "")]
    try:
        version = importlib.metadata.version("quickshear")
    except importlib.metadata.PackageNotFoundError:
        return [*rows, (task, "quickshear", "–", "–", "skipped: not installed (pip install quickshear)")]
    scan.save(folder / "scan.nii.gz")
    scan.save_like(anatomy.brain, folder / "brain.nii.gz")
    words = [str(folder / name) for name in ("scan.nii.gz", "brain.nii.gz", "out.nii.gz")]
    _, wall, cpu = timed(lambda: subprocess.run([sys.executable, "-m", "quickshear", *words], check=True))
    theirs = np.asanyarray(nib.load(words[2]).dataobj)  # type: ignore[attr-defined]
    same = f"{np.count_nonzero(theirs != ours)} of {ours.size} voxels differ from efface's"
    return [*rows, (task, f"quickshear {version} (a command: imports, load, write)", wall, cpu, same)]


def deepbet(scan: Scan) -> list[Row]:
    mask, wall, cpu = timed(lambda: brain_mask(scan.data))
    warm, again, cpu_again = timed(lambda: brain_mask(scan.data))
    version = importlib.metadata.version("deepbet")
    volume = f"{np.count_nonzero(mask) * float(np.prod(scan.spacing_mm)) / 1000:.0f} ml"  # type: ignore[call-overload]
    return [
        ("brain mask", f"deepbet {version} (efface's own brain mask), first call", wall, cpu, volume),
        ("brain mask", "the same, networks loaded", again, cpu_again, "" if np.array_equal(mask, warm) else "differs"),  # type: ignore[arg-type]
    ]


def affine(scan: Scan) -> list[Row]:
    average, cranium = templates.average_head(), templates.cranium()
    task = "average head to scan, affine"

    def fit(matrix: np.ndarray) -> str:
        moved = resampling.resample(scan.volume, average.grid, matrix)
        return f"correlation in the cranium {np.corrcoef(moved[cranium], average.data[cranium])[0, 1]:.3f}"

    found, wall, cpu = timed(lambda: registration.register_affine(average, scan.volume, discriminating_mask=cranium))
    rows: list[Row] = [(task, "efface (greedy; any pose up to 90°)", wall, cpu, fit(found.matrix))]  # type: ignore[attr-defined]
    try:
        import ants
    except ImportError:
        return [*rows, (task, "ANTsPy", "–", "–", "skipped: not installed (pip install antspyx)")]
    version = importlib.metadata.version("antspyx")
    fixed, moving = (_to_ants(volume) for volume in (average, scan.volume))
    for kind in ("Affine", "SyN"):
        made, wall, cpu = timed(
            lambda kind=kind: ants.registration(fixed, moving, type_of_transform=kind, random_seed=1)  # type: ignore[misc]
        )
        moved = made["warpedmovout"].numpy()  # type: ignore[index]
        score = f"correlation in the cranium {np.corrcoef(moved[cranium], average.data[cranium])[0, 1]:.3f}"
        rows.append((task if kind == "Affine" else TASK_WARP, f"ANTsPy {version}, {kind}", wall, cpu, score))
    matrix = found.matrix  # type: ignore[attr-defined]
    warp, wall, cpu = timed(lambda: registration.register_deformable(average, scan.volume, matrix))
    moved = resampling.resample(scan.volume, average.grid, warp)  # type: ignore[arg-type]
    score = f"correlation in the cranium {np.corrcoef(moved[cranium], average.data[cranium])[0, 1]:.3f}"
    rows.append((TASK_WARP, "efface (greedy), from its affine", wall, cpu, score))
    return rows


def _to_ants(volume: "registration.Volume") -> object:
    import ants

    image = registration._to_sitk(volume)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return ants.from_numpy(volume.data, image.GetOrigin(), image.GetSpacing(), direction)


def pydeface() -> list[Row]:
    if shutil.which("flirt") is None:
        return [("pydeface", "pydeface", "–", "–", "skipped: FSL's flirt is not on PATH")]
    return [("pydeface", "pydeface", "–", "–", "see validation/pydeface_reference.py")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mm", type=float, default=1.0)
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = make_cohort(Path(name, "people"), people=1, sessions=1, mm=options.mm)
        scan = load_scan(find_scans(root)[0].path)
        rows = deepbet(scan)
        anatomy = HeadAnatomy(scan)
        assert anatomy.head.any()
        assert anatomy.brain_distance_mm.size
        rows += quickshear(anatomy, Path(name))
        rows += affine(scan)
        rows += pydeface()
    made = table(HEADER, rows)
    print(made)
    if options.write:
        put(options.write, "peers", made)


if __name__ == "__main__":
    main()
