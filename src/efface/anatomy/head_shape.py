"""The outer shape of a head: signed distances to its skin, on any grid, with mouth and nostrils closed."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.spatial.affine import invert
from efface.spatial.masks import distance_mm, largest_component
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume

OPENING_MM = 4.0
"""Nostrils, the mouth and ears' canals up to twice this width are closed."""
NEAR_VOX = 1.25
"""So near the skin, intensities say where between two voxels it is."""
SMOOTHING_VOX = 0.7


def outer(tissue: BoolVolume, mm: float) -> BoolVolume:
    """The inside of a head: its largest piece of tissue with what that encloses, narrow openings closed.

    Parameters
    ----------
    tissue
        Shape (x, y, z).
    mm
        Voxel edge length.
    """
    steps = max(1, round(OPENING_MM / mm))
    # Tissue goes on beyond the borders, so that the neck is not hollowed out from below.
    padded = np.pad(largest_component(tissue), steps, mode="edge")
    closed = ndimage.binary_closing(padded, iterations=steps) | padded
    inside = closed[(slice(steps, -steps),) * 3]
    for axis in range(3):
        inside = _filled(inside, axis)
    return np.asarray(inside, dtype=np.bool_)


def _filled(mask: BoolVolume, axis: int) -> BoolVolume:
    """A mask without holes in its slices along an axis."""
    slices = np.moveaxis(mask, axis, 0)
    return np.moveaxis(np.stack([ndimage.binary_fill_holes(part) for part in slices]), 0, axis)


def signed_mm(inside: BoolVolume, mm: float) -> NDArray[np.float64]:
    """Signed distance of voxels' centres to the faces of a mask's outermost voxels, positive inside, mm."""
    spacing = np.full(3, mm)
    signed = distance_mm(inside, spacing) - distance_mm(~inside, spacing)
    return np.asarray(signed - np.sign(signed) * mm / 2, dtype=np.float64)


def skin_distance(smooth: Volume, threshold: float, grid: Grid, to_volume: Affine) -> FloatVolume:
    """Signed distance to the skin of a scan on a grid of cubic voxels, positive inside the head, mm.

    Parameters
    ----------
    smooth
        A head with dark air at 0, as `efface.anatomy.skin.smoothed` gives it.
    threshold
        Intensity at the skin, see `efface.anatomy.skin.skin_threshold`.
    grid
        Where to find it; the head's largest piece in this grid counts.
    to_volume
        Grid mm to scan mm, rigid, shape (4, 4).
    """
    mm = float(grid.spacing_mm[0])
    matrix = invert(smooth.affine) @ to_volume @ grid.affine
    values = ndimage.affine_transform(smooth.data, matrix[:3, :3], matrix[:3, 3], grid.shape, order=1, mode="nearest")
    above = values.astype(np.float32) - np.float32(threshold)
    signed = signed_mm(outer(above >= 0, mm), mm)
    slope = np.linalg.norm(np.gradient(above, mm), axis=0)
    exact = above / np.maximum(slope, 1e-3 * threshold)
    near = (np.abs(signed) < NEAR_VOX * mm) & (np.sign(exact) == np.sign(signed))
    signed[near] = np.clip(exact[near], signed[near] - mm, signed[near] + mm)
    return np.asarray(ndimage.gaussian_filter(signed.astype(np.float32), SMOOTHING_VOX), dtype=np.float32)
