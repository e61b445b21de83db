"""Checks of a scan that every method needs: not skull-stripped, in a pose that a person can have, and with a face."""

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_pose import implausible
from efface.defacing.method import DefacingMethod
from efface.errors import AnatomyError, RegistrationError, StrippedError
from efface.spatial.masks import within_mm

SCALP_MM = 6.0
LEAST_SCALP = 0.15
"""Head farther than `SCALP_MM` from the brain, relative to the brain's volume: about 1 in whole heads, 0 in
skull-stripped ones."""


def refuse_stripped(anatomy: HeadAnatomy) -> None:
    """Refuse a skull-stripped scan.

    Raises
    ------
    StrippedError
        If the head outside the brain is smaller than `LEAST_SCALP` of the brain.
    """
    scalp_voxels = np.count_nonzero(anatomy.head & ~within_mm(anatomy.brain, SCALP_MM, anatomy.scan.spacing_mm))
    scalp_fraction = scalp_voxels / np.count_nonzero(anatomy.brain)
    if scalp_fraction < LEAST_SCALP:
        msg = (
            f"the head outside the brain is {scalp_fraction:.0%} of the brain's volume; "
            f"expected at least {LEAST_SCALP:.0%}: the scan is skull-stripped and has no face; give the whole head"
        )
        raise StrippedError(msg)


def refuse_wrapped(anatomy: HeadAnatomy, spec: DefacingMethod) -> None:
    """Refuse a scan of which too much wraps around its border for a method.

    Raises
    ------
    AnatomyError
        In one line, with the method to take instead.
    """
    if anatomy.wrap is not None and anatomy.wrap.volume_ml > spec.most_wrapped_ml:
        msg = (
            f"{anatomy.wrap.volume_ml:.0f} ml of the head wrap around the border of the image; expected at most "
            f"{spec.most_wrapped_ml:.0f} ml for {spec.name}: take --method pydeface"
        )
        raise AnatomyError(msg)


def pose_warnings(anatomy: HeadAnatomy) -> tuple[str, ...]:
    """Refuse a scan whose header cannot be right, and warn where the pose of the head is not known.

    Methods that do not use the pose cut where the header has the front: if it lies, they cut the back of the head.

    Raises
    ------
    RegistrationError
        If the head is found in a pose that nobody can have.
    """
    pose = anatomy.registration
    if pose.converged:
        return ()
    if pose.reason and pose.reason == implausible(pose.matrix):
        raise RegistrationError(pose.reason)
    return (f"the pose of the head could not be confirmed ({pose.reason}): check the header; look at the result",)


def missing_face_warnings(anatomy: HeadAnatomy) -> tuple[str, ...]:
    """Warn of a scan in which the landmark network finds neither nose nor mouth."""
    if {landmark.name for landmark in anatomy.landmarks} & {"nose", "mouth"}:
        return ()
    return (
        "neither nose nor mouth was found: this scan was probably defaced before, or its field of view ends in the "
        "face; look at the result",
    )
