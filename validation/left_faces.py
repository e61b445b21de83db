"""How well the check of one image alone (`efface audit`) tells faces that are left: heads it was not trained on.

    python validation/left_faces.py examples EXAMPLES HEAD.nii.gz [HEAD.nii.gz ...] [--label-maps MAP.nii.gz ...]
    python validation/left_faces.py judge EXAMPLES TABLE.tsv [--folds N]

The first makes, of every head, the reliefs of the original, of what six methods leave, and of edits of known truth
(`efface.training.left_face_examples`); label maps of whole heads are made into T1-weighted images first. The second
trains the network without one head after the other (or without the N-th part of the heads), and judges those left out:
one row an image. All images of one person are left out together. A person is what is before the first ``_`` of a name.
"""

import argparse
import pickle
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import rankdata

from efface.defacing import METHODS
from efface.errors import EffaceError
from efface.io.scan import Scan, load_scan
from efface.quality.face_parts import PARTS
from efface.quality.left_face import LEFT_LOGIT
from efface.quality.relief_network import part_logits
from efface.spatial.resampling import resample
from efface.spatial.types import BoolVolume, Grid, Volume
from efface.training.left_face import UNKNOWN, load_examples, train
from efface.training.left_face_examples import examples

QUICK = ("quickshear", "pydeface", "fsl_deface", "defacer")
"""Methods for label maps: those that need no texture."""
MM = 2.0
WHITE, CSF = (2, 41, 7, 46, 16, 28, 60), (24, 4, 43, 14, 15)
LEVELS = {0: 0, 507: 130, 511: 40, 515: 35, 516: 50, 506: 45, 508: 90, 509: 8, 502: 60, 530: 90, 512: 90, 514: 70}
"""T1-weighted intensities of what is outside the brain (507 is soft tissue, 515 bone, 509 and 516 mostly air)."""


def make(folder: Path, heads: list[Path], maps: list[Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*heads, *maps]:
        name = path.name.split(".")[0] if path in heads else f"map-{path.name.split('.')[0]}_labels".replace("_seg_", "")
        if (folder / f"{name}.pkl").exists():
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        try:
            scan, brain = (load_scan(path), None) if path in heads else head_of_labels(path, rng)
            made = examples(scan, tuple(METHODS) if path in heads else QUICK, rng, brain)
        except EffaceError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        rows = [
            {
                "person": name.split("_")[0], "state": e.state, "kind": e.kind, "truth": dict(e.truth),
                "success": e.success, "depth": e.relief.depth.astype(np.float32),
                "first_seen": e.relief.first_seen.astype(np.float32),
            }
            for e in made
        ]  # fmt: skip
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(rows))
        print(name, len(rows), flush=True)


def head_of_labels(path: Path, rng: np.random.Generator) -> tuple[Scan, BoolVolume]:
    """A T1-weighted head of a label map, 2 mm, with uneven soft tissue and Rician noise; and its brain."""
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.asarray(image.dataobj).astype(int)
    values = np.zeros(labels.shape, np.float32)
    for label in np.unique(labels):
        level = LEVELS.get(label, 150 if label in WHITE else 35 if label in CSF else 108)
        values[labels == label] = level * rng.uniform(0.9, 1.1)
    uneven = 1 + 0.25 * ndimage.zoom(rng.standard_normal([n // 8 for n in labels.shape]), 8, order=1)
    values = ndimage.gaussian_filter(np.where(labels == 507, values * uneven.clip(0.5, 1.5), values), 0.8)
    x, y, z = (int(n / MM) for n in labels.shape)
    grid = Grid((x, y, z), image.affine @ np.diag([MM, MM, MM, 1]))
    head = resample(Volume(values.astype(np.float32), image.affine), grid)
    inside = ((labels > 0) & (labels < 500) & (labels != 24)).astype(np.float32)
    noisy = np.hypot(head + rng.normal(0, 4, head.shape), rng.normal(0, 4, head.shape))
    brain = resample(Volume(inside, image.affine), grid) > 0.5
    return load_scan(nib.Nifti1Image(np.rint(noisy).astype(np.int16), grid.affine)), brain


def judge(folder: Path, table: Path, folds: int | None) -> None:
    reliefs = load_examples(folder)
    people = sorted(set(reliefs.people))
    groups = [{person} for person in people] if folds is None else [set(people[f::folds]) for f in range(folds)]
    logits = np.full((len(reliefs.depths), len(PARTS)), np.nan)
    for number, out in enumerate(groups):
        rows = [i for i, person in enumerate(reliefs.people) if person not in out]
        left_out = [i for i, person in enumerate(reliefs.people) if person in out]
        logits[left_out] = part_logits(reliefs.depths[left_out].astype(np.float64), train(reliefs, rows))
        print(f"{number + 1} of {len(groups)}", file=sys.stderr, flush=True)
    frame = pd.DataFrame({
        "person": reliefs.people, "image": reliefs.images, "state": reliefs.states, "kind": reliefs.kinds,
        "success": reliefs.successes,
    })  # fmt: skip
    for number, part in enumerate(PARTS):
        frame[f"{part} label"] = reliefs.labels[:, number]
        frame[f"{part} logit"] = logits[:, number].round(2)
    frame.to_csv(table, sep="\t", index=False)
    summary(frame)


def summary(frame: pd.DataFrame) -> None:
    """AUROC and misses of each kind of face that is left, against well-defaced images; false alarms of those."""
    labels = frame[[f"{part} label" for part in PARTS]].to_numpy()
    logits = frame[[f"{part} logit" for part in PARTS]].to_numpy()
    frame = frame.assign(
        best=np.where(labels == UNKNOWN, -np.inf, logits).max(axis=1),
        left=(labels == 1).any(axis=1),
        gone=(labels <= 0).all(axis=1) & (labels == 0).any(axis=1),
        contrast=[k.split()[0] if " " in k else i.split("_")[-1] for k, i in zip(frame.kind, frame.image, strict=True)],
        sort=[k.split()[-1] for k in frame.kind],
    )
    clean = frame[frame.gone & frame.success.eq(True) & frame.sort.isin(["defaced", "plane"])]
    print(f"well-defaced images: {len(clean)}; false alarms {np.mean(clean.best >= LEFT_LOGIT):.3f}")
    for by in ("contrast", "state"):
        names = (
            clean[by].str.split().str[-1]
            if by == "contrast"
            else clean[by].str.replace("uni |turned |\\d", "", regex=True)
        )
        for name, part in clean.groupby(names):
            print(f"    {name}: {len(part)}, false alarms {np.mean(part.best >= LEFT_LOGIT):.3f}")
    left = frame[frame.left & ~frame.sort.isin(["defaced", "refaced"])]
    only = left.state.str.extract("only (.*) on", expand=False).fillna("")
    sorts = left.sort.where(left.sort != "single", "only " + only)
    for contrast, of in [("all", left), *left.groupby("contrast")]:
        for sort, rows in of.groupby(sorts.loc[of.index]):
            wanted = np.r_[np.ones(len(rows), bool), np.zeros(len(clean), bool)]
            area = auroc(wanted, np.r_[rows.best, clean.best])
            print(f"{contrast} {sort}: {len(rows)}, AUROC {area:.3f}, missed {np.mean(rows.best < LEFT_LOGIT):.3f}")


def auroc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive has the larger score, ties by half."""
    ranks, count = rankdata(scores), positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("examples")
    maker.add_argument("folder", type=Path)
    maker.add_argument("heads", nargs="*", type=Path)
    maker.add_argument("--label-maps", nargs="*", type=Path, default=[])
    judger = commands.add_parser("judge")
    judger.add_argument("folder", type=Path)
    judger.add_argument("table", type=Path)
    judger.add_argument("--folds", type=int)
    options = parser.parse_args()
    if options.command == "examples":
        make(options.folder, options.heads, options.label_maps)
    else:
        judge(options.folder, options.table, options.folds)
