"""The largest grid that is ever made, so that no voxel size in a header decides how much memory is asked for."""

import math
from collections.abc import Sequence

from efface.errors import InputError

MAXIMUM_VOXELS = 2**28
"""Of any grid: 640 voxels a side."""


def check_voxels(shape: Sequence[int], what: str) -> None:
    """Refuse a grid that is too large to be made.

    Parameters
    ----------
    shape
        Voxels along its axes.
    what
        What the grid is for, for the message.

    Raises
    ------
    InputError
        If it has more than `MAXIMUM_VOXELS`.
    """
    sides = [int(n) for n in shape]
    if math.prod(sides) > MAXIMUM_VOXELS:
        msg = (
            f"{what} would need {' x '.join(map(str, sides))} voxels; expected at most {MAXIMUM_VOXELS >> 20} million, "
            "as for a head: check the voxel size in the scan's header"
        )
        raise InputError(msg)
