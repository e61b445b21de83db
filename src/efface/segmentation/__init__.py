"""Segmentation into the 132 BrainCOLOR labels: `segment`, and the table of segmenters."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from efface.bids.derivatives import UNNAMED_SEGMENTER
from efface.errors import InputError
from efface.parameters import Params, parse
from efface.segmentation.labels import LABELS, REGIONS, Label, Labels, Provenance, region_of
from efface.segmentation.plausibility import implausible
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
    "data_digest",
    "described",
    "region_of",
    "segment",
]

DEFAULT_SEGMENTER = UNNAMED_SEGMENTER


def segment(anatomy: "HeadAnatomy", name: str = DEFAULT_SEGMENTER, params: Mapping[str, Any] | None = None) -> Labels:
    """Segment a head into BrainCOLOR labels, on the scan's own grid.

    Parameters
    ----------
    anatomy
        Anatomy of the scan; it may be shared with the defacing methods.
    name
        A key of `SEGMENTERS`.
    params
        Parameters of the segmenter by name, as text or as Python values.

    Raises
    ------
    InputError
        If there is no segmenter of that name, or a parameter is unknown or wrong.
    AnatomyError
        If no brain is found, or the brain mask cannot be a brain.
    RegistrationError
        If the BrainCOLOR template does not fit the brain.
    GpuMemoryError
        If the networks do not fit into the memory of the GPU.
    """
    segmenter, parsed = _parsed(name, params)
    labels = segmenter.run(anatomy, parsed)
    doubts = implausible(labels.values, float(np.prod(anatomy.scan.spacing_mm)) / 1000)
    return replace(labels, warnings=(*labels.warnings, *doubts))


def data_digest(name: str = DEFAULT_SEGMENTER, params: Mapping[str, Any] | None = None) -> Mapping[str, str]:
    """Identify the data that decide a segmentation besides the scan, the code and the parameters.

    Parameters
    ----------
    name
        A key of `SEGMENTERS`.
    params
        Parameters of the segmenter by name, as text or as Python values; they may name a folder of weights.

    Returns
    -------
    Mapping
        By name: SHA-256 of the weights in use, where the network's cells begin, and versions of the packages whose
        templates are used.

    Raises
    ------
    InputError
        If there is no segmenter of that name, a parameter is unknown or wrong, or there is no such folder of weights.
    DataPackageError
        If a package with templates is not installed.
    """
    segmenter, parsed = _parsed(name, params)
    return segmenter.data(parsed)


def described(name: str, params: Mapping[str, Any] | None = None) -> str:
    """Say in the words of a paper how a segmenter works with these parameters; without citations.

    Parameters
    ----------
    name
        A key of `SEGMENTERS`.
    params
        Parameters of the segmenter by name, as text or as Python values.

    Raises
    ------
    InputError
        If there is no segmenter of that name, or a parameter is unknown or wrong.
    """
    segmenter, parsed = _parsed(name, params)
    return segmenter.described(parsed) if segmenter.described else segmenter.summary


def _parsed(name: str, params: Mapping[str, Any] | None) -> tuple[Segmenter, Params]:
    if name not in SEGMENTERS:
        msg = f"no segmenter is named {name!r}: expected one of {', '.join(SEGMENTERS)}; see `efface methods`"
        raise InputError(msg)
    segmenter = SEGMENTERS[name]
    return segmenter, parse(segmenter.params, params or {}, what=f"the segmenter {name}")
