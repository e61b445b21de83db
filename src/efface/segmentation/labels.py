"""The 132 BrainCOLOR labels, the nine regions they form, and the record a segmenter returns.

The table is `labels.tsv`, beside this file: one line a label with its index (1..132, the channel order of SLANT),
its BrainCOLOR id, name, region, hemisphere and left-right partner. Every label is in exactly one region.

Choices that the paper leaves open: hippocampus and amygdala count as cerebral grey matter (the allocortex and the
corticoid nuclei are continuous with it), the vermal lobules as cerebellar grey matter (they have no white matter
label of their own), all six cavities as ventricles. Accumbens, pallidum, ventral diencephalon and basal forebrain
are in none of the nine regions: ``other``. The atlas's cerebrospinal fluid (46) and optic chiasm (69) are not among
the 132 and count as background.
"""

import csv
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.spatial.types import LabelVolume

OTHER = "other"
REGION_NAMES = (
    "ventricles",
    "caudate",
    "cerebral WM",
    "cerebral GM",
    "brainstem",
    "putamen",
    "thalamus",
    "cerebellar GM",
    "cerebellar WM",
)
"""The nine regions of the paper, in the order of its Figure 2."""


@dataclass(frozen=True)
class Label:
    """One BrainCOLOR label.

    Attributes
    ----------
    index
        1 to 132, ascending with `id`.
    id
        BrainCOLOR number, the value in a segmentation.
    name
        As in the atlas, for example ``Left Caudate``.
    region
        One of `REGION_NAMES`, or ``other``.
    hemisphere
        ``left``, ``right`` or ``both``.
    partner
        The id of the same structure on the other side; the label's own id on the midline.
    """

    index: int
    id: int
    name: str
    region: str
    hemisphere: str
    partner: int


def _read_table() -> tuple[Label, ...]:
    text = importlib.resources.files(__package__).joinpath("labels.tsv").read_text(encoding="utf-8")
    return tuple(
        Label(int(r["index"]), int(r["id"]), r["name"], r["region"], r["hemisphere"], int(r["partner"]))
        for r in csv.DictReader(text.splitlines(), delimiter="\t")
    )


LABELS: tuple[Label, ...] = _read_table()
"""All 132, by ascending index."""

LABEL_IDS: tuple[int, ...] = tuple(label.id for label in LABELS)
"""The 132 BrainCOLOR ids, ascending."""

MIRRORED: NDArray[np.int64] = np.array([0, *(LABEL_IDS.index(label.partner) + 1 for label in LABELS)], dtype=np.int64)
"""Label index of the same structure on the other side, by label index, shape (133,); background is its own."""

BY_ID: Mapping[int, Label] = MappingProxyType({label.id: label for label in LABELS})

REGIONS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {region: tuple(x.id for x in LABELS if x.region == region) for region in (*REGION_NAMES, OTHER)}
)
"""BrainCOLOR ids of each of the nine regions, and of ``other``."""


def region_of(label_id: int) -> str:
    """Name of the region that a BrainCOLOR id belongs to.

    Raises
    ------
    InputError
        If the id is not one of the 132.

    Examples
    --------
    >>> region_of(37)
    'caudate'
    """
    if label_id not in BY_ID:
        msg = f"{label_id} is not a BrainCOLOR label; expected one of the 132 ids from {LABEL_IDS[0]} to {LABEL_IDS[-1]}"
        raise InputError(msg)
    return BY_ID[label_id].region


def index_lookup() -> NDArray[np.int32]:
    """Table from BrainCOLOR id to index 1..132, 0 where there is no such label, shape (208,)."""
    table = np.zeros(LABEL_IDS[-1] + 1, dtype=np.int32)
    table[list(LABEL_IDS)] = np.arange(1, len(LABEL_IDS) + 1)
    return table


@dataclass(frozen=True)
class Provenance:
    """What made a segmentation: segmenter, its version, and its parameters."""

    segmenter: str
    version: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """A segmentation into BrainCOLOR labels, on the scan's own grid.

    Attributes
    ----------
    values
        BrainCOLOR ids, 0 = background, shape of the scan's RAS+ view, int32.
    warnings
        What a user should know about this result, one line each.
    provenance
        What made it.
    """

    values: LabelVolume
    warnings: tuple[str, ...]
    provenance: Provenance
