"""The outer surface of the face region as a map: how far it is along rays that meet in one point inside the head.

Maps are in upright mm, as the skin points of `efface.privacy.skin_points` are, so a small face stays small.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.skin import SPECK_ML, smoothed
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import box_corners, covering_box
from efface.spatial.masks import connected_pieces
from efface.spatial.types import Affine, FloatVolume, Volume

CENTRE_MM = (0.0, 5.0, -65.0)
"""Where the rays meet, upright mm: behind the nose, where every head has tissue in front."""
STEP_DEG = 2.0
SIDE_DEG, LOW_DEG, HIGH_DEG = 70.0, -50.0, 40.0
"""Rays go so far to both sides, below and above: to the cheekbones, under the chin and to the brows."""
NEAREST_MM, FURTHEST_MM = 15.0, 150.0
"""Part of a ray that is looked at; where it meets nothing, there is a hole (NaN)."""
STEP_MM = 1.5
BORDER_MM = 3.0
"""Tissue this near to where a ray enters the field of view is cut by the border: a hole."""

FACE_SIDE_DEG, FACE_LOW_DEG, FACE_HIGH_DEG = 45.0, -40.0, 25.0
"""The rays that count: cheeks, chin and eyes, without brow, temples and neck, which every method leaves."""

Map = NDArray[np.floating[Any]]
"""Radii, mm, shape (*shape of the map), NaN in holes; more maps in front, shape (n, *shape)."""


def angles_deg() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Azimuths (to the right of the face's midline) and elevations of a map's rows and columns."""
    side = np.arange(-SIDE_DEG, SIDE_DEG + STEP_DEG / 2, STEP_DEG)
    return side, np.arange(LOW_DEG, HIGH_DEG + STEP_DEG / 2, STEP_DEG)


SHAPE = (len(angles_deg()[0]), len(angles_deg()[1]))
"""Of a map."""


def directions() -> NDArray[np.float64]:
    """Unit vectors of the rays, shape (*SHAPE, 3)."""
    side, high = (np.deg2rad(axis) for axis in angles_deg())
    return _frame(side, high)[0]


def points_of(radii: Map) -> NDArray[np.float64]:
    """Points of a map in upright mm, shape (*shape, 3)."""
    return np.asarray(radii[..., None] * directions() + CENTRE_MM, dtype=np.float64)


def normals_of(radii: Map) -> NDArray[np.float64]:
    """Unit vectors out of the surface of a map without holes, shape (*shape, 3).

    Differences along the map's two sides are exact; at its borders they are those of the neighbours.
    """
    side, high = (np.deg2rad(axis) for axis in angles_deg())
    step = np.deg2rad(STEP_DEG)
    by_side, by_high = np.gradient(radii, step, axis=(-2, -1))
    out, right, up = _frame(side, high)
    # The surface r(a, e): its normal is out - (dr/de / r) up - (dr/da / (r cos e)) right.
    normal = out - (by_high / radii)[..., None] * up - (by_side / (radii * np.cos(high)))[..., None] * right
    return np.asarray(normal / np.linalg.norm(normal, axis=-1, keepdims=True))


def _frame(side: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Unit vectors along each ray, and to its right and upwards, shape (*SHAPE, 3) each."""
    a, e = np.meshgrid(side, high, indexing="ij")
    out = np.stack([np.sin(a) * np.cos(e), np.cos(a) * np.cos(e), np.sin(e)], axis=-1)
    right = np.stack([np.cos(a), -np.sin(a), np.zeros_like(a)], axis=-1)
    up = np.stack([-np.sin(a) * np.sin(e), -np.cos(a) * np.sin(e), np.cos(e)], axis=-1)
    return out, right, up


def face_points(radii: Map) -> NDArray[np.float64]:
    """Points of a map in the face region, without holes, upright mm, shape (n, 3), in an order that is always the same.

    The order is random: the first ones are everywhere in the face.
    """
    side, high = angles_deg()
    counts = np.abs(side)[:, None] <= FACE_SIDE_DEG
    counts = (counts & (high >= FACE_LOW_DEG) & (high <= FACE_HIGH_DEG) & np.isfinite(radii)).ravel()
    order = np.random.default_rng(0).permutation(counts.size)
    return np.asarray(points_of(radii).reshape(-1, 3)[order[counts[order]]], dtype=np.float64)


def filled(radii: Map) -> Map:
    """A map with its holes closed by what is nearest; all holes if it has nothing else."""
    holes = ~np.isfinite(radii)
    if holes.all():
        return radii
    nearest = ndimage.distance_transform_edt(holes, return_distances=False, return_indices=True)
    return np.asarray(radii[tuple(nearest)], dtype=np.float64)


def face_map(volume: Volume, upright_to_scan: Affine, threshold: float) -> Map:
    """Find the outer surface of the face region.

    Parameters
    ----------
    volume
        With dark air at 0.
    upright_to_scan
        Rigid pose, upright mm to scan mm, shape (4, 4).
    threshold
        Intensity at the skin.

    Returns
    -------
    Map
        One radius for each ray, shape `SHAPE`: where it first meets tissue, coming from outside.
    """
    radii = np.arange(NEAREST_MM, FURTHEST_MM + STEP_MM / 2, STEP_MM)
    at = CENTRE_MM + radii[:, None, None, None] * directions()
    inside = _seen(volume, upright_to_scan, at)
    fine = _around(volume, upright_to_scan, at)
    if fine is None:
        return np.full(SHAPE, np.nan)
    clean = Volume(_without_specks(fine.data, threshold), fine.affine)
    index = apply_affine(invert(clean.affine) @ upright_to_scan, at)
    values = ndimage.map_coordinates(clean.data, np.moveaxis(index, -1, 0), order=1).astype(np.float64)
    above = (values >= threshold) & inside
    last = len(radii) - 1
    outermost = last - above[::-1].argmax(axis=0)
    entered = last - inside[::-1].argmax(axis=0)
    met = above.any(axis=0) & (outermost < last) & ((entered - outermost) * STEP_MM > BORDER_MM)
    here = np.take_along_axis(values, outermost[None], 0)[0]
    beyond = np.take_along_axis(values, np.minimum(outermost + 1, last)[None], 0)[0]
    part = np.clip((here - threshold) / np.maximum(here - beyond, 1e-9), 0, 1)
    return np.where(met, radii[outermost] + part * STEP_MM, np.nan)


def _seen(volume: Volume, upright_to_scan: Affine, at: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points are inside the field of view."""
    index = apply_affine(invert(volume.affine) @ upright_to_scan, at)
    return np.asarray(((index > -0.5) & (index < np.array(volume.data.shape) - 0.5)).all(axis=-1), dtype=np.bool_)


def _around(volume: Volume, upright_to_scan: Affine, at: NDArray[np.float64]) -> Volume | None:
    """The part of a scan that the rays go through, made smooth; None where they miss it."""
    corners = box_corners(at.reshape(-1, 3).min(axis=0), at.reshape(-1, 3).max(axis=0))
    voxels = apply_affine(invert(volume.affine) @ upright_to_scan, corners)
    if (voxels.max(axis=0) < 0).any() or (voxels.min(axis=0) > np.array(volume.data.shape) - 1).any():
        return None
    box = covering_box(voxels, volume.data.shape, room_vox=1, at_least=2)
    return smoothed(Volume(volume.data[box], volume.grid.cropped(box).affine), STEP_MM)


def _without_specks(data: FloatVolume, threshold: float) -> FloatVolume:
    """Intensities without small pieces in the air: noise."""
    labels, sizes = connected_pieces(data >= threshold, corners=True)
    small = sizes * STEP_MM**3 / 1000 < SPECK_ML
    small[0] = False
    return np.where(small[labels], np.float32(0), data)
