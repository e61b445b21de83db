"""Slices of a scan before and after, and of the edit over it, as JPEG."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from efface.spatial.types import BoolVolume, FloatVolume

PLANES = ("sagittal", "coronal", "axial")
EDIT_COLOUR = (213, 94, 0)
EDIT_OPACITY = 0.55
GAP = 4


@dataclass(frozen=True)
class Views:
    """Volumes of one scan and method on one RAS+ grid.

    Attributes
    ----------
    before
        The original, intensities above its air's, or None where it may not be shown.
    after
        The defaced scan, likewise.
    mask
        Edited region.
    brain
        Brain mask of the original, or None.
    spacing_mm
        Voxel edge lengths, shape (3,).
    """

    before: FloatVolume | None
    after: FloatVolume
    mask: BoolVolume
    brain: BoolVolume | None
    spacing_mm: NDArray[np.float64]


def strip(views: Views, plane: str, height_px: int, *, quality: int = 80) -> bytes:
    """One row of pictures: before, edit in colour, after; or the last two where the original may not be shown.

    Parameters
    ----------
    views
        What to show.
    plane
        One of `PLANES`; it goes through the middle of the brain (sagittal) or of the edit.
    height_px
        Height of the row.
    quality
        Of the JPEG.
    """
    axis = PLANES.index(plane)
    index = _where(views, axis)
    top = brightest(views.after if views.before is None else views.before)
    after = grey_slice(views.after, axis, index, top)
    under = after if views.before is None else grey_slice(views.before, axis, index, top)
    edit = turned(np.take(views.mask, index, axis=axis))
    overlay = under.copy()
    overlay[edit] = (1 - EDIT_OPACITY) * overlay[edit] + EDIT_OPACITY * np.array(EDIT_COLOUR)
    panels = [overlay, after] if views.before is None else [under, overlay, after]
    spacing = np.delete(views.spacing_mm, axis)
    tall_mm, wide_mm = edit.shape[0] * spacing[1], edit.shape[1] * spacing[0]
    size = (max(1, round(height_px * wide_mm / tall_mm)), height_px)
    row = Image.new("RGB", (len(panels) * (size[0] + GAP) - GAP, height_px))
    for place, panel in enumerate(panels):
        picture = Image.fromarray(np.clip(panel, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        row.paste(picture, (place * (size[0] + GAP), 0))
    buffer = BytesIO()
    row.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _where(views: Views, axis: int) -> int:
    edited = views.mask.any()
    return middle(views.brain if views.brain is not None and (axis == 0 or not edited) else views.mask, axis)


def middle(mask: BoolVolume, axis: int) -> int:
    """Index along an axis that has half of a mask on either side; the middle of the volume for an empty mask."""
    profile = mask.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.float64)
    if not profile.any():
        return int(mask.shape[axis] // 2)
    return int(np.searchsorted(np.cumsum(profile), profile.sum() / 2))


def brightest(volume: FloatVolume) -> float:
    """Intensity that is drawn white."""
    inside = volume[volume > 0]
    return float(np.percentile(inside, 99.5)) if inside.size else 1.0


def grey_slice(volume: FloatVolume, axis: int, index: int, top: float) -> NDArray[np.float32]:
    """A slice in grey, RGB from 0 to 255, shape (rows, columns, 3)."""
    plane = turned(np.take(volume, index, axis=axis)) / top * 255
    return np.repeat(np.clip(plane, 0, 255)[..., None], 3, axis=-1).astype(np.float32)


def turned(plane: NDArray[Any]) -> NDArray[Any]:
    """Turn a plane of an RAS+ volume for drawing: its second axis (P-A or I-S) becomes rows, from the top."""
    return plane.T[::-1]
