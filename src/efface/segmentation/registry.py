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
from efface.segmentation.slant.weights_folder import folder_in_use, is_whole_brain, weights_digest

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
    described
        ``described(params)`` says in the words of a paper what did the work, without citations; None for `summary`.
    """

    name: str
    title: str
    summary: str
    citations: tuple[str, ...]
    params: "type[Params]"
    run: "Callable[[HeadAnatomy, Any], Labels]"
    data: Callable[[Any], Mapping[str, str]]
    described: Callable[[Any], str] | None = None


def _slant(anatomy: "HeadAnatomy", params: SlantParams) -> Labels:
    from efface.segmentation.slant.pipeline import segment_slant  # imports torch and SimpleITK: not before they are used

    return segment_slant(anatomy, params)


def _slant_data(params: SlantParams) -> dict[str, str]:
    weights = {"weights": weights_digest(folder_in_use(params))}
    if is_whole_brain(params):
        weights["cells"] = CELLS
    return weights if params.align == "no" else weights | _package_versions(*TEMPLATE_PACKAGES)


def _slant_described(params: SlantParams) -> str:
    aligned = ", aligned by the whole head" if params.align == "head" else ""
    if params.weights:
        return f"SLANT, the 27 published networks on overlapping tiles{aligned}"
    if is_whole_brain(params):
        return f"in the place of SLANT, one network of our own for the whole brain, at 1 mm{aligned}"
    return (
        f"SLANT as re-implemented in efface: 27 networks of our own in its topology, overlapping tiles, at 2 mm{aligned}"
    )


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


CELLS = "at fixed places of the scan"
"""Where the cells of the network for the whole brain begin: segmentations of an earlier kind are made again."""

SEGMENTERS: Mapping[str, Segmenter] = MappingProxyType(
    {
        segmenter.name: segmenter
        for segmenter in (
            Segmenter(
                name="slant",
                title="SLANT",
                summary="one network for the whole brain at 1 mm, or the 27 tile networks of SLANT",
                citations=("huo2019", "klein2010"),
                params=SlantParams,
                run=_slant,
                data=_slant_data,
                described=_slant_described,
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
