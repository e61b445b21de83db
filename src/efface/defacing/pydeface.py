"""PyDeface: register the average head to the scan, and multiply the intensities by its face mask.

References
----------
Gulban et al. "poldracklab/pydeface: PyDeface v2.0.2" (2022), doi 10.5281/zenodo.6856482.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.external_process import printed_version
from efface.defacing.method import DefacingMethod, ExternalParams, ExternalProgram, Workspace
from efface.spatial import resampling
from efface.spatial.affine import invert
from efface.spatial.types import Affine, Volume

NEGLIGIBLE = 1e-3
"""Voxels from which less than this fraction is removed do not change (interpolation of ones gives 0.9999...)."""


@dataclass(frozen=True)
class Params:
    """Parameters of PyDeface.

    Attributes
    ----------
    outside
        ``remove`` (as the external program) also removes what lies outside the field of view of the face mask, such
        as a low neck; ``keep`` leaves it unchanged.
    """

    outside: str = field(
        default="remove",
        metadata={"help": "what happens outside the field of view of the face mask", "choices": ("remove", "keep")},
    )


@dataclass(frozen=True)
class PydefaceProgramParams(ExternalParams):
    """Parameters of the program ``pydeface``; none: its own defaults."""

    cost: str | None = field(default=None, metadata={"help": "cost function of FLIRT"})
    template: Path | None = field(default=None, metadata={"help": "image that the scan is registered to"})
    facemask: Path | None = field(default=None, metadata={"help": "face mask on the grid of the template"})


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what PyDeface removes.

    Parameters
    ----------
    anatomy
        Of the scan; its registration to the average head is used.
    params
        See `Params`.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    As in the external program, the mask is interpolated trilinearly and not made binary again; at its border
    intensities fade. The external program's final fit by FLIRT maximises mutual information over the whole image (its
    search, the correlation ratio). This implementation refines its registration by mutual information (normalised) over
    the whole image too. On most heads the refined registration fits the brain
    slightly worse than the anatomy's registration, which all other methods use. If the refinement fails, the
    anatomy's registration is used, with a warning.
    """
    face = templates.average_face_mask()
    average_to_scan, warnings = _average_to_scan(anatomy)
    # Interpolate the removed fraction, not the kept one: then the fill outside the field of view is exact.
    removal = Volume(1.0 - face.data, face.affine)
    fill = 1.0 if params.outside == "remove" else 0.0
    removed = resampling.resample(removal, anatomy.scan.grid, invert(average_to_scan), fill=fill)
    mask = removed > NEGLIGIBLE
    values = anatomy.image.data[mask] * (1.0 - removed[mask]) + anatomy.background.air
    return Edit(mask, values.astype(np.float32), "pydeface", params=asdict(params), warnings=warnings)


def _average_to_scan(anatomy: HeadAnatomy) -> tuple[Affine, tuple[str, ...]]:
    """Average head mm to scan mm by mutual information of the whole image, and warnings."""
    refined = anatomy.registration_mi
    if refined.converged:
        return refined.matrix, ()
    return anatomy.average_to_scan, (f"the registration was not refined for the face mask: {refined.reason}",)


def _command(program: Path, files: Workspace, params: PydefaceProgramParams) -> Sequence[str | Path]:
    options: list[str | Path] = [] if params.cost is None else ["--cost", params.cost]
    for name, path in (("--template", params.template), ("--facemask", params.facemask)):
        options += [] if path is None else [name, path.absolute()]
    return [program, files.scan, "--outfile", files.output, "--force", *options]


METHOD = DefacingMethod(
    name="pydeface",
    title="PyDeface",
    summary="removes the face mask of an average head that is registered to the scan",
    citation="gulban2022",
    reference="Gulban et al. 2022, doi 10.5281/zenodo.6856482",
    colour="#0072B2",
    params=Params,
    plan=plan,
    external=ExternalProgram(
        "pydeface",
        _command,
        "pip install pydeface, and FSL (fsl.fmrib.ox.ac.uk) with FSLDIR set",
        PydefaceProgramParams,
        version=printed_version("--help"),
    ),
)
