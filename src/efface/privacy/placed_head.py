"""A head in a known pose, as attacks look at it: nothing but the image that an attacker would have."""

import functools
from dataclasses import dataclass

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import skin_threshold
from efface.anatomy.upright import rigid_of
from efface.errors import AnatomyError
from efface.io.scan import Scan
from efface.privacy.skin_points import SkinPoints, find_skin
from efface.quality.scan_pose import LEAST_ML, pose_of
from efface.spatial.types import Affine, Volume


@dataclass(frozen=True, eq=False)
class PlacedHead:
    """A head, and how it lies.

    Attributes
    ----------
    image
        The scan with dark air at 0; what wraps around is in its place.
    average_to_scan
        Average-head mm to scan mm, found in this image alone, shape (4, 4).
    doubt
        Why the pose may be wrong; empty where two witnesses agree.
    known_threshold
        Intensity at the skin, where it need not be found.
    """

    image: Volume
    average_to_scan: Affine
    doubt: str = ""
    known_threshold: float | None = None

    @functools.cached_property
    def upright_to_scan(self) -> Affine:
        """Upright mm to scan mm, shape (4, 4): the pose without its scales, so that every head keeps its size."""
        return rigid_of(self.average_to_scan)

    @functools.cached_property
    def threshold(self) -> float:
        """Intensity at the skin.

        Raises
        ------
        InputError
            If nothing stands out.
        """
        return skin_threshold(self.image) if self.known_threshold is None else self.known_threshold

    @functools.cached_property
    def skin(self) -> SkinPoints:
        """The outer surface, upright mm."""
        return find_skin(self.image, self.upright_to_scan, self.threshold)


def place(scan: Scan) -> PlacedHead:
    """Find how the head in a scan lies, from this scan alone.

    Parameters
    ----------
    scan
        Defaced or not. A pose in doubt is used all the same, as somebody who attacks would do.

    Raises
    ------
    AnatomyError
        If the scan shows no head, or a brain alone.
    InputError
        If nothing stands out in it.
    """
    anatomy = HeadAnatomy(scan)
    if anatomy.shows_brain_alone:
        msg = "the image shows a brain without its head: there is no surface to compare"
        raise AnatomyError(msg)
    whole = anatomy.whole
    pose = pose_of(whole)
    if pose.doubt and not _is_head(whole):
        msg = f"no head was found ({pose.doubt}): it cannot be compared"
        raise AnatomyError(msg)
    return PlacedHead(whole.image, np.asarray(pose.average_to_scan, dtype=np.float64), pose.doubt)


def _is_head(anatomy: HeadAnatomy) -> bool:
    """Whether the pose network sees enough of a head to place it."""
    from efface.anatomy.pose_prediction import GRID_MM

    return len(anatomy.prediction.points_mm) * GRID_MM**3 / 1000 >= LEAST_ML
