"""Correction of intensity non-uniformity (N4) in the brain, at low resolution.

References
----------
Tustison et al. "N4ITK: improved N3 bias correction." IEEE Trans. Med. Imaging 29 (2010) 1310-1320.
"""

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from efface.spatial.types import BoolVolume, FloatVolume

WORKING_MM = 4.0
"""Voxel size at which the field is estimated: it is smooth, and the estimate takes about a second."""
ITERATIONS = (30, 30, 20)
"""Maximum number of iterations, by fitting level."""
MINIMUM_MASK_VOX = 100


def correct_bias(values: FloatVolume, mask: BoolVolume, spacing_mm: NDArray[np.float64]) -> FloatVolume:
    """Divide by the bias field estimated inside a mask.

    Parameters
    ----------
    values
        Intensities, shape (x, y, z).
    mask
        Voxels in which the field is estimated (the brain), same shape, not empty.
    spacing_mm
        Voxel edge lengths, shape (3,).

    Returns
    -------
    numpy.ndarray
        Intensities, float32, same shape; unchanged if the mask is too small to estimate a field.
    """
    full = log_bias_field(values, mask, spacing_mm)
    if full is None:
        return values
    corrected: FloatVolume = (values / np.exp(full)).astype(np.float32)
    return corrected


def log_bias_field(values: FloatVolume, mask: BoolVolume, spacing_mm: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Estimate the logarithm of the bias field; its mean over the mask is about zero.

    Parameters
    ----------
    values
        Intensities, shape (x, y, z).
    mask
        Voxels in which the field is estimated, same shape, not empty.
    spacing_mm
        Voxel edge lengths, shape (3,).

    Returns
    -------
    numpy.ndarray or None
        Value of every voxel, float32, same shape; None if the mask is too small to estimate a field.
    """
    step = np.maximum(1, np.round(WORKING_MM / spacing_mm)).astype(int)
    centres = [np.arange(k // 2, n, k) for k, n in zip(step, values.shape, strict=True)]
    inside = ndimage.uniform_filter(mask.astype(np.float32), step)
    mean = ndimage.uniform_filter(np.where(mask, values, 0).astype(np.float32), step) / np.maximum(inside, 1e-3)
    small, small_mask = mean[np.ix_(*centres)], inside[np.ix_(*centres)] > 0.5
    if np.count_nonzero(small_mask) < MINIMUM_MASK_VOX or small[small_mask].mean() <= 0:
        return None
    log_field = _log_field(small, small_mask, spacing_mm * step)
    full: NDArray[np.float32] = ndimage.affine_transform(
        log_field, 1 / step, -(step // 2) / step, values.shape, order=1, mode="nearest"
    )
    return full


def _log_field(values: FloatVolume, mask: BoolVolume, spacing_mm: NDArray[np.float64]) -> FloatVolume:
    """Logarithm of the bias field at the working resolution; its mean over the mask is zero."""
    image = SimpleITK.GetImageFromArray(np.maximum(values, 1e-3 * values[mask].mean()))
    image.SetSpacing(spacing_mm[::-1].tolist())
    gate = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    gate.CopyInformation(image)
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(ITERATIONS))
    n4.SetNumberOfThreads(1)  # sums over threads differ in the last bits; the result must not depend on the cores
    n4.Execute(image, gate)
    field: FloatVolume = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).astype(np.float32)
    return field - np.float32(field[mask].mean())
