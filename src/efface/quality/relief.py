"""The relief of a face: how far forward the outermost tissue reaches, seen from the front of a head in a known pose.

All faces are looked at in average-head space, on one grid, so that places on them can be compared. Depths are y of the
average head, in mm; larger is further forward.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.skin import SPECK_ML, smoothed
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import box_corners, covering_box
from efface.spatial.masks import connected_pieces
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Volume

STEP_MM, RAY_MM = 2.0, 1.0
"""Between rays, and along them."""
X_MM, Y_MM, Z_MM = (-70.0, 70.0), (10.0, 140.0), (-130.0, 10.0)
"""What is looked at: average-head mm."""
SKIN_STEP_MM = 1.5
MARGIN_MM = 12.0

Map = NDArray[np.float64]
"""Seen from the front, shape (x, z) along `x_mm()` and `z_mm()`."""


@dataclass(frozen=True, eq=False)
class Relief:
    """The front of a head, or of what defacing left of it.

    Attributes
    ----------
    depth
        Average-head y of the outermost tissue, mm; NaN where a ray meets none.
    first_seen
        Average-head y at which each ray enters the field of view from the front, mm; NaN where it never does.
    """

    depth: Map
    first_seen: Map


def x_mm() -> Map:
    """Average-head x of the rays, shape (x,)."""
    return np.arange(X_MM[0], X_MM[1] + STEP_MM / 2, STEP_MM)


def z_mm() -> Map:
    """Average-head z of the rays, shape (z,)."""
    return np.arange(Z_MM[0], Z_MM[1] + STEP_MM / 2, STEP_MM)


def y_mm() -> Map:
    """Average-head y of the samples along a ray, from the front to the back, shape (y,)."""
    return np.arange(Y_MM[1], Y_MM[0] - RAY_MM / 2, -RAY_MM)


def find_relief(volume: Volume, average_to_scan: Affine, threshold: float) -> Relief:
    """Look at a head from its front.

    Parameters
    ----------
    volume
        With dark air at 0.
    average_to_scan
        Pose of the head, average-head mm to scan mm.
    threshold
        Intensity at the skin.
    """
    points = _points()
    index = apply_affine(invert(volume.affine) @ average_to_scan, points)
    last = np.array(volume.data.shape) - 0.5
    seen: BoolVolume = np.asarray(((index > -0.5) & (index < last)).all(axis=-1), dtype=np.bool_)
    near = _near(volume, average_to_scan)
    grid = smoothed(near, SKIN_STEP_MM)
    tissue = _without_specks(grid, threshold)
    there = np.moveaxis(apply_affine(invert(grid.affine) @ average_to_scan, points), -1, 0)
    values = np.asarray(ndimage.map_coordinates(np.where(tissue, grid.data, 0), there, order=1), dtype=np.float64)
    values[~seen] = 0.0
    return Relief(_first(values, threshold), _first(seen.astype(np.float64), 0.5))


def _points() -> NDArray[np.float64]:
    """Samples along the rays, average-head mm, shape (x, y, z, 3)."""
    return np.stack(np.meshgrid(x_mm(), y_mm(), z_mm(), indexing="ij"), axis=-1)


def _near(volume: Volume, average_to_scan: Affine) -> Volume:
    """The part of a scan that the rays cross."""
    low, high = np.array([X_MM, Y_MM, Z_MM]).T
    corners = apply_affine(invert(volume.affine) @ average_to_scan, box_corners(low, high))
    box = covering_box(corners, volume.data.shape, room_vox=MARGIN_MM / volume.grid.spacing_mm, at_least=2)
    return Volume(volume.data[box], volume.grid.cropped(box).affine)


def _without_specks(grid: Volume, threshold: float) -> BoolVolume:
    """Where tissue is, and one voxel around it; small pieces in the air are noise."""
    labels, sizes = connected_pieces(grid.data >= threshold, corners=True)
    large = sizes * SKIN_STEP_MM**3 / 1000 >= SPECK_ML
    return np.asarray(ndimage.binary_dilation(large[labels], np.ones((3, 3, 3))), dtype=np.bool_)


def _first(values: NDArray[np.float64] | FloatVolume, threshold: float) -> Map:
    """Where each ray first reaches a value, average-head y between its samples; NaN where it does not."""
    above = values >= threshold
    at = above.argmax(axis=1)
    x, z = np.indices(at.shape)
    here, before = values[x, at, z], values[x, np.maximum(at - 1, 0), z]
    part = np.where(at > 0, (here - threshold) / np.maximum(here - before, 1e-9), 0.0).clip(0, 1)
    return np.where(above.any(axis=1), y_mm()[at] + part * RAY_MM, np.nan)
