"""The head mask: inside of the head, air cavities filled."""

import numpy as np
from scipy import ndimage

from efface.errors import AnatomyError
from efface.spatial.masks import dilated, eroded, filled, largest_component, opened, otsu_threshold
from efface.spatial.types import BoolVolume, Volume


def head_mask(volume: Volume) -> BoolVolume:
    """Largest bright object, closed and filled slice by slice: the head without the air around it.

    Raises
    ------
    AnatomyError
        If nothing stands out from the background.
    """
    low, high = np.percentile(volume.data, (1.0, 99.0))
    floor = min(float(low), 0.0)  # scaled files can have air below zero
    values = np.clip(volume.data, floor, high) - np.float32(floor)
    spacing = volume.grid.spacing_mm
    smooth = ndimage.gaussian_filter(values, 1.0 / spacing, truncate=2)
    head = largest_component(opened(smooth > 0.5 * otsu_threshold(smooth)))
    if not head.any():
        msg = "no head was found: nothing in the image stands out from its background; check the scan"
        raise AnatomyError(msg)
    head = dilated(head)
    for axis in range(3):
        slices = np.ascontiguousarray(np.moveaxis(head, axis, 0))  # at once: a slice by itself is slow to gather
        for index, one in enumerate(slices):
            slices[index] = filled(one)
        head = np.moveaxis(slices, 0, axis)
    return eroded(np.ascontiguousarray(head), at_border=False)
