"""FSL_deface: resample a mask of face and ears from standard space to the scan, and remove every voxel it touches.

References
----------
Alfaro-Almagro et al. "Image processing and quality control for the first 10,000 brain imaging datasets from UK
Biobank." NeuroImage 166 (2018) 400-424.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.external_process import version_in_file
from efface.defacing.method import DefacingMethod, ExternalParams, ExternalProgram, Workspace
from efface.spatial import resampling
from efface.spatial.affine import invert
from efface.spatial.types import Volume

TOUCHED = 1e-3
"""A voxel is removed if its interpolated mask value is greater than this, that is, not 0."""
CERTAIN = 0.5
"""Mask value from which a voxel counts as face in the check against the brain mask."""


@dataclass(frozen=True)
class Params:
    """Parameters of FSL_deface.

    Attributes
    ----------
    nudge
        Moves the mask by (x, y, z) mm in standard space, towards right, anterior and superior, as the external
        program's ``-nud``.
    """

    nudge: tuple[float, float, float] = field(
        default=(0.0, 0.0, 0.0), metadata={"help": "moves the mask right, forward and up", "unit": "mm"}
    )


@dataclass(frozen=True)
class FslDefaceProgramParams(ExternalParams):
    """Parameters of the program ``fsl_deface``."""

    nudge: tuple[float, float, float] | None = field(
        default=None, metadata={"help": "moves the mask right, forward and up", "unit": "mm"}
    )


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what FSL_deface removes.

    Parameters
    ----------
    anatomy
        Of the scan; its registration to the average head is used, and its brain mask for the published check.
    params
        See `Params`.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    The external program's mask is drawn in MNI space with an extended field of view and registered with FLIRT. This
    implementation's mask is made from development heads (`efface.training.priors`) and registered with greedy. As
    published, a warning gives the number of brain voxels in which the mask is greater than a half.
    """
    mask = templates.prior("face_and_ears")
    moved = mask.affine.copy()
    moved[:3, 3] += params.nudge
    to_average = invert(anatomy.average_to_scan)
    fraction = resampling.resample(Volume(mask.data, moved), anatomy.scan.grid, to_average)
    in_brain = int(np.count_nonzero((fraction > CERTAIN) & anatomy.brain))
    warnings = (f"fsl_deface: {in_brain} voxels of the brain mask lie inside the face mask",) if in_brain else ()
    record = {"nudge": list(params.nudge), "brain_voxels": in_brain}
    return Edit(fraction > TOUCHED, 0.0, "fsl_deface", params=record, warnings=warnings)


def _command(program: Path, files: Workspace, params: FslDefaceProgramParams) -> Sequence[str | Path]:
    nudge = [] if params.nudge is None else ["-nud", *(f"{value:g}" for value in params.nudge)]
    return [program, files.scan, files.output, *nudge]


METHOD = DefacingMethod(
    name="fsl_deface",
    title="FSL_deface",
    summary="removes a mask of face and ears that is defined in standard space",
    citation="alfaroalmagro2018",
    reference="Alfaro-Almagro et al. 2018, doi 10.1016/j.neuroimage.2017.10.034",
    colour="#009E73",
    params=Params,
    plan=plan,
    external=ExternalProgram(
        "fsl_deface",
        _command,
        "install FSL 6 (fsl.fmrib.ox.ac.uk)",
        FslDefaceProgramParams,
        version=version_in_file("etc/fslversion"),
    ),
)
