"""Volumes of labels and regions, and how much they changed."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.metrics.dice import POOLED_LEVEL, Overlap
from efface.segmentation.labels import LABEL_IDS, LABELS, REGIONS
from efface.spatial.types import LabelVolume
from efface.statistics.undefined import ratio


@dataclass(frozen=True)
class VolumeChange:
    """Volume of one region before, and its signed change.

    Attributes
    ----------
    level, region, label
        As of `efface.metrics.Overlap`.
    before_ml
        Volume in the first segmentation.
    change_ml
        Volume in the second minus that in the first: negative = it shrank.
    change_percent
        The change in percent of the volume before; NaN where that is 0.
    """

    level: str
    region: str
    label: int | None
    before_ml: float
    change_ml: float
    change_percent: float


def volume_changes(overlaps: Iterable[Overlap], spacing_mm: NDArray[np.float64]) -> list[VolumeChange]:
    """Volume changes from voxel counts, which `efface.metrics.compare_labels` has.

    Parameters
    ----------
    overlaps
        Sizes of every region in the two segmentations; that of all labels pooled, which has no volume of its own, is
        left out.
    spacing_mm
        Voxel edge lengths of the grid they share, shape (3,).
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    return [
        VolumeChange(
            x.level,
            x.region,
            x.label,
            x.voxels_a * voxel_ml,
            (x.voxels_b - x.voxels_a) * voxel_ml,
            100.0 * ratio(x.voxels_b - x.voxels_a, x.voxels_a),
        )
        for x in overlaps
        if x.level != POOLED_LEVEL
    ]


def volumes_ml(labels: LabelVolume, spacing_mm: NDArray[np.float64]) -> list[tuple[str, str, float]]:
    """Volume of the whole brain, each region and each label.

    Parameters
    ----------
    labels
        BrainCOLOR ids, 0 = background.
    spacing_mm
        Voxel edge lengths, shape (3,).

    Returns
    -------
    list of (level, region, volume in ml)
        In the order of `compare_labels`, without that of all labels pooled.
    """
    last = LABEL_IDS[-1]
    counts = np.bincount(np.minimum(labels, last + 1).ravel(), minlength=last + 2)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    rows = [("whole brain", "whole brain", int(counts[list(LABEL_IDS)].sum()))]
    rows += [("region", name, int(counts[list(ids)].sum())) for name, ids in REGIONS.items()]
    rows += [("label", x.name, int(counts[x.id])) for x in LABELS]
    return [(level, name, n * voxel_ml) for level, name, n in rows]
