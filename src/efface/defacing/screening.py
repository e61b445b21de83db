"""Checks of a scan that every method needs: that it is not skull-stripped, and that it has a face."""

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.errors import AnatomyError

SCALP_MM = 6.0
LEAST_SCALP = 0.15
"""Head farther than `SCALP_MM` from the brain, relative to the brain's volume: about 1 in whole heads, 0 in
skull-stripped ones."""


def refuse_stripped(anatomy: HeadAnatomy) -> None:
    """Refuse a skull-stripped scan.

    Raises
    ------
    AnatomyError
        If the head outside the brain is smaller than `LEAST_SCALP` of the brain.
    """
    scalp_voxels = np.count_nonzero(anatomy.head & (anatomy.brain_distance_mm > SCALP_MM))
    scalp_fraction = scalp_voxels / np.count_nonzero(anatomy.brain)
    if scalp_fraction < LEAST_SCALP:
        msg = (
            f"the head outside the brain is {scalp_fraction:.0%} of the brain's volume; "
            f"expected at least {LEAST_SCALP:.0%}: the scan is skull-stripped and has no face; give the whole head"
        )
        raise AnatomyError(msg)


def missing_face_warnings(anatomy: HeadAnatomy) -> tuple[str, ...]:
    """Warn of a scan in which the landmark network finds neither nose nor mouth."""
    if {landmark.name for landmark in anatomy.landmarks} & {"nose", "mouth"}:
        return ()
    return (
        "neither nose nor mouth was found: this scan was probably defaced before, or its field of view ends in the "
        "face; look at the result",
    )
