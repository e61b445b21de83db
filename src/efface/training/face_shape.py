"""Make the face that `efface.defacing.reshape` gives to everybody: the mean outer surface of label maps of whole heads.

Run: ``efface train face_shape LABEL_MAPS_DIR [--out src/efface/data]``. Every label map with a complete face and chin is
registered to the average head (affine), and the signed distances to its skin, mm, are averaged there. No development
head is among them, and no head of the label maps can be seen in a mean of fourteen.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_shape import signed_mm
from efface.errors import InputError
from efface.spatial.affine import apply_affine
from efface.spatial.masks import largest_component
from efface.spatial.types import BoolVolume, FloatVolume
from efface.training.pose_heads import prepared
from efface.training.priors import save

log = logging.getLogger(__name__)

WORKING_MM = 2.0
REACH_MM = 31.0
"""Farther from the skin, distances are not kept."""
COMPLETE_MM = -126.0
"""Average-head z: a label map without tissue of the neck below it ends in the face."""
NECK = ((-30.0, 30.0), (0.0, 60.0))
"""Average-head x and y where that is looked for, mm."""
OPENING_MM = 4.0
"""Nostrils, the mouth and ears' canals up to this width are closed."""


def outer(tissue: BoolVolume, mm: float) -> BoolVolume:
    """The inside of a head: its tissue with what it encloses, and with narrow openings closed.

    Parameters
    ----------
    tissue
        Shape (x, y, z).
    mm
        Voxel edge length.
    """
    steps = round(OPENING_MM / mm)
    padded = np.pad(largest_component(tissue), steps, mode="edge")
    closed = ndimage.binary_closing(padded, iterations=steps, border_value=0) | padded
    inside = ndimage.binary_fill_holes(closed[(slice(steps, -steps),) * 3])
    return np.asarray(inside, dtype=np.bool_)


def signed_distance(label_map: Path) -> FloatVolume | None:
    """Signed distance to the skin of one head on `templates.PRIOR_GRID`, positive inside, mm; None for half a face."""
    tissues, to_voxels, _ = prepared(label_map)
    signed = signed_mm(outer(tissues > 0, WORKING_MM), WORKING_MM)
    index = np.moveaxis(apply_affine(to_voxels @ templates.PRIOR_GRID.affine, _indices()), -1, 0)
    seen = ndimage.map_coordinates(signed.astype(np.float32), index, order=1, mode="nearest")
    (x0, x1), (y0, y1) = NECK
    mm = apply_affine(templates.PRIOR_GRID.affine, _indices())
    neck = (mm[..., 0] > x0) & (mm[..., 0] < x1) & (mm[..., 1] > y0) & (mm[..., 1] < y1)
    below = neck & (np.abs(mm[..., 2] - COMPLETE_MM) < WORKING_MM) & (np.asarray(index) >= 0).all(axis=0)
    return np.asarray(seen, dtype=np.float32) if below.any() and (seen[below] > 0).mean() > 0.5 else None


def _indices() -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(n) for n in templates.PRIOR_GRID.shape], indexing="ij"), axis=-1)


def mean_shape(label_maps: Sequence[Path]) -> tuple[FloatVolume, int]:
    """Mean signed distance on `templates.PRIOR_GRID`, mm, and of how many heads.

    Raises
    ------
    InputError
        If none of the label maps shows a complete face.
    """
    total, count = np.zeros(templates.PRIOR_GRID.shape, dtype=np.float32), 0
    for path in label_maps:
        signed = signed_distance(path)
        log.info("%s: %s", path.name, "left out: its face is not complete" if signed is None else "taken")
        if signed is not None:
            total += np.clip(signed, -REACH_MM, REACH_MM)
            count += 1
    if not count:
        msg = f"none of {len(label_maps)} label maps shows a complete face; expected heads down to the neck: check them"
        raise InputError(msg)
    return total / np.float32(count), count


def main(argv: Sequence[str] | None = None) -> int:
    """Make the shape from the command line."""
    parser = argparse.ArgumentParser(prog="efface train face_shape", description="Make the face that reshape gives.")
    parser.add_argument("label_maps", type=Path, help="folder of label maps of whole heads, SynthSeg's numbers")
    parser.add_argument("--out", type=Path, default=Path(templates.__file__).parents[1] / "data", help="where it goes")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    shape, count = mean_shape(sorted(options.label_maps.glob("*.nii.gz")))
    log.info("mean of %d heads", count)
    save({"face_shape": np.rint(shape / templates.SHAPE_UNIT_MM).clip(-127, 127).astype(np.int8)}, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
