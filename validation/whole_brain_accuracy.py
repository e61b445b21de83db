"""SLANT on people whom its network has not seen: Dice with reference labels, and between two scans of a person.

    python validation/whole_brain_accuracy.py BRAINS HEADS OUT [NAME=VALUE ...]

BRAINS is a BIDS folder of stripped brains with ``derivatives/manual``, HEADS one of heads with ``derivatives/dlmuse``.
The scans are those that the model card of the weights in use names as held out. Parameters of the segmenter may be
given, for example ``mirror=yes``. OUT keeps the labels of each scan, and a second run reads them there; it gets
``labels.tsv`` too, the Dice of every label of every scan.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.io.label_images import load_labels
from efface.io.scan import Scan, load_scan
from efface.metrics.dice import Overlap, compare_labels
from efface.parameters import pairs_to_mapping
from efface.segmentation import segment
from efface.segmentation.labels import LABEL_IDS, REGION_NAMES
from efface.segmentation.slant.weights_folder import EMBEDDED_WHOLE_BRAIN
from efface.segmentation.slant.whole_weights import read_whole_card
from efface.spatial.affine import apply_affine
from efface.spatial.point_sampling import sample_labels
from efface.spatial.registration import register_affine
from efface.spatial.types import LabelVolume

ROWS = ("mean of 132 labels", "whole brain", *REGION_NAMES, "other")


def files_of(name: str, folders: dict[str, Path]) -> tuple[Path, Path]:
    """Scan and reference labels of a name on the card, such as ``manual_sub-1005_ses-1``."""
    kind, *parts = name.split("_")
    folder = Path(*parts, "anat")
    stem = "_".join(parts)
    labels = folders[kind] / "derivatives" / kind / folder / f"{stem}_desc-{kind}_dseg.nii.gz"
    return folders[kind] / folder / f"{stem}_T1w.nii.gz", labels


def reference(path: Path) -> LabelVolume:
    """Reference labels on the scan's RAS+ grid; what is none of the 132 is background."""
    stored, affine = load_labels(path)
    ids = np.asarray(nib.as_closest_canonical(nib.Nifti1Image(stored, affine)).dataobj, dtype=np.int32)
    return np.where(np.isin(ids, LABEL_IDS), ids, 0).astype(np.int32)


def segmented(path: Path, out: Path, params: dict[str, str]) -> LabelVolume:
    """Labels of a scan, from OUT if they are there."""
    kept = out / f"{path.name.split('.')[0]}.npz"
    if not kept.exists():
        np.savez_compressed(kept, v=segment(HeadAnatomy(load_scan(path)), "slant", params).values.astype(np.uint8))
    values: LabelVolume = np.load(kept)["v"].astype(np.int32)
    return values


def dice(a: LabelVolume, b: LabelVolume) -> list[float]:
    """Dice of `ROWS`."""
    return of_rows(compare_labels(a, b))


def of_rows(found: list[Overlap]) -> list[float]:
    """Dice of `ROWS`, of a comparison."""
    by_name = {one.region: one.dice for one in found if one.level != "label"}
    by_name[ROWS[0]] = float(np.nanmean([one.dice for one in found if one.level == "label"]))
    return [by_name[row] for row in ROWS]


def moved(labels: LabelVolume, scan: Scan, onto: Scan, to_scan: np.ndarray) -> LabelVolume:
    """Labels of a scan on the grid of another scan of the person."""
    points = apply_affine(to_scan @ onto.affine, np.argwhere(np.ones(onto.shape, dtype=np.bool_)))
    return sample_labels(labels, scan.affine, points).reshape(onto.shape)


def rigid(first: Scan, second: Scan) -> np.ndarray:
    """First to second mm, by the brains."""
    brains = [np.asarray(ndimage.binary_fill_holes(scan.data > 0)) for scan in (first, second)]
    centres = [
        apply_affine(scan.affine, np.argwhere(brain)).mean(axis=0)
        for scan, brain in zip((first, second), brains, strict=True)
    ]
    start = np.eye(4)
    start[:3, 3] = centres[1] - centres[0]
    found = register_affine(first.volume, second.volume, dof=6, weight=brains[0], initial=start, finest_mm=1.0)
    assert found.converged, found.reason
    return found.matrix


def table(title: str, columns: dict[str, list[float]]) -> None:
    print(f"\n{title}\n\n| region | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for number, row in enumerate(ROWS):
        print(f"| {row} | {' | '.join(f'{values[number]:.3f}' for values in columns.values())} |", flush=True)


def main(brains: Path, heads: Path, out: Path, params: dict[str, str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    folders = {"manual": brains, "dlmuse": heads}
    held = read_whole_card(Path(params.get("compact") or EMBEDDED_WHOLE_BRAIN))[1]["held_out"]
    rows = []
    for kind in folders:
        found = {}
        for name in (name for name in held if name.startswith(kind)):
            scan, labels = files_of(name, folders)
            overlaps = compare_labels(reference(labels), segmented(scan, out, params))
            short = name.split("sub-")[1]
            found[short] = of_rows(overlaps)
            rows += [(kind, short, one.label, one.region, one.dice) for one in overlaps if one.level == "label"]
        table(kind, {"mean": list(np.mean([*found.values()], axis=0)), **found})
    frame = pd.DataFrame(rows, columns=["reference", "scan", "label", "name", "dice"])
    frame.to_csv(out / "labels.tsv", sep="\t", index=False, float_format="%.4f", na_rep="n/a")
    columns = {}
    for second in [name for name in held if name.endswith("_ses-2")]:
        (path_a, labels_a), (path_b, labels_b) = files_of(second[:-1] + "1", folders), files_of(second, folders)
        a, b = load_scan(path_a), load_scan(path_b)
        matrix, person = rigid(a, b), second.split("_")[1]
        columns[f"{person}, raters"] = dice(reference(labels_a), moved(reference(labels_b), b, a, matrix))
        ours = segmented(path_a, out, params), segmented(path_b, out, params)
        columns[f"{person}, SLANT"] = dice(ours[0], moved(ours[1], b, a, matrix))
    table("two scans of a person", columns)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), pairs_to_mapping(sys.argv[4:]))
