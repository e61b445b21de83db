"""Is a segmentation plausible? Shares of regions in the brain against those of people with reference labels.

`reference_volumes.tsv`, beside this file, holds for each region the lowest and the highest share of the brain (all 132
labels together) and the largest ratio of its two sides, in 44 scans: 27 with manual BrainCOLOR labels (24 people, OASIS,
MICCAI 2012 challenge) and 17 heads of older adults with DLMUSE labels (NiChart demo data set).
"""

import csv
import functools
import importlib.resources
import math

import numpy as np
from numpy.typing import NDArray

from efface.segmentation.labels import LABELS, index_lookup
from efface.spatial.types import LabelVolume

ROOM = 1.35
"""Beyond what was seen by this factor, a share or a ratio of sides is not plausible: people vary more than those did."""
BRAIN_ML = (700.0, 2100.0)
"""Plausible volumes of all labels together; of the 44 scans, 992 to 1543 ml."""


@functools.cache
def reference() -> dict[str, tuple[float, float, float]]:
    """For each region, lowest and highest share of the brain, and largest ratio of sides (NaN where it has none)."""
    text = importlib.resources.files(__package__).joinpath("reference_volumes.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {
        row["region"]: (
            float(row["lowest"]), float(row["highest"]), math.nan if row["sides"] == "n/a" else float(row["sides"])
        )
        for row in rows
    }  # fmt: skip


def implausible(values: LabelVolume, voxel_ml: float) -> tuple[str, ...]:
    """Warn of volumes that no healthy adult of the reference has, by head size.

    Parameters
    ----------
    values
        BrainCOLOR ids, 0 = background, shape (x, y, z).
    voxel_ml
        Volume of a voxel, ml.

    Returns
    -------
    tuple of str
        One line for the brain and for each region that is off; empty where nothing is.
    """
    counts = np.bincount(index_lookup()[np.clip(values, 0, LABELS[-1].id)].ravel(), minlength=len(LABELS) + 1)[1:]
    volumes = counts * voxel_ml
    brain = float(volumes.sum())
    if not BRAIN_ML[0] <= brain <= BRAIN_ML[1]:
        low, high = BRAIN_ML
        return (f"all labels together have {brain:.0f} ml; expected {low:.0f} to {high:.0f} ml: look at the labels",)
    lines = []
    for region, (lowest, highest, sides) in reference().items():
        left, right, all_of_it = (_volume(volumes, region, side) for side in ("left", "right", ""))
        low, high = lowest / ROOM * brain, highest * ROOM * brain
        if not low <= all_of_it <= high:
            lines.append(
                f"{region} has {all_of_it:.1f} ml; expected {low:.1f} to {high:.1f} ml in a brain of {brain:.0f} ml: "
                "look at the labels"
            )
        elif max(left, right) > sides * ROOM * min(left, right):
            lines.append(
                f"{region} has {left:.1f} ml on the left and {right:.1f} ml on the right; expected a ratio of at most "
                f"{sides * ROOM:.2f}: look at the labels"
            )
    return tuple(lines)


def _volume(volumes: NDArray[np.floating], region: str, side: str) -> float:
    chosen = [label.index - 1 for label in LABELS if label.region == region and side in ("", label.hemisphere)]
    return float(volumes[chosen].sum())
