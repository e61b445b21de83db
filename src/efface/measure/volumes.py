"""Volumes of labels and regions."""

import numpy as np
from numpy.typing import NDArray

from efface.arrays import LabelVolume
from efface.segment.labels import LABEL_IDS, LABELS, REGIONS


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
        In the order of `compare_labels`.
    """
    last = LABEL_IDS[-1]
    counts = np.bincount(np.minimum(labels, last + 1).ravel(), minlength=last + 2)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    rows = [("whole brain", "whole brain", int(counts[list(LABEL_IDS)].sum()))]
    rows += [("region", name, int(counts[list(ids)].sum())) for name, ids in REGIONS.items()]
    rows += [("label", x.name, int(counts[x.id])) for x in LABELS]
    return [(level, name, n * voxel_ml) for level, name, n in rows]
