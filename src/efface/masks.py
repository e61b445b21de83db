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


def otsu_threshold(values: NDArray[Any]) -> float:
    """Otsu's threshold between dark and bright voxels."""
    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.Execute(SimpleITK.GetImageFromArray(values))
    return float(otsu.GetThreshold())
