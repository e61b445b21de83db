"""Heads that do not lie upright: how far they are turned, and the grid on which they would be upright."""

import numpy as np
from numpy.typing import NDArray

from efface.anatomy.head_mask import head_mask
from efface.errors import AnatomyError
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import box_corners
from efface.spatial.grid_limits import check_voxels
from efface.spatial.resampling import block_mean
from efface.spatial.types import Affine, Grid, Volume

UPRIGHT_DEG = 15.0
"""Heads turned further than this along the axes of their array are turned upright before a network looks at them."""
FINEST_MM, COARSE_MM = 2.0, 4.0
MARGIN_MM = 12.0
"""Room for dim skin around the head that a threshold finds."""


def rotation_of(average_to_scan: Affine) -> Affine:
    """The rotation alone, shape (4, 4): upright mm to scan mm."""
    u, _, vt = np.linalg.svd(average_to_scan[:3, :3])
    turn = np.eye(4)
    turn[:3, :3] = u @ vt
    return turn


def rigid_of(average_to_scan: Affine) -> Affine:
    """The pose without its scales, shape (4, 4): upright mm to scan mm, so that every head keeps its size."""
    rigid = rotation_of(average_to_scan)
    rigid[:3, 3] = average_to_scan[:3, 3]
    return rigid


def is_turned(average_to_scan: Affine, scan_affine: Affine) -> bool:
    """Whether a head is turned by more than `UPRIGHT_DEG` in its array: networks see the array, not the world.

    Parameters
    ----------
    average_to_scan
        Pose of the head, average head mm to scan mm.
    scan_affine
        Voxel to mm of the scan, RAS+.
    """
    axes = scan_affine / np.append(np.linalg.norm(scan_affine[:3, :3], axis=0), 1.0)
    in_array = rotation_of(axes).T @ rotation_of(average_to_scan)
    cosine = (np.trace(in_array[:3, :3]) - 1) / 2
    return bool(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))) > UPRIGHT_DEG)


def upright_grid(volume: Volume, turn: Affine) -> Grid:
    """The grid along the axes of an upright head around the head in a scan; steps of `FINEST_MM` or coarser.

    Parameters
    ----------
    volume
        A head, RAS+.
    turn
        Upright mm to scan mm, a rotation.

    Notes
    -----
    The corners of a turned field of view are empty. They are left out: a network that scales intensities by their
    percentiles would see another contrast.

    Raises
    ------
    InputError
        If it would have more than `MAXIMUM_VOXELS`.
    """
    corners = apply_affine(invert(turn), _around_head_mm(volume))
    low, high = corners.min(axis=0), corners.max(axis=0)
    step = max(FINEST_MM, float(volume.grid.spacing_mm.min()))
    x, y, z = (int(n) + 1 for n in np.ceil((high - low) / step))
    check_voxels((x, y, z), f"turning the head upright at {step:g} mm")
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low
    return Grid((x, y, z), affine)


def _around_head_mm(volume: Volume) -> NDArray[np.float64]:
    """Points around the head, `MARGIN_MM` from it; around the field of view, where nothing stands out; shape (n, 3)."""
    coarse = block_mean(volume, COARSE_MM)
    try:
        points = apply_affine(coarse.affine, np.argwhere(head_mask(coarse)))
    except AnatomyError:
        return apply_affine(volume.affine, box_corners(np.zeros(3), np.array(volume.data.shape) - 1.0))
    around = box_corners(np.full(3, -MARGIN_MM), np.full(3, MARGIN_MM))
    surrounded: NDArray[np.float64] = (points[:, None] + around).reshape(-1, 3)
    return surrounded
