"""PyDeface: the average head is registered to the scan, and its face mask multiplies the intensities.

References
----------
Gulban et al. "poldracklab/pydeface: PyDeface v2.0.2" (2022), doi 10.5281/zenodo.6856482.
"""

import numpy as np

from efface import registration, templates
from efface.anatomy import Anatomy
from efface.arrays import Volume
from efface.deface.edit import Edit
from efface.errors import InputError

OUTSIDE = ("remove", "keep")
NEGLIGIBLE = 1e-3
"""A mask value this close to one leaves the voxel alone (interpolation of ones gives 0.9999...)."""


def plan(anatomy: Anatomy, *, outside: str = "remove") -> Edit:
    """Decide what PyDeface removes.

    Parameters
    ----------
    anatomy
        Of the scan; the position of the average head is used.
    outside
        ``remove`` (as the original) also removes what lies outside the mask's field of view, such as a low neck;
        ``keep`` spares it.

    Raises
    ------
    InputError
        If `outside` is neither.
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    The mask is interpolated trilinearly and not made binary again, as in the original; at its border intensities
    fade. The original registers with FLIRT's correlation ratio, this one with greedy's local correlation.
    """
    if outside not in OUTSIDE:
        msg = f"outside must be one of {', '.join(OUTSIDE)}; received {outside}"
        raise InputError(msg)
    face = templates.average_face_mask()
    to_average = np.asarray(np.linalg.inv(anatomy.from_average), dtype=np.float64)
    # Interpolate what is removed, so that the fill outside the field of view is exact either way.
    removal = Volume(1.0 - face.data, face.affine)
    fill = 1.0 if outside == "remove" else 0.0
    removed = registration.resample(removal, anatomy.scan.grid, to_average, fill=fill)
    mask = removed > NEGLIGIBLE
    values = anatomy.scan.data[mask] * (1.0 - removed[mask])
    return Edit(mask, values.astype(np.float32), "pydeface", params={"outside": outside})
