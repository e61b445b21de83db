"""Edits that go wrong in known ways, for a reader and for the quality check (`validation/qc_agreement.py`).

    python validation/wrong_edits.py make OUT HEADS --cache DIR
    python validation/qc_agreement.py sheets SHEETS OUT/* --cache DIR
    python validation/wrong_edits.py compare OUT HEADS --cache DIR --sheets SHEETS --votes VOTES --table FILE.tsv

For every head nine edits, each of a method drawn at random, in studies of their own (OUT/posed-1, ...):

posed      the method is given a pose of the average head that is off: turned (9 degrees an axis) and shifted (12 mm)
half       what is edited on one side of a plane through the face only: right, left, upper or lower
kept       nose, mouth, eyes or one eye are put back, with what surrounds them
thin       the outermost millimetres of the edit only, so that a part of the relief stays
brain      the method is given a brain mask that is too large, too small, or lost a lobe
behind     the edit is mirrored to the back of the head, and what is left of the face depends on the method

No edit is protected. What went wrong is in the recipe beside the defaced scan, and is shown to no reader. VOTES has a
line for each picture of the sheets: its name, and r (the face can be recognised), n (it cannot) or u (unsure). The rule
was chosen on the heads of `CHOSEN_ON`; the others were kept for the end.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from qc_agreement import describe, keep, moved
from qc_validation import cached_anatomy
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.landmarks import find_landmarks
from efface.bids.derivatives import UnitPaths
from efface.bids.query import T1wScan, find_scans
from efface.defacing import Edit, apply_edit, plan
from efface.errors import EffaceError
from efface.io.scan import Scan, load_scan
from efface.quality import Judge
from efface.quality.face import HALF
from efface.spatial.affine import apply_affine, invert
from efface.spatial.masks import distance_mm
from efface.study.provenance import write_recipe

POSED_BY = ("pydeface", "mri_deface", "fsl_deface", "quickshear", "mri_reface")
CUT_BY = ("pydeface", "mri_deface", "fsl_deface", "quickshear")
BRAIN_BY = ("quickshear", "mri_deface")
TURN_DEG, SHIFT_MM = 9.0, 12.0
MIDDLE_MM = (0.0, -55.0)
"""Average head x and z: where halves are cut, about."""
AROUND_MM = {"eyes": 14.0, "nose": 12.0, "mouth": 12.0, "one eye": 14.0}
THIN_MM = 4.0
SEED = 20263
CHOSEN_ON = tuple(f"sub-{name}" for name in ("01", "03", "05", "07", "09", "11", "13", "15", "17", "child"))
KINDS = ("posed-1", "posed-2", "half-1", "half-2", "kept-1", "kept-2", "brain", "behind", "thin")


def draw(rng: np.random.Generator, kind: str, anatomy: HeadAnatomy) -> tuple[str, HeadAnatomy, dict]:
    """The method, what it believes of the head, and what is told of that."""
    if kind == "posed":
        off = np.eye(4)
        off[:3, :3] = Rotation.from_rotvec(rng.normal(0, TURN_DEG, 3), degrees=True).as_matrix()
        off[:3, 3] = rng.normal(0, SHIFT_MM, 3)
        wrong = HeadAnatomy(anatomy.scan, anatomy.brain, registration=moved(anatomy.registration, off))
        wrong.registration_mi = moved(anatomy.registration_mi, off)
        return str(rng.choice(POSED_BY)), wrong, {"average_head_off_by": off.tolist()}
    if kind == "brain":
        how = str(rng.choice(["grown", "shrunk", "without a lobe"]))
        return str(rng.choice(BRAIN_BY)), HeadAnatomy(anatomy.scan, bad_brain(anatomy, how, rng)), {"brain": how}
    return str(rng.choice(CUT_BY)), anatomy, {}


def bad_brain(anatomy: HeadAnatomy, how: str, rng: np.random.Generator) -> np.ndarray:
    """A brain mask that is off."""
    brain, spacing = anatomy.brain, anatomy.scan.spacing_mm
    if how == "grown":
        return distance_mm(~brain, spacing) <= rng.uniform(10, 25)
    if how == "shrunk":
        return distance_mm(brain, spacing) > rng.uniform(6, 14)
    at = upright(anatomy)
    top = at[..., 1][brain].max() - rng.uniform(15, 35)
    return brain & (at[..., 1] < top)


def upright(anatomy: HeadAnatomy) -> np.ndarray:
    """Average head mm of every voxel, shape (x, y, z, 3)."""
    index = np.moveaxis(np.indices(anatomy.scan.shape), 0, -1)
    return apply_affine(invert(anatomy.average_to_scan) @ anatomy.scan.affine, index)


def spoil(anatomy: HeadAnatomy, edit: Edit, kind: str, rng: np.random.Generator) -> tuple[Edit, dict]:
    """The edit, changed; and how."""
    at = upright(anatomy)
    x, z = at[..., 0], at[..., 2]
    if kind == "half":
        side = str(rng.choice(["right", "left", "upper", "lower"]))
        cut = float(rng.normal(0, 6))
        part = {"right": x > MIDDLE_MM[0] + cut, "left": x < MIDDLE_MM[0] + cut,
                "upper": z > MIDDLE_MM[1] + cut, "lower": z < MIDDLE_MM[1] + cut}[side]  # fmt: skip
        return masked(edit, edit.mask & part), {"edited": side, "off_mm": cut}
    if kind == "kept":
        what = str(rng.choice(list(AROUND_MM)))
        wide = float(rng.uniform(0.7, 1.6)) * AROUND_MM[what]
        there = np.zeros(edit.mask.shape, np.bool_)
        for mark in find_landmarks(anatomy.scan.volume):
            side = apply_affine(invert(anatomy.average_to_scan), np.array(mark.centre_mm))[0] > 0
            if mark.name == what or (what == "one eye" and mark.name == "eyes" and side):
                box, voxels = mark.voxels(anatomy.scan.grid)
                there[box] |= voxels
        near = distance_mm(~there, anatomy.scan.spacing_mm) <= wide
        return masked(edit, edit.mask & ~near), {"kept": what, "around_mm": wide}
    if kind == "thin":
        depth = float(rng.uniform(1, THIN_MM))
        skin = distance_mm(anatomy.head, anatomy.scan.spacing_mm) <= depth
        return masked(edit, edit.mask & (skin | ~anatomy.head)), {"depth_mm": depth}
    turned = np.diag([1.0, -1.0, 1.0, 1.0])
    turned[1, 3] = -2 * 20.0  # about the middle of the average head
    voxel = invert(anatomy.scan.affine) @ anatomy.average_to_scan @ turned @ invert(anatomy.average_to_scan)
    matrix = voxel @ anatomy.scan.affine
    mask = ndimage.affine_transform(
        edit.mask.astype(np.float32), matrix[:3, :3], matrix[:3, 3], edit.mask.shape, order=1
    )
    return masked(edit, mask > 0.5), {"mirrored": "front to back"}


def masked(edit: Edit, mask: np.ndarray) -> Edit:
    """Another mask, with the air of the scan."""
    return replace(edit, mask=np.ascontiguousarray(mask), values=float(np.min(edit.values)))


def make(out: Path, source: T1wScan, anatomy: HeadAnatomy, kind: str) -> None:
    """One wrong edit of a head."""
    rng = np.random.default_rng([SEED, anatomy.scan.seed, KINDS.index(kind)])
    how = kind.split("-")[0]
    method, believed, about = draw(rng, how, anatomy)
    if how in ("posed", "brain"):
        keep(source, anatomy, believed, method, out / kind, about, protect_brain=False)
        return
    paths = UnitPaths(out / kind, source.subject, source.session, source.stem)
    (paths.folder / "anat").mkdir(parents=True, exist_ok=True)
    anatomy.scan.save_like(anatomy.brain, paths.brain(), force=True)
    try:
        edit, about = spoil(anatomy, plan(anatomy, method, protect_brain=False), how, rng)
    except EffaceError as error:
        print(source.stem, kind, method, error)
        return
    anatomy.scan.save_like(edit.mask, paths.mask(method), force=True)
    apply_edit(anatomy.scan, edit).save(paths.defaced(method), force=True)
    write_recipe(paths.defaced(method), {"method": method, **about}, Sources=[str(source.path)],
                 Implementation="native", Parameters=dict(edit.params), Warnings=[])  # fmt: skip


def compare(out: Path, heads: Path, cache: Path, sheets: Path, votes: Path, table: Path) -> None:
    """Judge every edit of which a reader said something, write a row for each, and count."""
    said = dict(line.split()[:2] for line in votes.read_text().splitlines() if line.strip())
    shown = json.loads((sheets / "key.json").read_text())
    cases = {(study, case): vote for name, vote in said.items() for study, case in shown[name]}
    rows = []
    for source in find_scans(heads, validate=False):
        judge = Judge(cached_anatomy(load_scan(source.path), source.stem, cache))
        for (kind, case), vote in cases.items():
            subject, method = case.split("_desc-")
            if subject == f"sub-{source.subject.removeprefix('sub-')}":
                after = load_scan(UnitPaths(out / kind, source.subject, source.session, source.stem).defaced(method))
                rows.append({"head": subject, "kind": kind, "method": method, "reader": vote, **judged(judge, after)})
    frame = pd.DataFrame(rows)
    frame.to_csv(table, sep="\t", index=False, na_rep="n/a", float_format="%.3f")
    for what, part in (("chosen on", frame[frame["head"].isin(CHOSEN_ON)]),
                       ("kept", frame[~frame["head"].isin(CHOSEN_ON)])):  # fmt: skip
        for vote, group in part.groupby("reader"):
            print(f"{what}: {vote} {len(group)}, called a face {(group.face_score > HALF).sum()}")


def judged(judge: Judge, after: Scan) -> dict[str, object]:
    """What the quality check says of an edit."""
    try:
        found = judge.verdict(after)
    except EffaceError as error:
        return {"verdict": "none", "face_score": np.nan, "by": str(error), "brain_damaged_ml": np.nan}
    return {"verdict": str(found.verdict), "face_score": found.face.score, "by": found.face.by,
            "brain_damaged_ml": found.brain.damaged_ml}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("make", "compare"):
        command = commands.add_parser(name)
        command.add_argument("out", type=Path)
        command.add_argument("heads", type=Path)
        command.add_argument("--cache", type=Path, required=True)
    for option in ("--sheets", "--votes", "--table"):
        command.add_argument(option, type=Path, required=True)
    options = parser.parse_args()
    heads = options.heads.resolve()
    if options.command == "compare":
        compare(options.out, heads, options.cache, options.sheets, options.votes, options.table)
        return
    for kind in KINDS:
        describe(options.out / kind, heads, POSED_BY, "wrong edits", protect_brain=False)
    for source in find_scans(heads, validate=False):
        anatomy = cached_anatomy(load_scan(source.path), source.stem, options.cache)
        for kind in KINDS:
            make(options.out, source, anatomy, kind)
        print(source.stem, flush=True)


if __name__ == "__main__":
    main()
