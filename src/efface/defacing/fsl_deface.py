"""FSL_deface: bring a mask of face and ears from standard space to the scan, and remove what is in it.

The mask is drawn here, of the same kind as FSL's: a slab in front of the face in three steps, and a block at each ear.
Its planes are given in mm in a frame on the average head.

References
----------
Alfaro-Almagro et al. "Image processing and quality control for the first 10,000 brain imaging datasets from UK
Biobank." NeuroImage 166 (2018) 400-424.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.external_process import version_in_file
from efface.defacing.method import DefacingMethod, ExternalParams, ExternalProgram, Workspace
from efface.spatial.affine import apply_affine, invert
from efface.spatial.types import Affine, BoolVolume, Grid
from efface.wording import counted

ENDLESS = np.inf
YAW_DEG, PITCH_DEG = -5.0, 3.0
"""The average head looks to its right by the first; the cuts lean back by the second."""
MIDDLE_MM = -6.5
"""x of the plane of symmetry of the average head, where it passes between the ears."""


class Block(NamedTuple):
    """A box in the frame of the mask, mm; `side` is the distance from the plane of symmetry."""

    side: tuple[float, float]
    front: tuple[float, float]
    height: tuple[float, float]


BLOCKS = (
    Block(side=(0, 45), front=(98, ENDLESS), height=(-35, 5)),  # brow and bridge of the nose
    Block(side=(0, 55), front=(82, ENDLESS), height=(-80, -35)),  # nose, cheeks and upper lip
    Block(side=(0, 55), front=(66, ENDLESS), height=(-130, -80)),  # mouth and chin; what is under the chin stays
    Block(side=(72, ENDLESS), front=(-45, 45), height=(-50, 10)),  # upper part of the ears
    Block(side=(62, ENDLESS), front=(-45, 45), height=(-110, -50)),  # lobes and the skin below them
)
"""What is removed: Dice 0.87 to 0.94 inside the head with what FSL's mask removes in six development heads."""


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
    The external program's mask is drawn in MNI space with an extended field of view and registered with FLIRT; ours is
    in the space of the average head, registered with greedy. As published, a warning gives the number of brain voxels
    in the mask.
    """
    removed = in_blocks(anatomy.scan.grid, invert(anatomy.average_to_scan), params.nudge)
    in_brain = int(np.count_nonzero(removed & anatomy.brain))
    inside = f"fsl_deface: in the face mask: {counted(in_brain, 'voxel')} of the brain mask"
    warnings = (inside,) if in_brain else ()
    record = {"nudge": list(params.nudge), "brain_voxels": in_brain}
    return Edit(removed, anatomy.background.air, "fsl_deface", params=record, warnings=warnings)


def in_blocks(grid: Grid, to_average: Affine, nudge: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> BoolVolume:
    """Voxels whose centre is in one of the `BLOCKS`.

    Parameters
    ----------
    grid
        Of the scan.
    to_average
        Scan mm to average head mm, RAS+, shape (4, 4).
    nudge
        Moves the blocks right, forward and up, in mm of the average head.
    """
    to_frame = invert(_frame(nudge)) @ to_average @ grid.affine
    inside = np.zeros(grid.shape, dtype=np.bool_)
    plane = np.moveaxis(np.indices((1, *grid.shape[1:])), 0, -1).astype(np.float64)
    for index in range(grid.shape[0]):
        plane[..., 0] = index
        mm = apply_affine(to_frame, plane[0].reshape(-1, 3))
        inside[index] = _in_blocks(mm).reshape(grid.shape[1:])
    return inside


def _in_blocks(mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    side, front, height = np.abs(mm[:, 0]), mm[:, 1], mm[:, 2]
    inside = np.zeros(len(mm), dtype=np.bool_)
    for block in BLOCKS:
        inside |= _within(side, block.side) & _within(front, block.front) & _within(height, block.height)
    return inside


def _within(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (values >= limits[0]) & (values < limits[1])
    return inside


def _frame(nudge: tuple[float, float, float]) -> Affine:
    """Frame of the mask to average head mm."""
    frame = np.eye(4)
    frame[:3, :3] = Rotation.from_euler("ZX", [YAW_DEG, PITCH_DEG], degrees=True).as_matrix()
    frame[:3, 3] = np.array([MIDDLE_MM, 0.0, 0.0]) + nudge
    return frame


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
