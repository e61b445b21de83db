"""Boxes of voxels: the part of a grid that covers something known on another grid."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Box = tuple[slice, slice, slice]
"""A box of voxels: one slice an axis, with non-negative bounds."""


def box_corners(low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """Corners of the box between two opposite corners.

    Parameters
    ----------
    low, high
        Shape (3,).

    Returns
    -------
    numpy.ndarray
        Shape (8, 3).
    """
    bounds = np.array([low, high], dtype=np.float64)
    return np.array([[bounds[pick[axis], axis] for axis in range(3)] for pick in itertools.product((0, 1), repeat=3)])


def covering_box(points: NDArray[Any], shape: tuple[int, ...], *, room_vox: ArrayLike = 0.0, at_least: int = 1) -> Box:
    """Smallest box of voxels that covers points, clipped to a grid.

    Parameters
    ----------
    points
        Voxel indices, shape (n, 3); fractions allowed.
    shape
        Of the grid, (x, y, z).
    room_vox
        Voxels to add on every side, a number or shape (3,).
    at_least
        Voxels that remain along each axis even where the points lie outside the grid; 0 allows an empty box.
    """
    size = np.array(shape)
    first = np.clip(np.floor(points.min(axis=0) - room_vox), 0, size - at_least).astype(int)
    last = np.clip(np.ceil(points.max(axis=0) + room_vox) + 1, first + at_least, size).astype(int)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return x, y, z
