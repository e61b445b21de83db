"""The tissue below the face whose volume `efface.defacing.reshape` keeps: simple shapes, and all that lies deep.

A face that gets another size pushes on what is below. Fat between skin and muscle gives way; tongue, jaw, airway and
orbits are what people measure, so they do not.
"""

import numpy as np
from scipy import ndimage

from efface.defacing.reshape_target import Shapes, average_shape, frame_mm, smooth_step
from efface.spatial.types import BoolVolume, FloatVolume

DEEP_MM, DEEP_HELD = (4.0, 8.0), 0.3
"""Depths below the average skin from which tissue is held, and is held fully; and how much, beside the shapes' 1."""
SHAPES_BLUR_MM = 2.0
FREE_MM = 2.0
"""So deep below the new skin the displacement may change: not at the skin."""
FREE_ALLOWED = 0.5
"""And where at least so much of it is allowed: not towards the brain, or behind the face."""


def tissues() -> dict[str, BoolVolume]:
    """Orbit, tongue, jaw and airway: simple shapes on the average head, each on the frame."""
    x, y, z = frame_mm()
    deep = average_shape()
    tongue = _ball((0, 60, -88), (22, 28, 20))
    throat = (x**2 + (y - 22) ** 2 < 64) & (z > -110) & (z < -55)
    return {
        "orbit": (_ball((32, 72, -27), (18, 22, 17)) | _ball((-32, 72, -27), (18, 22, 17))) & (deep > 2),
        "tongue": tongue,
        "jaw": (deep > 6) & (deep < 24) & (z > -118) & (z < -84) & (y > 20) & ~tongue,
        "airway": throat | _ball((0, 70, -55), (14, 28, 18)),
    }


def _ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> BoolVolume:
    parts = [((axis - c) / r) ** 2 for axis, c, r in zip(frame_mm(), centre, radii, strict=True)]
    return np.asarray(parts[0] + parts[1] + parts[2] < 1)


def held(shapes: Shapes) -> FloatVolume:
    """How much the volume of each voxel of the frame counts, 0 to 1."""
    named = np.any(list(tissues().values()), axis=0).astype(np.float32)
    named = ndimage.gaussian_filter(named, SHAPES_BLUR_MM / shapes.grid.spacing_mm)
    deep = DEEP_HELD * smooth_step(average_shape(), DEEP_MM)
    return np.asarray(np.maximum(named, deep), dtype=np.float32)


def free(shapes: Shapes) -> BoolVolume:
    """Where the displacement may change without moving the skin or coming near the brain, on the frame."""
    return np.asarray((shapes.wanted > FREE_MM) & (shapes.allowed > FREE_ALLOWED))
