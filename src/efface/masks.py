"""What more than one room does with masks and histograms."""

from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from efface.arrays import BoolVolume


def largest_component(mask: BoolVolume) -> BoolVolume:
    """The largest connected part of a mask (neighbours share a face); an empty mask stays empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    return np.asarray(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])), dtype=np.bool_)


def box_of(mask: BoolVolume, room: int = 0) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty, with room (voxels) on all sides as far as the volume goes."""
    box = []
    for axis, count in enumerate(mask.shape):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(0, int(inside[0]) - room), min(count, int(inside[-1]) + 1 + room)))
    return tuple(box)


def otsu_threshold(values: NDArray[Any]) -> float:
    """Otsu's threshold between dark and bright voxels."""
    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.Execute(SimpleITK.GetImageFromArray(values))
    return float(otsu.GetThreshold())
