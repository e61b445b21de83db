"""Volumes of structures that reshape was not told of: ``reshape_labels.py LABEL_MAPS_DIR [--without] [--jobs 2]``.

A T1-like image is drawn of every label map of a whole head that reaches the chin (SynthSeg's numbers), and reshaped.
The labels of that head are then pulled back by the same displacement. Printed are the volumes after, relative to before,
of eyes, bone of the face and mucosa (nose, sinuses, mouth, throat), between brow and chin and in front of the ears.
``--without`` leaves out what keeps volumes. The heads of these label maps are in the mean face that reshape wants; the
shapes whose volume it holds are drawn on the average head by hand.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import reshape, reshape_target
from efface.errors import EffaceError, one_line
from efface.io.scan import load_scan
from efface.spatial.affine import apply_affine, invert
from efface.spatial.shape_registration import register_shapes
from efface.spatial.types import Affine, Displacement
from efface.training.face_shape import signed_distance
from efface.training.pose_heads import CLASSES, registered
from efface.training.pose_synthesis import T1_LIKE, TISSUES

BRAIN = ("white", "grey")
STRUCTURES = {"eyes": ("eyes",), "bone": ("skull", "bone"), "mucosa": ("mucosa",)}
WINDOW = ((-65.0, 65.0), (10.0, 110.0), (-115.0, -5.0))
"""Frame x, y and z between which structures are measured, mm."""


def labels_on_frame(tissues: np.ndarray, affine: Affine, to_scan: Affine, moved: Displacement | None) -> np.ndarray:
    """Tissue of every voxel of the frame, or of where it comes from."""
    frame = reshape_target.FRAME
    points = np.moveaxis(np.indices(frame.shape), 0, -1).astype(float)
    if moved is not None:
        points += moved / frame.spacing_mm
    index = apply_affine(invert(affine) @ to_scan @ frame.affine, points)
    return ndimage.map_coordinates(tissues, np.moveaxis(index, -1, 0), order=0, mode="nearest")


def window() -> np.ndarray:
    """The part of the frame that is measured, with the edges of its structures inside."""
    inside = [(axis > low) & (axis < high) for axis, (low, high) in zip(reshape_target.frame_mm(), WINDOW, strict=True)]
    return inside[0] & inside[1] & inside[2]


def measure(path: Path, without: bool) -> tuple[str, dict[str, float] | str]:
    """Volumes after, relative to before; or why there are none."""
    torch.set_num_threads(1)
    if signed_distance(path) is None:
        return path.name, "its face is not complete"
    tissues, affine, _ = registered(path)
    image = ndimage.gaussian_filter(np.array(T1_LIKE, np.float32)[tissues], 0.8)[::2, ::2, ::2]
    coarse = affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    brain = np.isin(tissues[::2, ::2, ::2], [TISSUES.index(name) for name in BRAIN])
    scan = load_scan(nib.Nifti1Image(image, coarse))
    try:
        anatomy = HeadAnatomy(scan, brain=ndimage.binary_closing(brain, iterations=2))
        shapes = reshape_target.find_shapes(anatomy, 1.0, (3.0, 3.0 + reshape.TAPER_MM))
    except EffaceError as error:
        return path.name, one_line(str(error))
    if without:
        mm = float(shapes.grid.spacing_mm[0])
        steps = reshape.SIGMAS_MM
        found = register_shapes(shapes.wanted, shapes.own, mm, allowed=shapes.allowed, sigmas_mm=steps)
    else:
        found = reshape.fitted(shapes)
    before, after = (labels_on_frame(tissues, affine, shapes.to_scan, moved) for moved in (None, found))
    row = {}
    for name, parts in STRUCTURES.items():
        numbers = [TISSUES.index(part) for part in parts]
        was, is_ = (np.isin(labels, numbers) & window() for labels in (before, after))
        row[name] = float(is_.sum() / was.sum())
    return path.name, row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("label_maps", type=Path)
    parser.add_argument("--without", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    assert set(CLASSES) <= set(TISSUES)
    rows, paths = {}, sorted(options.label_maps.glob("*.nii.gz"))
    with ProcessPoolExecutor(options.jobs) as pool:
        for name, found in pool.map(partial(measure, without=options.without), paths):
            said = found if isinstance(found, str) else "\t".join(f"{key} {share:.2f}" for key, share in found.items())
            print(name, said, sep="\t", flush=True)
            if not isinstance(found, str):
                rows[name] = found
    table = pd.DataFrame(rows).T
    print(table.describe().loc[["count", "min", "50%", "max"]].round(2).to_string())
    print("at least 95 %:", {name: int((table[name] >= 0.95).sum()) for name in table})


if __name__ == "__main__":
    main()
