"""Where the features of a face are in the average head: simple shapes, drawn by hand on its slices.

RAS+ mm of the average head. It is turned a little: the face's midline is at x = +1 mm, the back of the head at -6 mm.
Shapes are drawn generously along the skin; what of them is tissue is for each head's own mask to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid along the axes: centre and radii in mm."""

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]

    def contains(self, points_mm: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether points, shape (..., 3), lie inside."""
        scaled = (points_mm - np.array(self.centre_mm)) / np.array(self.radii_mm)
        return np.asarray((scaled**2).sum(axis=-1) <= 1, dtype=np.bool_)


@dataclass(frozen=True)
class Box:
    """A box along the axes: lower and upper corner in mm."""

    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]

    def contains(self, points_mm: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether points, shape (..., 3), lie inside."""
        above, below = points_mm >= np.array(self.low_mm), points_mm <= np.array(self.high_mm)
        return np.asarray((above & below).all(axis=-1), dtype=np.bool_)


FEATURES: Mapping[str, tuple[Ellipsoid | Box, ...]] = MappingProxyType(
    {
        "eyes": (
            Ellipsoid((-30.0, 78.0, -30.5), (13.5, 13.5, 13.0)),
            Ellipsoid((29.5, 75.0, -31.0), (13.5, 13.5, 13.0)),
        ),
        "nose": (Box((-19.0, 93.0, -80.0), (22.0, 130.0, -38.0)),),
        "mouth": (Box((-27.0, 88.0, -102.0), (29.0, 125.0, -82.0)),),
        "ears": (
            Ellipsoid((-88.0, -6.5, -46.5), (45.0, 17.0, 32.0)),
            Ellipsoid((85.0, -21.0, -51.5), (45.0, 17.0, 32.0)),
        ),
    }
)
"""Left and right of eyes and ears are separate shapes, left (x < 0) first; of ears, what is near the skin."""
EAR_DEPTH_MM = 6.0

EARS_REACH = (Box((-125.0, -36.0, -86.0), (-66.0, 24.0, -8.0)), Box((57.0, -46.0, -88.0), (118.0, 14.0, -10.0)))
"""Where ears that stand out from the head can be: they vary more than an affine and a smooth warp follow."""

BROW_MM = (95.0, -12.0)
"""(y, z) of the brow ridge on the midline: the face begins below it."""
CHIN_Z_MM = -135.0
"""Where the face ends below; the average head's own field of view ends at -122 mm, in the chin."""


def face_zone(points_mm: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether points, shape (..., 3), lie in the region of the face: below the brow, in front, down to the chin.

    Notes
    -----
    The zone's upper border rises forward from the orbits' roof to the brow, so that the frontal lobe stays above it;
    its rear border runs from the lateral rim of the orbit down and back to the angle of the jaw.
    """
    x, y, z = (points_mm[..., i] for i in range(3))
    brow_y, brow_z = BROW_MM
    below_brow = z < brow_z - 0.25 * np.clip(brow_y - y, 0, None)
    lateral = np.abs(x - 1.0)
    in_front = y > 62.0 - 0.35 * np.clip(lateral - 20.0, 0, None)
    zone: NDArray[np.bool_] = below_brow & in_front & (z > CHIN_Z_MM)
    return zone
