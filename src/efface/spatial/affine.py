"""Affine matrices: 4x4, float64, column vectors, millimetres or voxel indices."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.spatial.types import Affine


def apply_affine(matrix: Affine, points: NDArray[Any]) -> NDArray[np.float64]:
    """Map points by an affine.

    Parameters
    ----------
    matrix
        Shape (4, 4).
    points
        Shape (..., 3), in the units of the matrix's source space.

    Returns
    -------
    numpy.ndarray
        Shape (..., 3), in the units of its target space.
    """
    moved: NDArray[np.float64] = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def invert(matrix: Affine) -> Affine:
    """Invert an affine, shape (4, 4)."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
