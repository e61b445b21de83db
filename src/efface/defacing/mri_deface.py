"""MRI_Deface: an atlas says where brain can be and where face can be; what cannot be brain and can be face goes.

References
----------
Bischoff-Grethe et al. "A technique for the deidentification of structural brain MR images." Human Brain Mapping 28
(2007) 892-903.
"""

from dataclasses import asdict, dataclass

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.errors import AnatomyError
from efface.parameters import param
from efface.spatial import resampling
from efface.spatial.masks import box_of, distance_mm
from efface.spatial.types import Affine, BoolVolume, FloatVolume

CERTAIN = 0.95
"""Brain prior from which a voxel tells the intensities of grey and white matter."""


@dataclass(frozen=True)
class Params:
    """Parameters of MRI_Deface.

    Attributes
    ----------
    margin_mm
        Everything this near a voxel that can be brain is kept (7 voxels of 1 mm in the published program).
    shell_mm
        In a shell of this thickness around that, what looks like grey or white matter is kept.
    distance
        Mahalanobis distance to grey or white matter up to which a voxel looks like it.
    face_prior
        Elsewhere a voxel is removed when its prior probability of being face is greater than this.
    """

    margin_mm: float = param(7.0, "everything this near a voxel that can be brain is kept", unit="mm", minimum=0)
    shell_mm: float = param(
        7.0, "in a shell this thick around that, what looks like brain is kept", unit="mm", minimum=0
    )
    distance: float = param(2.0, "Mahalanobis distance to grey or white matter that still looks like it", minimum=0)
    face_prior: float = param(1e-4, "a voxel is removed when its prior probability of face is greater", minimum=0)


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what MRI_Deface removes.

    Parameters
    ----------
    anatomy
        Of the scan; the registration of the average head is used.
    params
        See `Params`.

    Raises
    ------
    AnatomyError
        If grey and white matter cannot be told apart.
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    As in the published program, brain is where the prior is not zero at all. The priors are ours, made from
    development heads (`efface.training.priors`), since the published atlases cannot be shipped.
    """
    margin_mm, shell_mm = params.margin_mm, params.shell_mm
    scan = anatomy.scan
    to_average: Affine = np.asarray(np.linalg.inv(anatomy.average_to_scan), dtype=np.float64)
    brain = resampling.resample(templates.prior("brain"), scan.grid, to_average)
    face = resampling.resample(templates.prior("face"), scan.grid, to_average)
    away_mm = _away_mm(brain > 0, scan.spacing_mm, margin_mm + shell_mm)
    shell = (away_mm > margin_mm) & (away_mm <= margin_mm + shell_mm)
    keep = (away_mm <= margin_mm) | (shell & looks_like_brain(scan.data, brain, params.distance))
    return Edit(np.ascontiguousarray((face > params.face_prior) & ~keep), 0.0, "mri_deface", params=asdict(params))


def _away_mm(mask: BoolVolume, spacing_mm: NDArray[np.float64], limit_mm: float) -> NDArray[np.float64]:
    """Distance from a mask, 0 inside; infinite where it is beyond a limit, as far as that saves time."""
    away_mm = np.full(mask.shape, np.inf)
    if mask.any():
        room = np.ceil(min(limit_mm / float(spacing_mm.min()), max(mask.shape)))
        at = box_of(mask, 1 + int(room))
        away_mm[at] = distance_mm(~mask[at], spacing_mm)
    return away_mm


def looks_like_brain(data: FloatVolume, brain: FloatVolume, distance: float) -> BoolVolume:
    """Whether intensities are within a Mahalanobis distance of grey or white matter.

    Parameters
    ----------
    data
        Intensities.
    brain
        Prior probability of brain, same shape; where it is certain, three classes are told apart by Otsu's method,
        and the upper two are grey and white matter.
    distance
        In standard deviations.

    Raises
    ------
    AnatomyError
        If there are not three classes.
    """
    sure = data[brain >= CERTAIN]
    if sure.size < 1000 or sure.min() == sure.max():
        msg = "grey and white matter were not found where the average head's brain is: check that this is a T1w head"
        raise AnatomyError(msg)
    filter_ = SimpleITK.OtsuMultipleThresholdsImageFilter()
    filter_.SetNumberOfThresholds(2)
    filter_.Execute(SimpleITK.GetImageFromArray(np.ascontiguousarray(sure[: sure.size // 4 * 4].reshape(4, -1))))
    low, high = filter_.GetThresholds()
    similar = np.zeros(data.shape, dtype=np.bool_)
    for tissue in (sure[(sure > low) & (sure <= high)], sure[sure > high]):
        if tissue.size < 100:
            msg = "grey and white matter could not be told apart: check that this is a T1-weighted head"
            raise AnatomyError(msg)
        similar |= np.abs(data - tissue.mean()) <= distance * tissue.std()
    return similar
