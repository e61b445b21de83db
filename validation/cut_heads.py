"""Is the pose of a head found where the field of view shows a part of it only, and is it tilted too?

Run: ``python validation/cut_heads.py OUT.tsv BIDS_DIR [BIDS_DIR ...] [--cases 504] [--first 0] [--jobs 2]``.

Every case is a function of its number: a head, a cut, and a tilt of up to 40 degrees, either of the whole scan (an
oblique header) or of the head inside its field of view (resampled). The truth is the pose found in the untouched scan,
moved along. A pose is wrong where it is more than 15 mm (root mean square over the part of the head that is in view)
from the truth. Whether the whole brain is inside is said by the brain mask of the untouched scan.
"""

import argparse
import csv
import pickle
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.errors import EffaceError
from efface.io.scan import load_scan
from efface.spatial.affine import apply_affine, invert
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, Grid, Volume

CUTS = ("vertex", "vertex", "vertex", "chin", "left", "right", "back", "nose", "none")
CHIN_MM = (0.0, 98.0, -128.0)
WRONG_MM = 15.0
RESAMPLED_MM = 1.5


@dataclass(frozen=True)
class Case:
    """One cut head: the scan, the true pose (average-head mm to its mm), and what was done."""

    volume: Volume
    truth: Affine
    brain_inside: bool
    cut: str
    distance_mm: float
    tilt_deg: float


@dataclass(frozen=True)
class Untouched:
    """What is known of the untouched scan."""

    pose: Affine
    head_mm: np.ndarray
    brain_mm: np.ndarray


def untouched(path: Path, cache: Path) -> Untouched:
    """Pose, head and brain of a scan, kept beside the results."""
    kept = cache / f"{path.name}.pickle"
    if not kept.is_file():
        anatomy = HeadAnatomy(load_scan(path))
        affine = anatomy.scan.affine
        found = Untouched(
            anatomy.average_to_scan,
            apply_affine(affine, np.argwhere(anatomy.head)[::7]),
            apply_affine(affine, np.argwhere(anatomy.brain)[::7]),
        )
        kept.write_bytes(pickle.dumps(found))
    return pickle.loads(kept.read_bytes())


def make(volume: Volume, known: Untouched, number: int) -> Case:
    """The case of a number."""
    rng = np.random.default_rng([2026, number])
    cut = str(rng.choice(CUTS))
    axis = rng.normal(size=3)
    tilt = float(rng.choice([0.0, rng.uniform(5, 40)], p=[0.35, 0.65]))
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.deg2rad(tilt) * axis / np.linalg.norm(axis)).as_matrix()
    if tilt and rng.random() < 0.5:
        volume = _resampled(volume, turn)
        truth, seen = turn @ known.pose, turn
    else:
        truth, seen = known.pose, np.eye(4)
    volume, distance = _cut(volume, cut, rng, truth, apply_affine(seen, known.head_mm))
    inside = _inside(volume.grid, apply_affine(seen, known.brain_mm))
    if tilt and np.array_equal(seen, np.eye(4)):
        volume, truth = Volume(volume.data, turn @ volume.affine), turn @ truth
    return Case(volume, truth, bool(inside.mean() > 0.999), cut, distance, tilt)


def _resampled(volume: Volume, turn: Affine) -> Volume:
    """The head turned inside an upright grid of 1.5 mm around it."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.data.shape])).reshape(3, -1).T
    moved = apply_affine(turn @ volume.affine, corners)
    low, high = moved.min(axis=0), moved.max(axis=0)
    x, y, z = (int(n) for n in np.ceil((high - low) / RESAMPLED_MM))
    affine = np.diag([RESAMPLED_MM] * 3 + [1.0])
    affine[:3, 3] = low
    air = float(np.percentile(volume.data, 2))
    return Volume(resample(volume, Grid((x, y, z), affine), invert(turn), fill=air), affine)


def _cut(volume: Volume, cut: str, rng: np.random.Generator, truth: Affine, head: np.ndarray) -> tuple[Volume, float]:
    """Cut along a voxel axis; distances as in the name of the cut."""
    to_voxel = invert(volume.affine)
    index = apply_affine(to_voxel, head)
    low, high = np.percentile(index, 0.1, axis=0), np.percentile(index, 99.9, axis=0)
    spacing = volume.grid.spacing_mm
    box = [slice(0, n) for n in volume.data.shape]
    if cut == "vertex":
        distance = float(rng.uniform(100, 160))
        box[2] = slice(max(0, round(high[2] - distance / spacing[2])), None)
    elif cut == "chin":
        distance = float(rng.uniform(60, 140))
        chin = apply_affine(to_voxel @ truth, np.array(CHIN_MM))
        box[2] = slice(0, max(40, round(chin[2] + distance / spacing[2])))
    elif cut in ("left", "right"):
        distance = float(rng.uniform(5, 45))
        off = distance / spacing[0]
        box[0] = slice(round(low[0] + off), None) if cut == "left" else slice(0, round(high[0] - off))
    elif cut in ("back", "nose"):
        distance = float(rng.uniform(5, 50))
        off = distance / spacing[1]
        box[1] = slice(round(low[1] + off), None) if cut == "back" else slice(0, round(high[1] - off))
    else:
        distance = 0.0
    data = np.ascontiguousarray(volume.data[tuple(box)])
    return Volume(data, volume.grid.cropped(tuple(box)).affine), distance


def _inside(grid: Grid, points: np.ndarray) -> np.ndarray:
    index = apply_affine(invert(grid.affine), points)
    return np.asarray(((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all(axis=1))


def error_mm(case: Case, found: Affine) -> float:
    """Root mean square distance from the truth, over points of the average head's upper part that are in view, mm."""
    average = templates.average_head()
    points = apply_affine(average.affine, np.argwhere(templates.cranium() & (average.data > 20))[::997])
    in_view = points[_inside(case.volume.grid, apply_affine(case.truth, points))]
    chosen = in_view if len(in_view) > 50 else points
    off = apply_affine(found, chosen) - apply_affine(case.truth, chosen)
    return float(np.sqrt((off**2).sum(axis=1).mean()))


def run(job: tuple[Path, Path, int]) -> dict[str, object]:
    """Find the pose of one case."""
    from efface.anatomy.head_pose import find_pose

    path, cache, number = job
    case = make(load_scan(path).volume, untouched(path, cache), number)
    started = time.perf_counter()
    try:
        found = find_pose(case.volume)
        reason, accepted, error = found.reason, found.converged, error_mm(case, found.matrix)
    except EffaceError as problem:
        reason, accepted, error = str(problem), False, float("nan")
    outcome = "refused" if not accepted else "right" if error <= WRONG_MM else "wrong"
    return {
        "case": number,
        "head": path.name,
        "cut": case.cut,
        "distance_mm": round(case.distance_mm),
        "tilt_deg": round(case.tilt_deg),
        "brain_inside": case.brain_inside,
        "outcome": outcome,
        "error_mm": round(error, 1),
        "seconds": round(time.perf_counter() - started, 1),
        "reason": reason,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("bids", type=Path, nargs="+")
    parser.add_argument("--cases", type=int, default=504)
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first case; --cases is one after the last"
    )
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    paths = sorted(p for root in args.bids for p in root.rglob("anat/*_T1w.nii.gz") if "decubitus" not in p.name)
    cache = args.out.parent / "untouched"
    cache.mkdir(parents=True, exist_ok=True)
    jobs = [(paths[number % len(paths)], cache, number) for number in range(args.first, args.cases)]
    rows = []
    with ProcessPoolExecutor(args.jobs) as pool:
        list(pool.map(untouched, paths, [cache] * len(paths)))
        for row in pool.map(run, jobs):
            rows.append(row)
            if row["outcome"] != "right":
                print(row, flush=True)
    with args.out.open("w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    for cut in sorted({str(row["cut"]) for row in rows}):
        summary(cut, [row for row in rows if row["cut"] == cut])
    summary("all", rows)
    summary("all with the whole brain inside", [row for row in rows if row["brain_inside"]])
    sys.exit(any(row["outcome"] == "wrong" for row in rows))


def summary(name: str, rows: list[dict[str, object]]) -> None:
    """One line: how many were right, wrong, refused."""
    count = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("right", "wrong", "refused")}
    print(
        f"{name}: {len(rows)} cases, accepted right {count['right']}, wrong {count['wrong']}, refused {count['refused']}"
    )


if __name__ == "__main__":
    main()
