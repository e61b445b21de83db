"""What reshape does to heads, and attacks that know it: ``reshape.py BIDS_DIR [--out TABLE] [--sessions 3] [--back]``.

``reshape.py BIDS_DIR --frontier 0.25 0.5 0.75 1`` prints what each strength leaves to an attack by the face, and keeps.

Of every whole T1w head in BIDS_DIR: seconds of processor after the anatomy, least ratio of volumes of the displacement,
how far the wanted face is missed by it, and the volumes of orbit, tongue, jaw and airway (simple shapes on the average
head) after, relative to before. With ``--back``, the same volumes by a deformable registration of the reshaped scan to
the original, which knows nothing of the displacement, and how far the two are apart in these shapes (median, mm). Then
attacks, each probe in a pose that is found anew in the reshaped scan:

- *face*: as ``efface privacy`` does with one session, and of the original with noise (control);
- *several sessions*: every head is scanned again on the computer (turned, shifted, resampled, with noise), reshaped each
  time, and the logarithms of the distances are averaged;
- *undone*: the displacement is undone by what it moves least. Below the skin of the face, the border where bright tissue
  ends is followed, in the probe and in every original; these borders are compared instead of the skin that was changed.
"""

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface import defacing
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import smoothed
from efface.bids.query import find_scans
from efface.defacing import reshape, reshape_checks, reshape_target
from efface.defacing.reshape_target import FRAME
from efface.defacing.reshape_tissue import tissues
from efface.errors import EffaceError, one_line
from efface.io.scan import Scan, load_scan
from efface.privacy import geometry
from efface.privacy.closest_fit import Target, misfit_mm
from efface.privacy.controls import noisy
from efface.privacy.placed_head import PlacedHead, place
from efface.privacy.skin_points import SkinPoints
from efface.spatial.affine import apply_affine, invert
from efface.spatial.registration import register_deformable
from efface.spatial.resampling import resample
from efface.spatial.shape_registration import volume_ratio
from efface.spatial.types import Displacement, Volume
from efface.statistics.identification import Identification, identification

MM = float(FRAME.spacing_mm[0])
TURN_DEG, SHIFT_MM, NOISE = 4.0, 5.0, 0.02
"""Standard deviations of what differs in another session; the noise as a share of the bright values."""
BENEATH_MM = np.arange(3.0, 26.0, 0.5)
"""Depths below the skin at which the border of the bright tissue is looked for."""
SHAPES = ("orbit", "tongue", "jaw", "airway")


@dataclass(frozen=True, eq=False)
class Measured:
    """One head: the row of the table, and what attacks keep of it."""

    name: str
    row: dict[str, float] = field(default_factory=dict)
    refused: str = ""
    skin: Target | None = None
    beneath: Target | None = None
    untouched: np.ndarray | None = None
    untouched_beneath: np.ndarray | None = None
    sessions: tuple[np.ndarray, ...] = ()
    session_beneath: np.ndarray | None = None


def reshaped(scan: Scan, strength: float) -> tuple[Scan, HeadAnatomy, float]:
    """The scan with the average face, its anatomy, and seconds of processor after the anatomy."""
    anatomy = HeadAnatomy(scan)
    whole = anatomy.whole
    _ = whole.brain_distance_mm, whole.head, whole.background
    start = time.process_time()
    edit = defacing.plan(anatomy, "reshape", {"strength": strength})
    return defacing.apply_edit(scan, edit), anatomy, time.process_time() - start


def another_session(scan: Scan, number: int) -> Scan:
    """The head in another pose on the same grid, with noise of its own."""
    rng = np.random.default_rng((scan.seed, number))
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", rng.normal(0, TURN_DEG, 3), degrees=True).as_matrix()
    middle = apply_affine(scan.affine, np.array(scan.shape) / 2)
    turn[:3, 3] = middle - turn[:3, :3] @ middle + rng.normal(0, SHIFT_MM, 3)
    matrix = invert(scan.affine) @ turn @ scan.affine
    air = float(np.median(scan.data[:3]))
    data = ndimage.affine_transform(scan.data, matrix[:3, :3], matrix[:3, 3], order=3, mode="constant", cval=air)
    data += NOISE * np.percentile(scan.data, 99) * rng.standard_normal(data.shape)
    return load_scan(nib.Nifti1Image(data.clip(scan.data.min(), scan.data.max()).astype(np.float32), scan.affine))


def beneath(head: PlacedHead) -> SkinPoints:
    """The border below the face's skin at which bright tissue ends: the steepest fall along the normal, upright mm."""
    skin = head.skin
    low, high = np.array(geometry.FACE_LOW_MM), np.array(geometry.FACE_HIGH_MM)
    skin = skin.where(((skin.points >= low) & (skin.points <= high)).all(axis=1) & skin.from_front)
    fine = smoothed(head.image, 1.5)
    points = skin.points[:, None] - BENEATH_MM[None, :, None] * skin.normals[:, None]
    index = apply_affine(invert(fine.affine) @ head.upright_to_scan, points.reshape(-1, 3)).T
    values = ndimage.map_coordinates(fine.data, index, order=1).reshape(len(skin), -1)
    at = np.gradient(values, axis=1).argmin(axis=1)
    return SkinPoints(points[np.arange(len(skin)), at], skin.normals, skin.from_front, skin.in_view)


def kept(displacement: Displacement) -> dict[str, float]:
    """Volume of each of `tissues` after a displacement, relative to before."""
    ratio = volume_ratio(displacement, MM)
    return {name: float(mask.sum() / ratio[mask].sum()) for name, mask in tissues().items()}


def registered_back(shapes: reshape_target.Shapes, before: Scan, after: Scan, applied: Displacement) -> dict[str, float]:
    """Volumes kept by registration of the images, and how far it is from the displacement that was applied."""
    images = [smoothed(Volume(scan.data, scan.affine), MM) for scan in (after, before)]
    frame = [Volume(resample(image, shapes.grid, shapes.to_scan), shapes.grid.affine) for image in images]
    found = register_deformable(*frame, np.eye(4), threads=1).displacement
    apart = np.linalg.norm(found - applied, axis=-1)
    row = {f"{name}_kept_back": share for name, share in kept(found).items()}
    return row | {f"{name}_apart_mm": float(np.median(apart[mask])) for name, mask in tissues().items()}


def measure(job: tuple[Path, int, float, bool]) -> Measured:
    """One head, and its sessions."""
    path, sessions, strength, back = job
    torch.set_num_threads(1)
    scan = load_scan(path)
    try:
        after, anatomy, seconds = reshaped(scan, strength)
    except EffaceError as error:
        return Measured(path.name, refused=one_line(str(error)))
    shapes = reshape_target.find_shapes(anatomy.whole, strength, (3.0, 3.0 + reshape.TAPER_MM))
    displacement = reshape.fitted(shapes)
    ratio = volume_ratio(displacement, MM)
    off = np.abs(reshape_checks.left_over(shapes, displacement))
    row = {"seconds": seconds, "least_ratio": float(ratio.min()), "off_p95_mm": float(np.percentile(off, 95))}
    row |= {f"{name}_kept": share for name, share in kept(displacement).items()}
    if back:
        row |= registered_back(shapes, scan, after, displacement)
    before, untouched, placed = place(scan), place(noisy(scan)), place(after)
    faces = [geometry.face_points(placed)]
    for number in range(1, sessions):
        try:
            faces.append(geometry.face_points(place(reshaped(another_session(scan, number), strength)[0])))
        except EffaceError as error:
            print(path.name, "session", number, one_line(str(error)), flush=True)
    return Measured(
        path.name, row, "", geometry.enrol(before), Target.of(beneath(before)), geometry.face_points(untouched),
        beneath(untouched).points, tuple(face for face in faces if face is not None), beneath(placed).points,
    )  # fmt: skip


def frontier_of(job: tuple[Path, list[float]]) -> Measured:
    """One head at several strengths: its faces as the sessions of `Measured`, and the volumes that are kept."""
    path, strengths = job
    torch.set_num_threads(1)
    anatomy = HeadAnatomy(load_scan(path))
    row, faces = {}, []
    for strength in strengths:
        try:
            edit = defacing.plan(anatomy, "reshape", {"strength": strength})
        except EffaceError as error:
            return Measured(path.name, refused=one_line(str(error)))
        face = geometry.face_points(place(defacing.apply_edit(anatomy.scan, edit)))
        assert face is not None
        faces.append(face)
        shapes = reshape_target.find_shapes(anatomy.whole, strength, (3.0, 3.0 + reshape.TAPER_MM))
        row |= {f"{name} {strength:g}": share for name, share in kept(reshape.fitted(shapes)).items()}
    return Measured(path.name, row, "", geometry.enrol(place(anatomy.scan)), sessions=tuple(faces))


def frontier(jobs: list[tuple[Path, list[float]]], workers: int) -> None:
    """A line for every strength."""
    with ProcessPoolExecutor(workers) as pool:
        measured = list(pool.map(frontier_of, jobs))
    heads = [one for one in measured if not one.refused]
    print("refused:", [f"{one.name}: {one.refused}" for one in measured if one.refused], flush=True)
    for number, strength in enumerate(jobs[0][1]):
        distances = np.array([[misfit_mm(one.sessions[number], other.skin) for other in heads] for one in heads])
        volumes = {name: np.array([one.row[f"{name} {strength:g}"] for one in heads]) for name in SHAPES}
        said = ", ".join(f"{name} {v.min():.2f} ({(v >= 0.95).sum()} of {len(v)})" for name, v in volumes.items())
        print(f"strength {strength:g}: {found(distances)}; least volume kept (at least 95 %): {said}", flush=True)


def found(distances: np.ndarray) -> str:
    """Rank 1 and AUC in words."""
    one: Identification = identification(distances, np.arange(len(distances)), np.ones(len(distances), dtype=bool))
    first = round(one.rank1 * len(distances), 1)
    return f"rank 1: {first:g} of {len(distances)}; AUC {one.auc:.2f} ({one.auc_low:.2f} to {one.auc_high:.2f})"


def attacks(heads: list[Measured]) -> Iterator[tuple[str, str]]:
    """Every attack, and what it found."""

    def against(probe: np.ndarray, name: str) -> list[float]:
        return [misfit_mm(probe, getattr(one, name)) for one in heads]

    yield "face, not reshaped", found(np.array([against(one.untouched, "skin") for one in heads]))
    sessions = [np.log([against(face, "skin") for face in one.sessions]) for one in heads]
    yield "face", found(np.exp(np.array([logs[0] for logs in sessions])))
    yield "face, several sessions", found(np.exp(np.array([logs.mean(axis=0) for logs in sessions])))
    yield "undone, not reshaped", found(np.array([against(one.untouched_beneath, "beneath") for one in heads]))
    yield "undone", found(np.array([against(one.session_beneath, "beneath") for one in heads]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--out", type=Path, default=Path("reshape.tsv"))
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--back", action="store_true")
    parser.add_argument("--frontier", type=float, nargs="+", default=[])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.frontier:
        frontier([(scan.path, options.frontier) for scan in find_scans(options.bids_dir)], options.jobs)
        return
    jobs = [(scan.path, options.sessions, options.strength, options.back) for scan in find_scans(options.bids_dir)]
    heads: list[Measured] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for one in pool.map(measure, jobs):
            said = one.refused or "\t".join(f"{key} {value:.2f}" for key, value in one.row.items())
            print(one.name, said, sep="\t", flush=True)
            heads += [one] if not one.refused else []
    table = pd.DataFrame([one.row for one in heads], index=pd.Index([one.name for one in heads], name="scan"))
    table.to_csv(options.out, sep="\t", float_format="%.3f")
    print(table.describe().loc[["min", "50%", "max"]].round(2).to_string(), flush=True)
    enough = {name: int((table[f"{name}_kept"] >= 0.95).sum()) for name in SHAPES}
    print(f"95 % of the volume kept, of {len(table)}: {enough}", flush=True)
    if options.back:
        enough = {name: int((table[f"{name}_kept_back"] >= 0.95).sum()) for name in SHAPES}
        print(f"the same by registration back: {enough}", flush=True)
    for name, said in attacks(heads):
        print(f"{name}: {said}", flush=True)


if __name__ == "__main__":
    main()
