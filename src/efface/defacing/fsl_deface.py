"""FSL_deface: a mask of face and ears in standard space is carried to the scan, and whatever it touches is removed.

References
----------
Alfaro-Almagro et al. "Image processing and quality control for the first 10,000 brain imaging datasets from UK
Biobank." NeuroImage 166 (2018) 400-424.
"""

from dataclasses import dataclass

import numpy as np

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.parameters import param
from efface.spatial import resampling
from efface.spatial.types import Volume

TOUCHED = 1e-3
"""Trilinear mask values above this are non-zero: the voxel is removed."""
CERTAIN = 0.5


@dataclass(frozen=True)
class Params:
    """Parameters of FSL_deface.

    Attributes
    ----------
    nudge
        Moves the mask by (x, y, z) in standard space, right, forward and up, as the published program's ``-nud``.
    """

    nudge: tuple[float, float, float] = param(
        (0.0, 0.0, 0.0), "moves the mask right, forward and up in standard space", unit="mm"
    )


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what FSL_deface removes.

    Parameters
    ----------
    anatomy
        Of the scan; the registration of the average head is used, and the brain mask for the published check.
    params
        See `Params`.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    The published mask is drawn in MNI space with a big field of view, and FLIRT carries it to the scan. Ours is made
    from development heads (`efface.training.priors`), and greedy carries it. As published, the number of voxels that
    are face by more than a half and brain too is given, as a warning.
    """
    shift = np.array(params.nudge)
    mask = templates.prior("face_and_ears")
    moved = mask.affine.copy()
    moved[:3, 3] += shift
    to_average = np.asarray(np.linalg.inv(anatomy.average_to_scan), dtype=np.float64)
    share = resampling.resample(Volume(mask.data, moved), anatomy.scan.grid, to_average)
    in_brain = int(np.count_nonzero((share > CERTAIN) & anatomy.brain))
    warnings = (f"fsl_deface: {in_brain} voxels of the brain mask lie inside the face mask",) if in_brain else ()
    record = {"nudge": shift.tolist(), "brain_voxels": in_brain}
    return Edit(share > TOUCHED, 0.0, "fsl_deface", params=record, warnings=warnings)
