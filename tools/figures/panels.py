"""What the scripts that make the pictures share: slices, captions, rows of panels, small PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid

PICTURES = Path(__file__).parents[2] / "docs/pictures"
PLANES = ("sagittal", "coronal", "axial")
GAP_PX, CAPTION_PX, FONT_PX = 6, 26, 15
TINT, OPACITY = np.array([213.0, 94.0, 0.0]), 0.55

Panel = tuple[str, Image.Image]


def voxel_of(point_mm: Sequence[float], average_to_scan: Affine, grid: Grid) -> tuple[int, ...]:
    """Voxel of a grid that holds a point of the average head."""
    at = np.linalg.inv(grid.affine) @ average_to_scan @ np.append(point_mm, 1.0)
    return tuple(int(i) for i in np.clip(np.rint(at[:3]), 0, np.array(grid.shape) - 1))


def grey_slice(
    data: FloatVolume, plane: str, index: int, spacing_mm: NDArray[np.float64], px_per_mm: float, white: float
) -> Image.Image:
    """One slice, RAS+: up is up or front, right of an axial slice is the person's right."""
    return tinted_slice(data, None, plane, index, spacing_mm, px_per_mm, white)


def tinted_slice(
    data: FloatVolume,
    mask: BoolVolume | None,
    plane: str,
    index: int,
    spacing_mm: NDArray[np.float64],
    px_per_mm: float,
    white: float,
    colour: NDArray[np.float64] = TINT,
) -> Image.Image:
    """As `grey_slice`, with a mask over it in colour."""
    axis = PLANES.index(plane)
    grey = np.clip(np.take(data, index, axis=axis) / white, 0, 1).T[::-1] * 255
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    if mask is not None:
        where = np.take(mask, index, axis=axis).T[::-1]
        rgb[where] = (1 - OPACITY) * rgb[where] + OPACITY * colour
    wide_mm, tall_mm = np.delete(spacing_mm * np.array(data.shape), axis)
    size = (round(wide_mm * px_per_mm), round(tall_mm * px_per_mm))
    return Image.fromarray(rgb.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def row(panels: Sequence[Panel], caption_px: int = CAPTION_PX) -> Image.Image:
    """Panels beside each other, each with its caption above."""
    width = sum(p.width for _, p in panels) + GAP_PX * (len(panels) - 1)
    picture = Image.new("RGB", (width, caption_px + max(p.height for _, p in panels)), "white")
    draw, font, left = ImageDraw.Draw(picture), ImageFont.load_default(FONT_PX), 0
    for caption, panel in panels:
        picture.paste(panel, (left, caption_px))
        draw.text((left + panel.width / 2, caption_px / 2), caption, "black", font, anchor="mm")
        left += panel.width + GAP_PX
    return picture


def stack(rows: Sequence[Image.Image]) -> Image.Image:
    """Rows below each other, each centred."""
    width = max(r.width for r in rows)
    picture = Image.new("RGB", (width, sum(r.height for r in rows) + GAP_PX * (len(rows) - 1)), "white")
    top = 0
    for one in rows:
        picture.paste(one, ((width - one.width) // 2, top))
        top += one.height + GAP_PX
    return picture


def save(picture: Image.Image, name: str, *, few: bool = True) -> None:
    """Write a PNG; with `few` of at most 256 colours, which makes grey slices a third of the size."""
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / f"{name}.png"
    if few:
        picture = picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    print(f"{path.name}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")
