"""FSL_deface: a mask of face and ears in standard space is carried to the scan, and whatever it touches is removed.

References
----------
Alfaro-Almagro et al. "Image processing and quality control for the first 10,000 brain imaging datasets from UK
Biobank." NeuroImage 166 (2018) 400-424.
"""

from collections.abc import Sequence

import numpy as np

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.errors import InputError
from efface.spatial import registration
from efface.spatial.types import Volume

TOUCHED = 1e-3
"""Trilinear mask values above this are non-zero: the voxel is removed."""
CERTAIN = 0.5


def plan(anatomy: HeadAnatomy, *, nudge: Sequence[float] = (0.0, 0.0, 0.0)) -> Edit:
    """Decide what FSL_deface removes.

    Parameters
    ----------
    anatomy
        Of the scan; the position of the average head is used, and the brain mask for the published check.
    nudge
        Moves the mask by (x, y, z) mm in standard space, right, forward and up, as the original's ``-nud``.

    Raises
    ------
    InputError
        If `nudge` is not three numbers.
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    The original's mask is drawn in MNI space with a big field of view, and FLIRT brings it; ours is made from
    development heads (`efface.training.priors`), and greedy brings it. As published, the number of voxels that are
    face by more than a half and brain too is given, as a warning.
    """
    shift = three_numbers(nudge)
    mask = templates.prior("face_and_ears")
    moved = mask.affine.copy()
    moved[:3, 3] += shift
    to_average = np.asarray(np.linalg.inv(anatomy.average_to_scan), dtype=np.float64)
    share = registration.resample(Volume(mask.data, moved), anatomy.scan.grid, to_average)
    in_brain = int(np.count_nonzero((share > CERTAIN) & anatomy.brain))
    warnings = (f"fsl_deface: {in_brain} voxels of the brain mask lie inside the face mask",) if in_brain else ()
    params = {"nudge": shift.tolist(), "brain_voxels": in_brain}
    return Edit(share > TOUCHED, 0.0, "fsl_deface", params=params, warnings=warnings)


def three_numbers(nudge: Sequence[float] | str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Give x, y, z of a sequence, or of a text with commas.

    Raises
    ------
    InputError
        If they are not three finite numbers.
    """
    try:
        if isinstance(nudge, str):
            nudge = [float(part) for part in nudge.split(",")]
        x, y, z = (float(value) for value in nudge)
    except (TypeError, ValueError) as error:
        msg = f"nudge must be three numbers in mm (x, y, z); received {nudge}"
        raise InputError(msg) from error
    shift = np.array([x, y, z])
    if not np.isfinite(shift).all():
        msg = f"nudge must be three numbers in mm (x, y, z); received {nudge}"
        raise InputError(msg)
    return shift
