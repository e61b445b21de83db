"""The table of segmenters. A new segmenter is one folder and one record here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from efface.parameters import Params
from efface.segmentation.atlas.params import AtlasParams
from efface.segmentation.labels import Labels
from efface.segmentation.slant.params import SlantParams

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy


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
        ``run(anatomy, params)`` gives the labels.
    """

    name: str
    title: str
    summary: str
    citations: tuple[str, ...]
    params: "type[Params]"
    run: "Callable[[HeadAnatomy, Any], Labels]"


def _slant(anatomy: "HeadAnatomy", params: SlantParams) -> Labels:
    from efface.segmentation.slant.pipeline import segment_slant  # torch and SimpleITK: only where they are needed

    return segment_slant(anatomy, params)


def _atlas(anatomy: "HeadAnatomy", params: AtlasParams) -> Labels:
    from efface.segmentation.atlas.pipeline import segment_atlas

    return segment_atlas(anatomy, params)


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
            ),
            Segmenter(
                name="atlas",
                title="atlas",
                summary="BrainCOLOR atlas, deformable registration and tissue model",
                citations=("klein2010", "fisch2024", "yushkevich2016"),
                params=AtlasParams,
                run=_atlas,
            ),
        )
    }
)
