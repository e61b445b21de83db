"""Two attacks by the shape of the skin: of the face region, and of all that is left of the head.

References
----------
Schwarz et al. "Identification of anonymous MRI research participants with face-recognition software." NEJM 381 (2019),
1684-1686 (people are found again by their faces in MRI).
"""

import numpy as np

from efface.privacy.attack import Attack
from efface.privacy.closest_fit import Target, misfit_mm
from efface.privacy.placed_head import PlacedHead
from efface.privacy.skin_points import Points, SkinPoints

FACE_LOW_MM, FACE_HIGH_MM = (-65.0, 0.0, -130.0), (65.0, 150.0, -15.0)
"""The face region, upright mm: in front of the ears, from the chin to the brows; every method leaves the forehead."""
NECK_MM = -90.0
"""Below this, upright mm, necks bend and fields of view end."""
LEAST_POINTS = 150
"""Fewer points say nothing."""


def enrol(head: PlacedHead) -> Target | None:
    """What an attacker keeps of an original: its whole outer surface."""
    return Target.of(head.skin) if len(head.skin) >= LEAST_POINTS else None


def face_points(head: PlacedHead) -> Points | None:
    """What rays from the front meet in the face region, upright mm, shape (n, 3)."""
    skin = head.skin
    low, high = np.array(FACE_LOW_MM), np.array(FACE_HIGH_MM)
    inside = ((skin.points >= low) & (skin.points <= high)).all(axis=1)
    return _enough(skin.where(inside & skin.from_front))


def head_points(head: PlacedHead) -> Points | None:
    """The whole outer surface above the neck, ears included, upright mm, shape (n, 3)."""
    return _enough(head.skin.where(head.skin.points[:, 2] >= NECK_MM))


def _enough(skin: SkinPoints) -> Points | None:
    return skin.points if len(skin) >= LEAST_POINTS else None


REFERENCE = "Schwarz et al. 2019"

FACE = Attack(
    name="geometry_face",
    title="Shape of the face region",
    summary="the surface that rays from the front meet in the face region, fitted on every original",
    reference=REFERENCE,
    enrol=enrol,
    look=face_points,
    distance=misfit_mm,
)
HEAD = Attack(
    name="geometry_head",
    title="Shape of all that is left",
    summary="the whole outer surface above the neck, ears included, fitted on every original",
    reference=REFERENCE,
    enrol=enrol,
    look=head_points,
    distance=misfit_mm,
)
