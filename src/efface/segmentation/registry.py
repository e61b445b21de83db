"""The table of segmenters. A new segmenter is one folder and one record here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from efface.errors import DataPackageError
from efface.parameters import Params
from efface.segmentation.atlas.params import AtlasParams
from efface.segmentation.labels import Labels
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.weights_folder import folder_in_use, weights_digest

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

TEMPLATE_PACKAGES = ("deepmriprep", "pydeface")
"""Packages with the data that the brain is aligned by: the BrainCOLOR template and the average head."""


@dataclass(frozen=True)
class Segmenter:
    """All facts about a segmenter.

    Attributes
    ----------
    name
        On the command line and in file names.
    title
        In reports.
    summary
        One line: how it works.
    citations
        Keys of its papers in ``report/citations.bib``.
    params
        Frozen dataclass of its parameters, see `efface.parameters`.
    run
        ``run(anatomy, params)`` returns the labels.
    data
        ``data(params)`` returns the data that decide its result: a SHA-256 or a package version by name.
    """

    name: str
    title: str
    summary: str
    citations: tuple[str, ...]
    params: "type[Params]"
    run: "Callable[[HeadAnatomy, Any], Labels]"
    data: Callable[[Any], Mapping[str, str]]


def _slant(anatomy: "HeadAnatomy", params: SlantParams) -> Labels:
    from efface.segmentation.slant.pipeline import segment_slant  # imports torch and SimpleITK: not before they are used

    return segment_slant(anatomy, params)


def _slant_data(params: SlantParams) -> dict[str, str]:
    weights = {"weights": weights_digest(folder_in_use(params))}
    return weights | _package_versions(*TEMPLATE_PACKAGES) if params.align else weights


def _atlas(anatomy: "HeadAnatomy", params: AtlasParams) -> Labels:
    from efface.segmentation.atlas.pipeline import segment_atlas

    return segment_atlas(anatomy, params)


def _atlas_data(_params: AtlasParams) -> dict[str, str]:
    return _package_versions(*TEMPLATE_PACKAGES)


def _package_versions(*names: str) -> dict[str, str]:
    try:
        return {name: metadata.version(name) for name in names}
    except metadata.PackageNotFoundError as error:
        msg = (
            f"the package {error.name}, whose data segmentation needs, is not installed: run `pip install {error.name}`"
        )
        raise DataPackageError(msg) from error


SEGMENTERS: Mapping[str, Segmenter] = MappingProxyType(
    {
        segmenter.name: segmenter
        for segmenter in (
            Segmenter(
                name="slant",
                title="SLANT",
                summary="27 networks on overlapping tiles (SLANT)",
                citations=("huo2019", "klein2010"),
                params=SlantParams,
                run=_slant,
                data=_slant_data,
            ),
            Segmenter(
                name="atlas",
                title="atlas",
                summary="BrainCOLOR atlas, deformable registration and tissue model",
                citations=("klein2010", "fisch2024", "yushkevich2016"),
                params=AtlasParams,
                run=_atlas,
                data=_atlas_data,
            ),
        )
    }
)
