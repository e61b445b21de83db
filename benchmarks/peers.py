"""efface beside its peers on one virtual person: the same task, one core, wall and processor seconds, and how well.

``python benchmarks/peers.py [--mm 1] [--write PAGE]``: quickshear (PyPI) with the same brain mask; deepbet
alone; pydeface where FSL's flirt is; and for registration of the average head to the scan, ANTsPy's affine and SyN.
niimath carries the same average face mask to the scan as efface's pydeface does (``--scans FILE ...``: to these, and
nothing else is measured). A peer that is not installed is skipped with the reason: ``pip install quickshear antspyx
niimath``; efface needs none of them.

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
from efface.spatial._greedy import to_sitk

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


def niimath(scan: Scan, folder: Path, name: str) -> list[Row]:
    """Deface by the average head's face mask, both from the file's intensities to the defaced voxels."""
    task = f"defacing by the average head's face mask, {name}"
    made, wall, cpu = timed(lambda: _Defaced(scan))
    mask: np.ndarray = made.mask  # type: ignore[attr-defined]
    brain, head = (getattr(made.anatomy, part) for part in ("brain", "head"))  # type: ignore[attr-defined]
    ml = float(np.prod(scan.spacing_mm)) / 1000
    said = (
        f"changes {np.count_nonzero(mask & head) * ml:.0f} ml of the head, {(mask & brain).sum() * ml:.1f} ml of brain"
    )
    ours = "efface pydeface (pose with its checks, brain mask, protection; in memory)"
    rows: list[Row] = [(task, ours, wall, cpu, said)]
    program = shutil.which("niimath")
    if program is None:
        return [*rows, (task, "niimath -deface", "–", "–", "skipped: not on PATH (pip install niimath)")]
    image = nib.Nifti1Image(scan.data, scan.affine)
    nib.save(image, folder / "in.nii.gz")
    files = [str(templates.data_file("pydeface", f"data/{part}.nii.gz")) for part in ("mean_reg2mean", "facemask")]
    words = [program, "in.nii.gz", "-deface", *files, "out.nii.gz"]
    _, wall, cpu = timed(lambda: subprocess.run(words, cwd=folder, check=True, capture_output=True))
    after = np.asarray(nib.load(folder / "out.nii.gz").dataobj)
    theirs = (after == 0) & (scan.data != 0)
    overlap = 2 * (theirs & mask & head).sum() / max((theirs & head).sum() + (mask & head).sum(), 1)
    said = (
        f"changes {(theirs & head).sum() * ml:.0f} ml of the head, {(theirs & brain).sum() * ml:.1f} ml of brain; "
        f"Dice with efface's in the head {overlap:.2f}; nothing says whether the registration is right"
    )
    version = subprocess.run([program, "--version"], check=False, capture_output=True, text=True).stdout.split("\n")[0]
    number = next((word for word in version.split() if word.startswith("v1")), "")
    return [*rows, (task, f"niimath {number} -deface (a command: load, write)", wall, cpu, said)]


class _Defaced:
    """A scan that efface defaced, and what it knows of it."""

    def __init__(self, scan: Scan) -> None:
        self.anatomy = HeadAnatomy(scan)
        edit = plan(self.anatomy, "pydeface")
        self.scan = apply_edit(scan, edit)
        self.mask = edit.mask


def _to_ants(volume: "registration.Volume") -> object:
    import ants

    image = to_sitk(volume)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return ants.from_numpy(volume.data, image.GetOrigin(), image.GetSpacing(), direction)


def pydeface() -> list[Row]:
    if shutil.which("flirt") is None:
        return [("pydeface", "pydeface", "–", "–", "skipped: FSL's flirt is not on PATH")]
    return [("pydeface", "pydeface", "–", "–", "see validation/pydeface_reference.py")]


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mm", type=float, default=1.0)
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    parser.add_argument("--scans", type=Path, nargs="*", help="measure niimath and efface on these heads only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.scans:
            rows = [row for path in options.scans for row in niimath(load_scan(path), Path(name), _stem(path))]
            print(table(HEADER, rows))
            return
        root = make_cohort(Path(name, "people"), people=1, sessions=1, mm=options.mm)
        scan = load_scan(find_scans(root)[0].path)
        rows = deepbet(scan)
        anatomy = HeadAnatomy(scan)
        assert anatomy.head.any()
        assert anatomy.brain_distance_mm.size
        rows += quickshear(anatomy, Path(name))
        rows += affine(scan)
        rows += pydeface()
        rows += niimath(scan, Path(name), "the virtual person")
    made = table(HEADER, rows)
    print(made)
    if options.write:
        put(options.write, "peers", made)


if __name__ == "__main__":
    main()
