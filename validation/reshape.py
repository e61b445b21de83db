"""What reshape does to heads, and whether their faces can still be found: ``reshape.py BIDS_DIR [--out TABLE]``.

Of every whole T1w head in BIDS_DIR: seconds after the anatomy, smallest ratio of volumes of the displacement, how far
the face is off the average one before and after, and the volumes of orbit, tongue, jaw and airway (simple shapes on the
average head) after, relative to before. Then an attack by geometry: points of the skin that is left, from a pose of
their own, are laid on the skin of every original by a rigid fit of points to surfaces that leaves out the worst 15%. Two
regions: the face, and all that is seen from the front with the forehead. Two scores: the mean distance; and the same,
normalised over all reshaped heads for each original, as someone can who has many.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from efface import defacing
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_shape import skin_distance
from efface.anatomy.skin import GRID_MM, skin_threshold, smoothed
from efface.bids.query import find_scans
from efface.defacing import reshape, reshape_target
from efface.defacing.reshape_target import FRAME, frame_mm, rigid_part
from efface.errors import EffaceError
from efface.io.scan import load_scan
from efface.spatial.affine import apply_affine, invert
from efface.spatial.shape_registration import gradient, volume_ratio
from efface.spatial.types import Volume

REGIONS = {"face": (60.0, 40.0, -108.0, -10.0), "front of the head": (75.0, 10.0, -110.0, 45.0)}
"""Frame mm: to both sides, in front of, and between."""
TRIM, STEPS = 0.85, 15
MM = float(FRAME.spacing_mm[0])


@dataclass(frozen=True, eq=False)
class Measured:
    """One head: the row of the table, and the skin before and after, in frames of their own."""

    row: Mapping[str, float]
    before: np.ndarray
    after: np.ndarray


def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(frame_mm(), centre, radii, strict=True)) < 1


def tissues() -> dict[str, np.ndarray]:
    """Simple shapes on the average head, in its frame."""
    x, y, z = frame_mm()
    deep = reshape_target.average_shape()
    tongue = ball((0, 60, -88), (22, 28, 20))
    throat = (x**2 + (y - 22) ** 2 < 64) & (z > -110) & (z < -55)
    return {
        "orbit": (ball((32, 72, -27), (18, 22, 17)) | ball((-32, 72, -27), (18, 22, 17))) & (deep > 2),
        "tongue": tongue,
        "jaw": (deep > 6) & (deep < 24) & (z > -118) & (z < -84) & (y > 20) & ~tongue,
        "airway": throat | ball((0, 70, -55), (14, 28, 18)),
    }


def measure(anatomy: HeadAnatomy) -> Measured:
    """Reshape one head, by the functions of the method."""
    whole = anatomy.whole
    _ = whole.brain_distance_mm, whole.head, whole.background
    start = time.perf_counter()
    edit = defacing.plan(anatomy, "reshape")
    seconds = time.perf_counter() - start
    changed = defacing.apply_edit(anatomy.scan, edit).data
    shapes = reshape_target.find_shapes(whole, 1.0, (3.0, 3.0 + reshape.TAPER_MM))
    ratio = volume_ratio(reshape.fitted(shapes), MM)
    threshold, matrix = skin_threshold(whole.image), whole.average_to_scan
    after = changed if anatomy.wrap is None else anatomy.wrap.whole(changed)
    result = Volume(whole.background.image(whole.background.signal(after)), whole.scan.affine)
    row = {"seconds": seconds, "least_ratio": float(ratio.min())}
    for name, volume in (("before", whole.image), ("after", result)):
        smooth = smoothed(volume, GRID_MM)
        own = skin_distance(smooth, threshold, FRAME, reshape_target.face_pose(smooth, threshold, matrix))
        average = reshape_target.average_shape()
        off = np.abs(own - average)[(np.abs(average) < MM / 2) & reshape_target.core()]
        row |= {f"off_{name}_mm": float(np.median(off)), f"off_{name}_p90_mm": float(np.percentile(off, 90))}
    row |= {f"{name}_kept": float(mask.sum() / ratio[mask].sum()) for name, mask in tissues().items()}
    skins = [
        skin_distance(smoothed(volume, GRID_MM), threshold, FRAME, rigid_part(matrix))
        for volume in (whole.image, result)
    ]
    return Measured(row, *skins)


def skin_points(signed: np.ndarray, region: str) -> np.ndarray:
    """Points of the skin that is seen from the front, frame mm, shape (n, 3)."""
    x, y, z = frame_mm()
    side, front, low, high = REGIONS[region]
    first = np.cumsum(signed[:, ::-1] >= 0, axis=1)[:, ::-1] <= 2
    near = (np.abs(signed) < 0.6 * MM) & first & (np.abs(x) < side) & (y > front) & (z > low) & (z < high)
    index = np.argwhere(near)[::2]
    slopes = gradient(signed, MM)[:, *index.T].T
    slopes /= np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 0.3)
    return apply_affine(FRAME.affine, index) - slopes * signed[tuple(index.T)][:, None]


def distance(points: np.ndarray, signed: np.ndarray, slopes: np.ndarray) -> float:
    """Mean distance of the nearest `TRIM` of points from a skin after a rigid fit, mm."""
    pose = np.eye(4)
    for step in range(STEPS + 1):
        moved = apply_affine(pose, points)
        where = apply_affine(invert(FRAME.affine), moved).T
        off = ndimage.map_coordinates(signed, where, order=1, mode="nearest")
        near = np.abs(off) <= np.quantile(np.abs(off), TRIM)
        if step == STEPS:
            break
        slope = np.stack([ndimage.map_coordinates(s, where[:, near], order=1, mode="nearest") for s in slopes], axis=1)
        centre = moved.mean(axis=0)
        rows = np.hstack([np.cross(moved[near] - centre, slope), slope])
        normal = rows.T @ rows + 1e-4 * len(rows) * np.diag([100.0] * 3 + [1.0] * 3)
        pose = reshape_target._small_motion(-np.linalg.solve(normal, rows.T @ off[near]), centre) @ pose
    return float(np.abs(off[near]).mean())


def attack(probes: list[np.ndarray], gallery: list[np.ndarray], region: str) -> np.ndarray:
    """Distance of every probe from every original, shape (n, n)."""
    slopes = [gradient(signed, MM) for signed in gallery]
    table = np.empty((len(probes), len(gallery)))
    for row, probe in zip(table, probes, strict=True):
        points = skin_points(probe, region)
        row[:] = [distance(points, skin, slope) for skin, slope in zip(gallery, slopes, strict=True)]
    return table


def described(distances: np.ndarray) -> str:
    """Rank 1 and AUC with its bootstrap interval."""
    others = ~np.eye(len(distances), dtype=bool)
    own = np.diag(distances)[:, None]
    wins = ((distances > own) & others).sum(axis=1) / others.sum(axis=1)
    first = int((distances.argmin(axis=1) == np.arange(len(distances))).sum())
    rng = np.random.default_rng(0)
    low, high = np.percentile([rng.choice(wins, wins.size).mean() for _ in range(2000)], (2.5, 97.5))
    return f"rank 1: {first} of {len(distances)}; AUC {wins.mean():.2f} ({low:.2f} to {high:.2f})"


def heads(bids_dir: Path) -> Iterator[tuple[str, HeadAnatomy]]:
    for scan in find_scans(bids_dir):
        yield scan.path.name, HeadAnatomy(load_scan(scan.path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("reshape.tsv"))
    options = parser.parse_args()
    found: dict[str, Measured] = {}
    for name, anatomy in heads(options.bids_dir):
        try:
            found[name] = measure(anatomy)
        except EffaceError as error:
            print(f"{name}\trefused: {error}", flush=True)
            continue
        print(name, *(f"{key} {value:.2f}" for key, value in found[name].row.items()), sep="\t", flush=True)
    columns = list(next(iter(found.values())).row)
    lines = ["\t".join(["scan", *columns])]
    lines += ["\t".join([name, *(f"{one.row[c]:.3f}" for c in columns)]) for name, one in found.items()]
    options.out.write_text("\n".join(lines) + "\n")
    gallery = [one.before for one in found.values()]
    for region in REGIONS:
        for state in ("before", "after"):
            table = attack([getattr(one, state) for one in found.values()], gallery, region)
            normalised = (table - table.mean(axis=0)) / table.std(axis=0)
            print(f"{region}, {state}: {described(table)}", flush=True)
            print(f"{region}, {state}, normalised over the cohort: {described(normalised)}", flush=True)


if __name__ == "__main__":
    main()
