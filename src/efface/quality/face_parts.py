"""Where the parts of a face are on its relief, and which of them a scan shows."""

import functools
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from efface.anatomy import templates
from efface.anatomy.skin import skin_threshold
from efface.quality.relief import RAY_MM, Y_MM, Map, Relief, find_relief, x_mm, z_mm
from efface.spatial.types import BoolVolume

PARTS: Mapping[str, tuple[float, float, float, float]] = MappingProxyType(
    {
        "right eye": (10.0, 50.0, -50.0, -12.0),
        "left eye": (-50.0, -10.0, -50.0, -12.0),
        "nose": (-26.0, 26.0, -88.0, -34.0),
        "mouth": (-32.0, 32.0, -114.0, -80.0),
    }
)
"""Average-head mm: least and largest x, least and largest z. A face is recognised by these; ears decide nothing."""
GAP_MM = 8.0
"""Where the two sides of the average head differ by more, its skin has a gap."""
IN_VIEW = 0.6
"""Share of a part's place in the field of view from which the part can be judged."""


@functools.cache
def average_relief() -> Map:
    """The relief of the average head, the same on both sides, mm.

    The average head has a gap in its skin beside one eye: there the other side counts.
    """
    head = templates.average_head()
    depth = find_relief(head, np.eye(4), skin_threshold(head)).depth
    low, high = np.fmin(depth, depth[::-1]), np.fmax(depth, depth[::-1])
    return np.asarray(np.where(high - low > GAP_MM, high, (low + high) / 2))


@functools.cache
def place_of(part: str) -> BoolVolume:
    """Which rays meet a part, shape (x, z)."""
    low_x, high_x, low_z, high_z = PARTS[part]
    x, z = x_mm()[:, None], z_mm()
    return np.asarray((x >= low_x) & (x < high_x) & (z >= low_z) & (z < high_z), dtype=np.bool_)


def in_view(relief: Relief, part: str) -> float:
    """Share of a part's place, in an average face, that lies in the field of view."""
    at = place_of(part)
    front = np.minimum(np.nan_to_num(average_relief()[at]), Y_MM[1] - RAY_MM)
    return float((relief.first_seen[at] >= front).mean())
