"""PyDeface: the average head is registered to the scan, and its face mask multiplies the intensities.

References
----------
Gulban et al. "poldracklab/pydeface: PyDeface v2.0.2" (2022), doi 10.5281/zenodo.6856482.
"""

from dataclasses import asdict, dataclass

import numpy as np

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.parameters import param
from efface.spatial import resampling
from efface.spatial.types import Affine, Volume

OUTSIDE = ("remove", "keep")
NEGLIGIBLE = 1e-3
"""A mask value this close to one leaves the voxel alone (interpolation of ones gives 0.9999...)."""


@dataclass(frozen=True)
class Params:
    """Parameters of PyDeface.

    Attributes
    ----------
    outside
        ``remove`` (as the published program) also removes what lies outside the mask's field of view, such as a low
        neck; ``keep`` spares it.
    """

    outside: str = param("remove", "what lies outside the mask's field of view, such as a low neck", choices=OUTSIDE)


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what PyDeface removes.

    Parameters
    ----------
    anatomy
        Of the scan; the registration of the average head is used.
    params
        See `Params`.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    The mask is interpolated trilinearly and not made binary again, as in the original; at its border intensities
    fade. The original registers with FLIRT's correlation ratio, a cost over the whole image; so this one refines
    the position of the average head with a cost over the whole image too (mutual information), because that puts
    the mask where the original puts it. On most heads the brain alone is fitted slightly worse by it than by the
    anatomy's own position, which all else uses; where it fails, that position is used, with a warning.
    """
    face = templates.average_face_mask()
    average_to_scan, warnings = _average_to_scan(anatomy)
    to_average = np.asarray(np.linalg.inv(average_to_scan), dtype=np.float64)
    # Interpolate what is removed, so that the fill outside the field of view is exact either way.
    removal = Volume(1.0 - face.data, face.affine)
    fill = 1.0 if params.outside == "remove" else 0.0
    removed = resampling.resample(removal, anatomy.scan.grid, to_average, fill=fill)
    mask = removed > NEGLIGIBLE
    values = anatomy.scan.data[mask] * (1.0 - removed[mask])
    return Edit(mask, values.astype(np.float32), "pydeface", params=asdict(params), warnings=warnings)


def _average_to_scan(anatomy: HeadAnatomy) -> tuple[Affine, tuple[str, ...]]:
    """Average head mm to scan mm by the whole image's mutual information, and what to warn of."""
    refined = anatomy.registration_mi
    if refined.converged:
        return refined.matrix, ()
    return anatomy.average_to_scan, (f"the average head's position was not refined for the face mask: {refined.reason}",)
