"""MRI_Deface: remove the voxels that an atlas allows to be face and does not allow to be brain.

References
----------
Bischoff-Grethe et al. "A technique for the deidentification of structural brain MR images." Human Brain Mapping 28
(2007) 892-903.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.external_process import printed_version
from efface.defacing.method import DefacingMethod, ExternalParams, ExternalProgram, Workspace
from efface.errors import AnatomyError, MissingDependencyError
from efface.spatial import resampling
from efface.spatial.affine import invert
from efface.spatial.types import BoolVolume, FloatVolume

CERTAIN = 0.95
"""Prior probability of brain from which a voxel is used to estimate the intensities of grey and white matter."""

HEMISPHERES = 2
"""Classes of each tissue whose variances are added."""


@dataclass(frozen=True)
class Params:
    """Parameters of MRI_Deface.

    Attributes
    ----------
    margin_mm
        Voxels in a cube of this half side around a voxel that can be brain do not change (7 voxels of 1 mm in the
        external program).
    shell_mm
        In a shell of this thickness around those, voxels that look like grey or white matter do not change.
    distance
        Mahalanobis distance to grey or white matter up to which a voxel looks like it (`looks_like_brain`).
    face_prior
        Elsewhere a voxel is removed if its prior probability of face is greater than this.
    """

    margin_mm: float = field(
        default=7.0,
        metadata={
            "help": "half side of the cube around possible brain in which nothing changes",
            "unit": "mm",
            "minimum": 0.0,
        },
    )
    shell_mm: float = field(
        default=7.0,
        metadata={
            "help": "thickness of the shell in which brain-like intensities do not change",
            "unit": "mm",
            "minimum": 0.0,
            "finite": False,
        },
    )
    distance: float = field(
        default=2.0,
        metadata={
            "help": "Mahalanobis distance up to which an intensity is brain-like",
            "unit": "standard deviations of both hemispheres",
            "minimum": 0.0,
            "finite": False,
        },
    )
    face_prior: float = field(
        default=1e-4,
        metadata={"help": "prior probability of face from which a voxel is removed", "minimum": 0.0, "maximum": 1.0},
    )


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what MRI_Deface removes.

    Parameters
    ----------
    anatomy
        Of the scan; its registration to the average head is used.
    params
        See `Params`.

    Raises
    ------
    AnatomyError
        If grey and white matter cannot be distinguished.
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    As in the external program, a voxel can be brain where the prior is not zero, and what can be brain is dilated by a
    cube. The priors are made from development heads (`efface.training.priors`), because the external program's atlases
    cannot be redistributed.
    """
    scan = anatomy.scan
    to_average = invert(anatomy.average_to_scan)
    brain = resampling.resample(templates.prior("brain"), scan.grid, to_average)
    face = resampling.resample(templates.prior("face"), scan.grid, to_average)
    near = within_cube(brain > 0, params.margin_mm, scan.spacing_mm)
    shell = within_cube(brain > 0, params.margin_mm + params.shell_mm, scan.spacing_mm) & ~near
    keep = near | (shell & looks_like_brain(anatomy.image.data, brain, params.distance))
    mask = np.ascontiguousarray((face > params.face_prior) & ~keep)
    return Edit(mask, anatomy.background.air, "mri_deface", params=asdict(params))


def within_cube(mask: BoolVolume, reach_mm: float, spacing_mm: NDArray[np.float64]) -> BoolVolume:
    """Dilate a mask by a cube, along the axes of the image.

    Parameters
    ----------
    mask
        Of any shape.
    reach_mm
        Half the cube's side; whole voxels of it count. Along a diagonal it reaches 1.7 times as far.
    spacing_mm
        Size of a voxel, shape (3,).
    """
    reach = np.floor(np.minimum(reach_mm / spacing_mm, mask.shape) + 1e-6).astype(int)
    grown = ndimage.maximum_filter(mask.view(np.uint8), tuple(2 * reach + 1), mode="constant")
    return np.asarray(grown, dtype=np.bool_)


def looks_like_brain(data: FloatVolume, brain: FloatVolume, distance: float) -> BoolVolume:
    """Find voxels whose intensity is within a Mahalanobis distance of grey or white matter.

    The variance is that of both hemispheres added, as in the external program, which adds the covariances of the
    classes of left and right: twice that of one. A distance of 2 is 2.83 standard deviations of the tissue.

    Parameters
    ----------
    data
        Intensities.
    brain
        Prior probability of brain, same shape. Otsu's method splits the intensities where it is at least `CERTAIN`
        into three classes; the upper two are grey and white matter.
    distance
        In standard deviations of the added variance.

    Raises
    ------
    AnatomyError
        If there are not three classes.
    """
    certain = data[brain >= CERTAIN]
    if certain.size < 1000 or certain.min() == certain.max():
        msg = "grey and white matter were not found where the average head's brain is: check that this is a T1w head"
        raise AnatomyError(msg)
    filter_ = SimpleITK.OtsuMultipleThresholdsImageFilter()
    filter_.SetNumberOfThresholds(2)
    filter_.Execute(SimpleITK.GetImageFromArray(np.ascontiguousarray(certain[: certain.size // 4 * 4].reshape(4, -1))))
    low, high = filter_.GetThresholds()
    similar = np.zeros(data.shape, dtype=np.bool_)
    for tissue in (certain[(certain > low) & (certain <= high)], certain[certain > high]):
        if tissue.size < 100:
            msg = "grey and white matter could not be told apart: check that this is a T1-weighted head"
            raise AnatomyError(msg)
        similar |= np.abs(data - tissue.mean()) <= distance * np.sqrt(HEMISPHERES) * tissue.std()
    return similar


def _command(program: Path, files: Workspace, params: ExternalParams) -> Sequence[str | Path]:
    brain, face = (_atlas(program, name) for name in ("talairach_mixed_with_skull.gca", "face.gca"))
    return [program, files.scan, brain, face, files.output]


def _atlas(program: Path, name: str) -> Path:
    """Path of a file that the external program needs: beside it, or in FreeSurfer's folder ``average``."""
    folders = [program.resolve().parent]
    if "FREESURFER_HOME" in os.environ:
        folders.append(Path(os.environ["FREESURFER_HOME"]) / "average")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    msg = f"mri_deface needs {name}, which is not in {' or '.join(map(str, folders))}: download it beside the program"
    raise MissingDependencyError(msg)


METHOD = DefacingMethod(
    name="mri_deface",
    title="MRI_Deface",
    summary="removes voxels that an atlas allows to be face and does not allow to be brain",
    citation="bischoffgrethe2007",
    reference="Bischoff-Grethe et al. 2007, doi 10.1002/hbm.20312",
    colour="#56B4E9",
    params=Params,
    plan=plan,
    external=ExternalProgram(
        "mri_deface",
        _command,
        "install mri_deface with talairach_mixed_with_skull.gca and face.gca (surfer.nmr.mgh.harvard.edu)",
        version=printed_version("--version"),
    ),
)
