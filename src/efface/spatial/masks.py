"""Shared mask and threshold operations."""

from collections.abc import Iterator
from typing import Any

import cc3d
import edt
import fill_voids
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from efface.spatial.types import BoolVolume, FloatVolume, PieceNumbers


def connected_pieces(mask: BoolVolume, *, corners: bool = False) -> tuple[PieceNumbers, NDArray[np.int64]]:
    """Connected pieces of a mask, numbered from 1 on, and how many voxels each has.

    Parameters
    ----------
    mask
        Shape (x, y, z).
    corners
        Whether voxels that share an edge or a corner are neighbours too, or only those that share a face.

    Returns
    -------
    labels, sizes
        Number of each voxel's piece, 0 outside; ``sizes[number]``, with ``sizes[0]`` 0.
    """
    labels = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26 if corners else 6)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels, sizes


def largest_component(mask: BoolVolume) -> BoolVolume:
    """The largest connected part of a mask (neighbours share a face); an empty mask stays empty."""
    labels, sizes = connected_pieces(mask)
    return np.asarray(labels == np.argmax(sizes), dtype=np.bool_) if sizes.any() else mask


def filled(mask: BoolVolume) -> BoolVolume:
    """A mask, 2-D or 3-D, with its holes: what no path over faces joins with the border."""
    return np.asarray(fill_voids.fill(np.ascontiguousarray(mask)), dtype=np.bool_)


def dilated(mask: BoolVolume) -> BoolVolume:
    """A mask and the voxels that share a face with it: SciPy's dilation, in a sixth of the time."""
    grown = mask.copy()
    for ahead, behind in _neighbours(mask.ndim):
        grown[ahead] |= mask[behind]
        grown[behind] |= mask[ahead]
    return grown


def eroded(mask: BoolVolume, *, at_border: bool = True) -> BoolVolume:
    """The voxels of a mask whose neighbours over faces are all in it: SciPy's erosion, in a sixth of the time.

    Parameters
    ----------
    mask
        2-D or 3-D.
    at_border
        Whether what is beyond the border of the volume counts as outside.
    """
    left = mask.copy()
    for axis, (ahead, behind) in enumerate(_neighbours(mask.ndim)):
        left[ahead] &= mask[behind]
        left[behind] &= mask[ahead]
        if at_border:
            np.moveaxis(left, axis, 0)[[0, -1]] = False
    return left


def opened(mask: BoolVolume) -> BoolVolume:
    """A mask without what is thinner than three voxels along an axis."""
    return dilated(eroded(mask))


def _neighbours(dimensions: int) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Along each axis, all voxels but the first, and those before them."""
    for axis in range(dimensions):
        before, after = (slice(None),) * axis, (slice(None),) * (dimensions - axis - 1)
        yield (*before, slice(1, None), *after), (*before, slice(None, -1), *after)


def box_of(mask: BoolVolume, room: int = 0) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty, with room (voxels) on all sides as far as the volume goes."""
    box = []
    for axis, count in enumerate(mask.shape):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(0, int(inside[0]) - room), min(count, int(inside[-1]) + 1 + room)))
    return tuple(box)


def distance_mm(mask: BoolVolume, spacing_mm: NDArray[np.float64], at: BoolVolume | None = None) -> FloatVolume:
    """Distance of every voxel of a mask from the nearest voxel outside, 0 outside; exact but for single precision.

    Parameters
    ----------
    mask
        Not all true. What is beyond the border of the volume is not outside.
    spacing_mm
        Voxel edge lengths, shape (3,).
    at
        Give only these voxels' distances, same shape as `mask`, in the order of ``mask[at]``.
    """
    distance: FloatVolume = edt.edt(np.ascontiguousarray(mask), anisotropy=tuple(spacing_mm.tolist()))
    return distance if at is None else distance[at]


def within_mm(mask: BoolVolume, mm: float, spacing_mm: NDArray[np.float64]) -> BoolVolume:
    """The voxels of a mask, and those that are at most so far from it; looked for around the mask only."""
    near = np.zeros_like(mask)
    if mask.any():
        box = box_of(mask, int(np.ceil(mm / spacing_mm.min())) + 1)
        near[box] = distance_mm(~mask[box], spacing_mm) <= mm
    return near


def otsu_threshold(values: NDArray[Any]) -> float:
    """Otsu's threshold between dark and bright voxels."""
    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.Execute(SimpleITK.GetImageFromArray(values))
    return float(otsu.GetThreshold())
