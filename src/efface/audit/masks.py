"""Masks of what was removed: images of two values, in which a surface could be read as in a scan."""

import numpy as np
from numpy.typing import NDArray

from efface.spatial.types import BoolVolume

MASK_NAMES = ("_defacemask", "_mask")
"""How the names of masks end, in BIDS."""
AT_BORDER = 0.99
"""A region lies against a side of the image if so many of its lines towards that side begin at the border."""
OPEN_SIDES = 2
"""What was closed outwards is seen from its cut and from above; from everywhere else it begins at the border."""


def is_named_mask(name: str) -> bool:
    """Whether a file name is that of a mask, by BIDS."""
    return name.partition(".")[0].endswith(MASK_NAMES)


def is_closed_outward(values: NDArray[np.generic]) -> bool:
    """Whether a two-valued image is a region that reaches the borders of the image, so that no skin can be read off it.

    The outline of a head or a face is seen from at least three sides. A region that was cut away in front of and below a
    surface, with the air around it, is seen from at most two sides, which are not opposite, and so is what stays.

    Parameters
    ----------
    values
        Of the image, 3-D. Which of its two values is the region does not matter.
    """
    low = values.min()
    inside: BoolVolume = values != low
    if not inside.any() or np.any(values[inside] != values.max()):
        return False
    return _is_seen_from_few_sides(inside) and _is_seen_from_few_sides(~inside)


def _is_seen_from_few_sides(region: BoolVolume) -> bool:
    open_sides = [
        (axis, end)
        for axis in range(3)
        for end in (0, -1)
        if np.count_nonzero(region.take(end, axis)) < AT_BORDER * np.count_nonzero(region.any(axis))
    ]
    return len(open_sides) <= OPEN_SIDES and len({axis for axis, _ in open_sides}) == len(open_sides)
