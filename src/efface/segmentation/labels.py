"""The 132 BrainCOLOR labels, the nine regions they form, and the record that a segmenter returns.

The table is `labels.tsv`, beside this file. Each line is a label: its index (1 to 132, the channel order of SLANT), its
BrainCOLOR id, name, region, hemisphere, and its partner on the other side. Every label is in exactly one region.

The paper leaves some choices open. Hippocampus and amygdala count as cerebral grey matter (the allocortex and the
corticoid nuclei are continuous with it). The vermal lobules count as cerebellar grey matter (they have no white matter
label of their own). All six cavities count as ventricles. Accumbens, pallidum, ventral diencephalon and basal forebrain
are in none of the nine regions but in ``other``. Cerebrospinal fluid (46) and optic chiasm (69) of the atlas are not
among the 132 labels and count as background.
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
        BrainCOLOR id, the voxel value in a segmentation.
    name
        Name in the atlas, for example ``Left Caudate``.
    region
        One of `REGION_NAMES`, or ``other``.
    hemisphere
        ``left``, ``right`` or ``both``.
    partner
        BrainCOLOR id of the same structure on the other side; the label's own id on the midline.
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
"""All 132 labels, by ascending index."""

LABEL_IDS: tuple[int, ...] = tuple(label.id for label in LABELS)
"""The 132 BrainCOLOR ids, ascending."""

MIRRORED: NDArray[np.int64] = np.array([0, *(LABEL_IDS.index(label.partner) + 1 for label in LABELS)], dtype=np.int64)
"""By label index, the index of the same structure on the other side, shape (133,); background stays background."""

BY_ID: Mapping[int, Label] = MappingProxyType({label.id: label for label in LABELS})

REGIONS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {region: tuple(x.id for x in LABELS if x.region == region) for region in (*REGION_NAMES, OTHER)}
)
"""BrainCOLOR ids of each of the nine regions, and of ``other``."""


def region_of(label_id: int) -> str:
    """Name of the region that a label is in.

    Parameters
    ----------
    label_id
        BrainCOLOR id.

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
        msg = (
            f"{label_id} is not a BrainCOLOR label; expected one of the 132 ids from {LABEL_IDS[0]} to {LABEL_IDS[-1]}: "
            "see `efface.segmentation.LABELS`"
        )
        raise InputError(msg)
    return BY_ID[label_id].region


def index_lookup() -> NDArray[np.int32]:
    """Table from BrainCOLOR id to label index, 0 where there is no such label, shape (208,)."""
    table = np.zeros(LABEL_IDS[-1] + 1, dtype=np.int32)
    table[list(LABEL_IDS)] = np.arange(1, len(LABEL_IDS) + 1)
    return table


def ids_of(indices: NDArray[np.integer]) -> LabelVolume:
    """BrainCOLOR ids of label indices 0 to 132, int32, same shape; 0 stays background."""
    ids: LabelVolume = np.array([0, *LABEL_IDS], dtype=np.int32)[indices]
    return ids


def missing_labels(values: LabelVolume) -> tuple[str, ...]:
    """Warn of labels without a voxel.

    Parameters
    ----------
    values
        BrainCOLOR ids.

    Returns
    -------
    tuple of str
        One line, or none if all labels are there.
    """
    missing = sorted(set(LABEL_IDS) - set(np.unique(values).tolist()))
    return (f"{len(missing)} of 132 labels have no voxel: {', '.join(map(str, missing))}",) if missing else ()


@dataclass(frozen=True)
class Provenance:
    """How a segmentation was made: the segmenter, the version of efface, and the parameters."""

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
        Problems that may affect this result, one line each.
    provenance
        How it was made.
    """

    values: LabelVolume
    warnings: tuple[str, ...]
    provenance: Provenance
