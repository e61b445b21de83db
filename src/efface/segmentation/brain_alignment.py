"""Preparation of the brain and its affine alignment with the BrainCOLOR template; both segmenters use it."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.brain_extraction import USABLE_BRAIN_ML
from efface.errors import AnatomyError, RegistrationError
from efface.segmentation.bias_field import correct_bias
from efface.spatial.affine import invert
from efface.spatial.registration import register_affine
from efface.spatial.types import Affine, BoolVolume, Volume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

AVERAGE_TO_TEMPLATE: Affine = np.array(
    [
        [1.124247, -0.089953, -0.022865, 5.914083],
        [0.102954, 1.064279, 0.134064, -17.347187],
        [0.003761, -0.116829, 1.166365, 4.537769],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""Average head RAS+ mm to template RAS+ mm; made by validation/average_to_braincolor.py."""

MARGIN_VOX = 5
"""Voxels around the brain that stay in its box."""
CONFIDENT_AFFINE_SCORE, MINIMUM_AFFINE_SCORE = 0.65, 0.4
"""Correlation of scan and template inside the brain. Below the first, a pose search is made too; below the second, the
registration has failed.

On the development heads, right poses reach 0.56 (wide ventricles) to 0.81, and wrong poses (upside down, turned by 60 or
90 degrees) reach 0.18 to 0.52.
"""


def prepare_brain(scan: Volume, mask: BoolVolume, *, bias: bool = True) -> tuple[Volume, BoolVolume, tuple[slice, ...]]:
    """Crop the scan to its brain, correct the bias field, and scale intensities.

    Parameters
    ----------
    scan
        The scan.
    mask
        Brain mask, same shape.
    bias
        Whether to correct intensity non-uniformity (N4).

    Returns
    -------
    brain : Volume
        Intensities from 0 to 1.3 in the box around the brain; 0 outside the mask.
    mask : numpy.ndarray
        Brain mask in the box.
    box : tuple of slice
        Voxels of the scan that the box covers.

    Raises
    ------
    AnatomyError
        If the volume of the mask cannot be that of a brain.
    """
    volume_ml = float(np.count_nonzero(mask) * abs(np.linalg.det(scan.affine[:3, :3])) / 1000)
    if not USABLE_BRAIN_ML[0] <= volume_ml <= USABLE_BRAIN_ML[1]:
        msg = (
            f"brain mask of {volume_ml:.0f} ml cannot be a brain: expected {USABLE_BRAIN_ML[0]:.0f} to "
            f"{USABLE_BRAIN_ML[1]:.0f} ml; give a better one with --brain-mask"
        )
        raise AnatomyError(msg)
    tight = ndimage.find_objects(mask.astype(np.int8))[0]
    box = tuple(slice(max(0, s.start - MARGIN_VOX), s.stop + MARGIN_VOX) for s in tight)
    inside = np.ascontiguousarray(mask[box])
    data = np.ascontiguousarray(scan.data[box], dtype=np.float32)
    low = float(np.percentile(data[inside], 0.1))
    values = np.clip(data - min(low, 0.0), 0, None)
    if bias:
        values = correct_bias(values, inside, scan.grid.spacing_mm)
    scale = max(float(np.percentile(values[inside], 98)), 1e-6)
    scaled = np.where(inside, np.clip(values / scale, 0, 1.3), 0).astype(np.float32)
    return Volume(scaled, scan.grid.cropped(box).affine), inside, box


def align(brain: Volume, mask: BoolVolume, initial: Affine | None, template: Volume) -> Affine:
    """Register the brain to the template by an affine.

    Parameters
    ----------
    brain
        As made by `prepare_brain`.
    mask
        Brain mask, same shape.
    initial
        Scan mm to template mm to start from, shape (4, 4). If the result does not fit well, or with None, it starts
        from matched centres, and then poses are searched.
    template
        T1-like image of the brain.

    Returns
    -------
    numpy.ndarray
        Scan mm to template mm, shape (4, 4).

    Raises
    ------
    RegistrationError
        If the template does not fit the brain.
    """
    tried = []
    centred = pose_by_centre(mask, brain.affine, template)
    for start in [centred, None] if initial is None else [initial, centred, None]:
        tried.append(register_affine(brain, template, weight=mask, initial=start, minimum_score=MINIMUM_AFFINE_SCORE))
        if tried[-1].converged and tried[-1].score >= CONFIDENT_AFFINE_SCORE:
            break
    best = max(tried, key=lambda result: (result.converged, result.score))
    if not best.converged:
        msg = (
            f"the BrainCOLOR template does not fit the brain: {best.reason}; "
            "check the brain mask and that the scan is T1-weighted"
        )
        raise RegistrationError(msg)
    return best.matrix


def pose_by_centre(mask: BoolVolume, affine: Affine, template: Volume) -> Affine:
    """Shift the centre of a brain to that of the template.

    Parameters
    ----------
    mask
        Brain mask.
    affine
        Its voxel to RAS+ mm, shape (4, 4).
    template
        Brain of the template; 0 outside.

    Returns
    -------
    numpy.ndarray
        Scan mm to template mm, shape (4, 4).
    """
    shift = np.eye(4)
    shift[:3, 3] = _centre_mm(template.data > 0, template.affine) - _centre_mm(mask, affine)
    return shift


def _centre_mm(mask: BoolVolume, affine: Affine) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = affine[:3, :3] @ np.array(ndimage.center_of_mass(mask)) + affine[:3, 3]
    return centre


def initial_pose(anatomy: "HeadAnatomy", warnings: list[str]) -> Affine | None:
    """Affine from the scan to the template through the average head.

    Parameters
    ----------
    anatomy
        Anatomy of the scan.
    warnings
        A warning is added here if the average head does not fit the scan.

    Returns
    -------
    numpy.ndarray or None
        Scan mm to template mm, shape (4, 4); None if the scan shows a brain without a head, or the average head does not
        fit it.
    """
    if anatomy.shows_brain_alone:
        return None
    try:
        average_to_scan = anatomy.average_to_scan
    except RegistrationError as error:
        warnings.append(f"the average head does not fit the scan, so the brain was aligned without it: {error}")
        return None
    return np.asarray(AVERAGE_TO_TEMPLATE @ invert(average_to_scan), dtype=np.float64)
