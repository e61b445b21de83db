"""Segmentation into the 132 BrainCOLOR labels: one function, and the table of segmenters behind it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from efface.bids.derivatives import UNNAMED_SEGMENTER
from efface.errors import InputError
from efface.segmentation.labels import LABELS, REGIONS, Label, Labels, Provenance, region_of

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

__all__ = [
    "DEFAULT_SEGMENTER",
    "LABELS",
    "REGIONS",
    "SEGMENTERS",
    "Label",
    "Labels",
    "Provenance",
    "SegmenterSpec",
    "region_of",
    "segment",
]


@dataclass(frozen=True)
class Segmenter:
    """A row of the table: what the segmenter is, in a line, and the function that runs it."""

    summary: str
    run: Callable[..., Labels]


def _atlas(anatomy: "HeadAnatomy", **params: Any) -> Labels:
    from efface.segmentation.atlas.pipeline import segment_atlas  # torch and SimpleITK: only where they are needed

    return segment_atlas(anatomy, **params)


DEFAULT_SEGMENTER = UNNAMED_SEGMENTER


def _slant(anatomy: "HeadAnatomy", **params: Any) -> Labels:
    from efface.segmentation.slant.pipeline import segment_slant

    return segment_slant(anatomy, **params)


SEGMENTERS: Mapping[str, Segmenter] = MappingProxyType(
    {
        "slant": Segmenter("27 networks on overlapping tiles (SLANT)", _slant),
        "atlas": Segmenter("BrainCOLOR atlas, deformable registration and tissue model", _atlas),
    }
)


def segment(anatomy: "HeadAnatomy", name: str = DEFAULT_SEGMENTER, **params: Any) -> Labels:
    """Segment a head into BrainCOLOR labels, on the scan's own grid.

    Parameters
    ----------
    anatomy
        The scan with what has been found in it, shared with the defacing methods.
    name
        A key of `SEGMENTERS`.
    **params
        Handed to the segmenter.

    Raises
    ------
    InputError
        If there is no segmenter of that name, or it does not know a parameter.
    AnatomyError, RegistrationError
        If no brain was found, or the atlas does not fit it.
    """
    if name not in SEGMENTERS:
        msg = f"no segmenter is named {name!r}: expected one of {', '.join(SEGMENTERS)}; see `efface methods`"
        raise InputError(msg)
    return SEGMENTERS[name].run(anatomy, **params)
