"""Whether a face is the average head's, as mri_reface leaves it, and not somebody's.

mri_reface lays the average face over a head, bent only as far as the rest of the head asks for. What remains between the
two surfaces is smooth: of a real face, the slopes differ from place to place. And the average face is made of averaged
tissue: a real one has muscle, fat and vessels under its skin.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.anatomy import templates
from efface.quality.relief import Map, Relief, find_relief, x_mm, z_mm
from efface.spatial.affine import apply_affine, invert
from efface.spatial.types import Affine, FloatVolume, Volume

FACE = (40.0, -98.0, -18.0)
"""Average-head mm: how far to both sides, and from the chin to the brows."""
HALF = 0.5
LEAST_SEEN = 0.8
SLOPE_MM = 0.45
"""Largest median difference of slopes, mm for each 2 mm, from the average face."""
SHAPE_MM = 1.1
"""Largest median distance from it after a smooth (quadratic) fit, mm."""
UNIT_MM = 50.0
TEXTURE = 1.08
"""Largest ratio of the texture under the skin to the brain's: 0.7 to 1.0 of what mri_reface left, 1.1 to 3.0 of real
faces, on the development heads."""
UNDER_MM = (4.0, 6.0, 8.0, 10.0, 12.0, 14.0)
"""So deep under the skin texture is looked at."""
SURE_BRAIN = 0.9
LEAST_VOXELS = 200


@dataclass(frozen=True)
class Likeness:
    """How near a face is to the average one.

    Attributes
    ----------
    slope_mm
        Median difference of slopes, mm for each 2 mm.
    shape_mm
        Median distance after a smooth fit, mm.
    texture
        Variation from voxel to voxel under the skin, over that of the brain.
    is_average
        Whether all are within their limits.
    reason
        In words.
    """

    slope_mm: float
    shape_mm: float
    texture: float
    is_average: bool
    reason: str


@functools.cache
def average_depth() -> Map:
    """Relief of the surface that mri_reface lays over a head: where half of all heads have tissue."""
    return find_relief(templates.prior("head"), np.eye(4), HALF).depth


def of(relief: Relief, volume: Volume, average_to_scan: Affine, threshold: float) -> Likeness:
    """Compare a face with the average one.

    Parameters
    ----------
    relief
        Of the face.
    volume, average_to_scan, threshold
        What it was found in: see `efface.quality.relief.find_relief`.
    """
    off = relief.depth - average_depth()
    x, z = np.meshgrid(x_mm(), z_mm(), indexing="ij")
    side, low, high = FACE
    face = (np.abs(x) < side) & (z > low) & (z < high)
    there = np.isfinite(off) & face
    if there.sum() < LEAST_SEEN * face.sum():
        return Likeness(
            np.nan, np.nan, np.nan, False, "too little of the face is in view to compare it with the average one"
        )
    along_x, along_z = np.gradient(off)
    slope = float(np.nanmedian(np.hypot(along_x, along_z)[there]))
    shape = float(np.median(np.abs(_without_smooth(off[there], x[there] / UNIT_MM, z[there] / UNIT_MM))))
    skin = np.column_stack([x[there], relief.depth[there], z[there]])
    texture = _texture(volume, average_to_scan, threshold, skin)
    average = slope <= SLOPE_MM and shape <= SHAPE_MM and texture <= TEXTURE
    reason = f"the face is the average one, as mri_reface leaves it (within {shape:.1f} mm)"
    return Likeness(slope, shape, texture, average, reason if average else "the face is not the average one")


def _texture(volume: Volume, average_to_scan: Affine, threshold: float, skin: NDArray[np.float64]) -> float:
    """Variation under skin (average-head mm, shape (n, 3)) over that in the brain; infinite where too little is seen."""
    brain = templates.prior("brain")
    inside = apply_affine(brain.affine, np.argwhere(brain.data > SURE_BRAIN))
    under = np.concatenate([skin - [0.0, mm, 0.0] for mm in UNDER_MM])
    to_voxels = invert(volume.affine) @ average_to_scan
    face, deep = (_variation(volume.data, apply_affine(to_voxels, mm), threshold) for mm in (under, inside))
    return face / deep if np.isfinite(face) and deep > 0 else np.inf


def _variation(data: FloatVolume, index: NDArray[np.float64], threshold: float) -> float:
    """Median second difference of intensities around voxels of tissue, relative to them; infinite for too few voxels."""
    at = np.rint(index).astype(np.intp)
    at = np.unique(at[((at >= 1) & (at < np.array(data.shape) - 1)).all(axis=1)], axis=0)
    here = data[tuple(at.T)]
    least, bent = here, np.zeros(len(at))
    for step in np.eye(3, dtype=np.intp):
        after, before = data[tuple((at + step).T)], data[tuple((at - step).T)]
        least = np.minimum(least, np.minimum(after, before))
        bent += np.abs(after + before - 2 * here) / 3
    tissue = least > threshold
    return float(np.median(bent[tissue] / here[tissue])) if tissue.sum() >= LEAST_VOXELS else np.inf


def _without_smooth(values: NDArray[np.float64], x: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values without their quadratic fit."""
    smooth = np.column_stack([np.ones_like(x), x, z, x * z, x**2, z**2])
    return np.asarray(values - smooth @ np.linalg.lstsq(smooth, values, rcond=None)[0])
