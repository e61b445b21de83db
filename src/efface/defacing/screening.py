"""Is there a face to remove? What every method asks of a scan before it decides."""

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.errors import AnatomyError

SCALP_MM = 6.0
LEAST_SCALP = 0.15
"""Head further than `SCALP_MM` from the brain, relative to the brain: about 1 in whole heads, 0 in stripped ones."""


def refuse_stripped(anatomy: HeadAnatomy) -> None:
    """Refuse a scan that holds hardly more than a brain.

    Raises
    ------
    AnatomyError
        If so.
    """
    scalp = np.count_nonzero(anatomy.head & (anatomy.brain_distance_mm > SCALP_MM))
    share = scalp / np.count_nonzero(anatomy.brain)
    if share < LEAST_SCALP:
        msg = (
            f"the head outside the brain is {share:.0%} of the brain's volume; expected at least {LEAST_SCALP:.0%}: "
            "the scan is skull-stripped and has no face to remove; give the whole head"
        )
        raise AnatomyError(msg)


def missing_face(anatomy: HeadAnatomy) -> tuple[str, ...]:
    """Warn of a scan in which neither nose nor mouth is found (by Defacer's network)."""
    if {feature.name for feature in anatomy.landmarks} & {"nose", "mouth"}:
        return ()
    return (
        "neither nose nor mouth was found: this scan was probably defaced before, or its field of view ends in the "
        "face; look at the result",
    )
