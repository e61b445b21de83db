"""What the pose network says of a scan; the network itself (and torch, a second) is loaded when it is first asked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.spatial.types import Volume

GRID_MM = 4.0
"""Voxel size of the network."""


@dataclass(frozen=True, eq=False)
class PosePrediction:
    """What the network says of a scan, on a 4 mm grid over its field of view.

    Attributes
    ----------
    points_mm
        Voxels of the head, RAS+ mm of the scan, shape (n, 3).
    average_mm
        Where each is in the average head, RAS+ mm, shape (n, 3).
    spread_mm
        The network's own uncertainty of that, shape (n,).
    brain
        How probably each place is brain, without the fluid around it; 0 outside the field of view.
    """

    points_mm: NDArray[np.float64]
    average_mm: NDArray[np.float64]
    spread_mm: NDArray[np.float64]
    brain: Volume


def predict(volume: Volume) -> PosePrediction:
    """Ask the trained network what it sees in a head, RAS+."""
    from efface.anatomy import pose_network

    return pose_network.predict(volume)
