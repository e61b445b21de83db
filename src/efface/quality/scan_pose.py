"""The pose of a head whose image may be defaced: the one that registration is sure of, or the next best with a doubt."""

from dataclasses import dataclass

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_pose import AGREE_MM, CONSISTENT_MM, CONSISTENT_SHARE, implausible, residuals_mm, similarity
from efface.anatomy.pose_prediction import GRID_MM, predict
from efface.spatial.affine import apply_affine
from efface.spatial.types import Affine

LEAST_ML = 400.0
"""Less tissue that looks like a head to the network says nothing about how it lies."""
LEAST_CORRELATION = 0.5
"""Of a registration that the network's pose confirms: T2-weighted heads without a face correlate less with the average
head (0.56 to 0.65 were seen) and lie right all the same."""


@dataclass(frozen=True, eq=False)
class ScanPose:
    """How the head in an image lies.

    Attributes
    ----------
    average_to_scan
        Average-head mm to scan mm, shape (4, 4).
    doubt
        Why the pose may be wrong; empty where two witnesses agree on it.
    """

    average_to_scan: Affine
    doubt: str


def pose_of(anatomy: HeadAnatomy) -> ScanPose:
    """Find how a head lies.

    Notes
    -----
    Registration asks for a correlation that heads of some contrasts do not reach once they are defaced. A pose below it
    is believed where the pose network, which does not compare intensities, says the same.
    """
    found = anatomy.registration
    if found.converged:
        return ScanPose(found.matrix, "")
    seen = predict(anatomy.image)
    head_ml = len(seen.points_mm) * GRID_MM**3 / 1000
    if head_ml < LEAST_ML:
        return ScanPose(found.matrix, found.reason)
    expected = similarity(seen)
    off = apply_affine(found.matrix - expected, seen.average_mm[::5])
    apart_mm = float(np.sqrt((off**2).sum(axis=1).mean()))
    consistent = float((residuals_mm(seen, expected) < CONSISTENT_MM).mean())
    confirmed = (
        found.score >= LEAST_CORRELATION
        and apart_mm <= AGREE_MM
        and consistent >= CONSISTENT_SHARE
        and not implausible(found.matrix)
    )
    matrix = found.matrix if confirmed else expected
    return ScanPose(matrix, "" if confirmed else found.reason)
