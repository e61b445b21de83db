"""Where a scan is in the template, and from which voxels its intensities are scaled: by its brain, or by its whole head.

By its brain, removing the face hardly changes either. By its whole head, both see the face, as in the published
pipeline: the head is registered to the average head, N4 runs over the head, and intensities are z-scored where the
template has brain, wherever that affine puts it. The brain mask is the scan's own in both.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from efface.errors import RegistrationError
from efface.segmentation.brain_alignment import AVERAGE_TO_TEMPLATE
from efface.segmentation.braincolor_template import load_template
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.preprocessing import MINIMUM_BRAIN_VOX, scan_to_template
from efface.spatial.affine import invert
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, Grid, Volume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy


@dataclass(frozen=True, eq=False)
class Alignment:
    """How a scan is brought to the template.

    Attributes
    ----------
    to_template
        Scan mm to template mm, shape (4, 4).
    field
        Voxels of the scan in which the bias field is estimated, and
    template
        Brain of the template, in which intensities are z-scored: both None for the brain mask.
    """

    to_template: Affine
    field: BoolVolume | None = None
    template: Volume | None = None

    def scored_on(self, grid: Grid, to_template: Affine) -> BoolVolume | None:
        """Voxels of a grid in which intensities are z-scored; None for the brain mask.

        Parameters
        ----------
        grid
            The grid.
        to_template
            Its mm to template mm, shape (4, 4).

        Raises
        ------
        RegistrationError
            If hardly any of the template's brain is on the grid.
        """
        if self.template is None:
            return None
        inside: BoolVolume = resample(self.template, grid, to_template) > 0.5
        if np.count_nonzero(inside) < MINIMUM_BRAIN_VOX:
            msg = (
                f"by the whole head, {np.count_nonzero(inside)} voxels of the template's brain lie in the brain; "
                f"expected at least {MINIMUM_BRAIN_VOX}: use align=brain"
            )
            raise RegistrationError(msg)
        return inside


def aligned(anatomy: "HeadAnatomy", params: SlantParams, warnings: list[str]) -> Alignment:
    """Align a scan as its parameters say.

    Parameters
    ----------
    anatomy
        Anatomy of the scan.
    params
        Which alignment.
    warnings
        Warnings are added here.

    Raises
    ------
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template or the average head does not fit.
    """
    if params.align == "no":
        return Alignment(np.eye(4))
    if params.align == "brain":
        return Alignment(scan_to_template(anatomy, warnings))
    template = load_template()
    inside = Volume((template.data > 0).astype(np.float32), template.affine)
    return Alignment(head_to_template(anatomy), anatomy.head, inside)


def head_to_template(anatomy: "HeadAnatomy") -> Affine:
    """Register the whole head, with skin, skull and face where it has one, to the average head, and so to the template.

    Parameters
    ----------
    anatomy
        Anatomy of the scan.

    Returns
    -------
    numpy.ndarray
        Scan mm to template mm, shape (4, 4).

    Raises
    ------
    RegistrationError
        If the scan shows a brain without its head, or the average head does not fit.
    """
    if anatomy.shows_brain_alone:
        msg = "the scan shows a brain without its head, so it cannot be aligned by the whole head: use align=brain"
        raise RegistrationError(msg)
    found = anatomy.registration_mi
    if not found.converged:
        msg = f"the whole head could not be registered to the average head: {found.reason}; use align=brain"
        raise RegistrationError(msg)
    return np.asarray(AVERAGE_TO_TEMPLATE @ invert(found.matrix), dtype=np.float64)
