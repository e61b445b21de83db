"""Segmentation into the 132 BrainCOLOR labels: one function, and the table of segmenters behind it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from efface.bids.derivatives import UNNAMED_SEGMENTER
from efface.errors import InputError
from efface.parameters import parse
from efface.segmentation.labels import LABELS, REGIONS, Label, Labels, Provenance, region_of
from efface.segmentation.registry import SEGMENTERS, Segmenter

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
    "Segmenter",
    "region_of",
    "segment",
]

DEFAULT_SEGMENTER = UNNAMED_SEGMENTER


def segment(anatomy: "HeadAnatomy", name: str = DEFAULT_SEGMENTER, params: Mapping[str, Any] | None = None) -> Labels:
    """Segment a head into BrainCOLOR labels, on the scan's own grid.

    Parameters
    ----------
    anatomy
        Of the scan, shared with the defacing methods.
    name
        A key of `SEGMENTERS`.
    params
        The segmenter's own parameters, by name, as values or as text.

    Raises
    ------
    InputError
        If there is no segmenter of that name, or a parameter is unknown or wrong.
    AnatomyError, RegistrationError
        If no brain was found, or the atlas does not fit it.
    """
    if name not in SEGMENTERS:
        msg = f"no segmenter is named {name!r}: expected one of {', '.join(SEGMENTERS)}; see `efface methods`"
        raise InputError(msg)
    segmenter = SEGMENTERS[name]
    return segmenter.run(anatomy, parse(segmenter.params, dict(params or {}), what=f"the segmenter {name}"))
