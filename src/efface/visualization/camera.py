"""Camera pose for 3-D faces: from the stored verdict, or from the brain mask."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.anatomy.templates import prior
from efface.errors import AnatomyError
from efface.spatial.types import Affine, BoolVolume

FURTHEST_MM = 1e4
POSE_VOLUMES = (0.1, 10.0)
"""Between these the volume of a head relates to the average head's; a stored pose beyond them is damaged."""
_ORIENTATIONS = [
    np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def pose_of_brain(brain: BoolVolume, affine: Affine) -> Affine:
    """Rigid pose of the average head in a scan, from the principal axes of its brain mask.

    It places a camera to within a few degrees, no more: nothing is measured with it.

    Parameters
    ----------
    brain
        Brain mask.
    affine
        Its voxel-to-mm affine, RAS+, shape (4, 4).

    Returns
    -------
    Affine
        Average-head mm to scan mm, shape (4, 4).

    Raises
    ------
    AnatomyError
        If the mask is empty.
    """
    if not brain.any():
        msg = "the brain mask is empty: the scan cannot be drawn from its front"
        raise AnatomyError(msg)
    centre, axes = _principal(brain, affine)
    average_centre, average_axes = _average()
    turns = [axes @ flip @ average_axes.T for flip in _ORIENTATIONS]
    # Heads lie in scanners face up or nearly so: of all ways to match the axes, the least turn is meant.
    rotation = max((turn for turn in turns if np.linalg.det(turn) > 0), key=lambda turn: float(np.trace(turn)))
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = centre - rotation @ average_centre
    return pose


def _principal(mask: BoolVolume, affine: Affine) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre (mm) and axes (columns) of a mask."""
    points = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return points.mean(axis=0), np.linalg.eigh(np.cov(points.T))[1]


@functools.cache
def _average() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    brain = prior("brain")
    return _principal(brain.data > 0.5, brain.affine)


def stored_pose(evidence: Mapping[str, Any]) -> Affine | None:
    """Average head mm to scan mm from a verdict's JSON, shape (4, 4); None where it holds no usable one."""
    try:
        pose = np.asarray(evidence.get("from_average"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if pose.shape != (4, 4) or not (np.abs(pose) <= FURTHEST_MM).all():  # NaN is not either
        return None
    low, high = POSE_VOLUMES
    return pose if low < np.linalg.det(pose[:3, :3]) < high else None
