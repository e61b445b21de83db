"""Whether a face is the one that reshape gives to everybody: the average shape in everybody's size, with real tissue.

Of a real face, the skin lies 0.9 to 1.8 mm from the average one where that fits best without being stretched (median),
and 2.2 to 6.3 mm in a tenth of the face (20 heads). What reshape leaves lies on it.
"""

from dataclasses import dataclass

import numpy as np

from efface.anatomy.head_shape import skin_distance
from efface.anatomy.skin import GRID_MM, smoothed
from efface.defacing import reshape_target
from efface.spatial.affine import apply_affine, invert
from efface.spatial.types import Affine, Volume

MEDIAN_MM, TENTH_MM = 0.42, 1.2
"""Largest distance from the average face: median, and in all but a tenth of the face. What reshape left of 20 heads has
0.24 to 0.33 and 0.67 to 1.16; half-way between that and the original it would be 0.51 and 1.25 or more."""
LEAST_SHOWN = 0.9
"""Share of the face that must be in the field of view: a part of it may be like the average one by chance."""


@dataclass(frozen=True)
class ReshapedLikeness:
    """How near a face is to the one that reshape gives.

    Attributes
    ----------
    median_mm, tenth_mm
        Distance of the average skin from this one: median, and exceeded by a tenth of the face; NaN where too little of
        the face is in view.
    """

    median_mm: float
    tenth_mm: float

    @property
    def is_average(self) -> bool:
        """Whether nobody has this face; False where it could not be measured."""
        return self.median_mm <= MEDIAN_MM and self.tenth_mm <= TENTH_MM

    @property
    def reason(self) -> str:
        """In words."""
        if self.is_average:
            return f"the face has the average shape that reshape gives to everybody (within {self.median_mm:.1f} mm)"
        return "the face has not the shape that reshape gives"


def of(volume: Volume, average_to_scan: Affine, threshold: float) -> ReshapedLikeness:
    """Compare a face with the one that reshape gives.

    Parameters
    ----------
    volume
        With dark air at 0.
    average_to_scan
        Pose of the head, average-head mm to scan mm; the pose of the face is found from there.
    threshold
        Intensity at the skin.
    """
    smooth = smoothed(volume, GRID_MM)
    frame = reshape_target.FRAME
    pose = reshape_target.face_pose(smooth, threshold, average_to_scan)
    own = skin_distance(smooth, threshold, frame, pose)
    average = reshape_target.average_shape()
    near = (np.abs(average) < float(frame.spacing_mm[0]) / 2) & reshape_target.core()
    index = apply_affine(invert(volume.affine) @ pose @ frame.affine, np.argwhere(near))
    in_view = ((index > -0.5) & (index < np.array(volume.data.shape) - 0.5)).all(axis=1)
    if in_view.mean() < LEAST_SHOWN:
        return ReshapedLikeness(np.nan, np.nan)
    off = np.abs(own[near] - average[near])[in_view]
    return ReshapedLikeness(float(np.median(off)), float(np.percentile(off, 90)))
