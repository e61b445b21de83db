"""Pictures embedded in a page."""

import base64
from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """An image to embed: a data URI, and what it shows in words."""

    uri: str
    alt: str


def png_picture(data: bytes, alt: str) -> Picture:
    """Embed a PNG file."""
    return Picture(_uri(data, "png"), alt)


def jpeg_picture(data: bytes, alt: str) -> Picture:
    """Embed a JPEG file."""
    return Picture(_uri(data, "jpeg"), alt)


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
