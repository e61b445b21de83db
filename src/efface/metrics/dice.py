"""Dice of all labels, the nine regions and the whole brain, in one pass over two label images.

The Dice of the whole brain is computed in two ways, because the paper does not say which it means: of the union of all
labels, to which a voxel that moves from one label to another does not matter, and of all labels pooled, the sum of their
intersections over the sum of their sizes, to which it does.

References
----------
Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022).
Crum, Camara, Hill. "Generalized overlap measures for evaluation and validation in medical image analysis." IEEE
Transactions on Medical Imaging 25 (2006) 1451-1461 (the pooled Dice).
Dice. "Measures of the amount of ecologic association between species." Ecology 26 (1945) 297-302.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.segmentation.labels import LABEL_IDS, LABELS, OTHER, REGIONS
from efface.spatial.types import LabelVolume
from efface.statistics.undefined import ratio

WHOLE_BRAIN = "whole brain"
"""Union of all 132 labels, ventricles included."""
POOLED_LEVEL, POOLED = "pooled", "labels pooled"
"""Level and name of the row that pools all 132 labels."""
LEVELS = ("whole brain", "pooled", "region", "label")

_STATES = LABEL_IDS[-1] + 2
_UNKNOWN = _STATES - 1
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Overlap:
    """How much two segmentations agree on one region.

    Attributes
    ----------
    level
        ``whole brain``, ``pooled``, ``region`` or ``label``.
    region
        Its name: ``whole brain``, ``labels pooled``, one of the nine regions, ``other``, or the label's name.
    label
        BrainCOLOR id, or None for unions.
    dice
        2 |A and B| / (|A| + |B|); NaN where both are empty, 0 where one is.
    voxels_a, voxels_b, voxels_both
        Sizes of the region in either, and of what they share; of ``labels pooled``, voxels with the same label.
    """

    level: str
    region: str
    label: int | None
    dice: float
    voxels_a: int
    voxels_b: int
    voxels_both: int


def dice(both: float, a: float, b: float) -> float:
    """Dice coefficient from three sizes.

    Examples
    --------
    >>> dice(1, 2, 2)
    0.5
    >>> dice(0, 0, 3)
    0.0
    >>> dice(0, 0, 0)
    nan
    """
    return 2.0 * ratio(both, a + b)


def compare_labels(a: LabelVolume, b: LabelVolume) -> list[Overlap]:
    """Compare two segmentations on the same grid.

    Parameters
    ----------
    a, b
        BrainCOLOR ids, 0 = background, same shape. Numbers that are none of the 132 ids count as background.

    Returns
    -------
    list of Overlap
        Whole brain, all labels pooled, the nine regions and ``other``, then the 132 labels.

    Raises
    ------
    InputError
        If the shapes differ, or a label is negative or no whole number.
    """
    joint = joint_counts(a, b)
    whole = _overlap(joint, "whole brain", WHOLE_BRAIN, None, LABEL_IDS)
    same = int(joint.diagonal()[list(LABEL_IDS)].sum())
    sizes = (whole.voxels_a, whole.voxels_b)
    pooled = Overlap(POOLED_LEVEL, POOLED, None, dice(same, *sizes), *sizes, same)
    regions = [_overlap(joint, "region", name, None, ids) for name, ids in REGIONS.items()]
    labels = [_overlap(joint, "label", x.name, x.id, (x.id,)) for x in LABELS]
    return [whole, pooled, *regions, *labels]


def joint_counts(a: LabelVolume, b: LabelVolume) -> NDArray[np.int64]:
    """Count the voxels that are i in `a` and j in `b`, shape (209, 209); the last state is "no label of ours".

    Raises
    ------
    InputError
        As `compare_labels`.

    Notes
    -----
    In chunks that stay in the cache: one pass over both images, whatever the number of labels.
    """
    if a.shape != b.shape:
        msg = f"segmentations must have the same shape; received {a.shape} and {b.shape}: resample one onto the other"
        raise InputError(msg)
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        msg = f"label numbers must be whole; received {a.dtype} and {b.dtype}: convert them"
        raise InputError(msg)
    if a.size and min(int(a.min()), int(b.min())) < 0:
        msg = "label numbers must be 0 or more; received a negative one"
        raise InputError(msg)
    order: Literal["F", "C"] = "F" if a.flags.f_contiguous and b.flags.f_contiguous else "C"
    flat_a, flat_b = a.ravel(order), b.ravel(order)
    known = max(int(a.max(initial=0)), int(b.max(initial=0))) < _UNKNOWN
    joint = np.zeros(_STATES * _STATES, dtype=np.int64)
    keys = np.empty(_CHUNK, dtype=np.intp)
    for start in range(0, flat_a.size, _CHUNK):
        piece_a, piece_b = flat_a[start : start + _CHUNK], flat_b[start : start + _CHUNK]
        if not known:
            piece_a, piece_b = np.minimum(piece_a, _UNKNOWN), np.minimum(piece_b, _UNKNOWN)
        key = keys[: piece_a.size]
        np.multiply(piece_a, _STATES, out=key, dtype=np.intp, casting="unsafe")  # whole numbers of any width
        np.add(key, piece_b, out=key, dtype=np.intp, casting="unsafe")
        joint += np.bincount(key, minlength=_STATES * _STATES)
    return joint.reshape(_STATES, _STATES)


def unknown_labels(labels: LabelVolume) -> list[int]:
    """Numbers in a segmentation that are neither 0 nor one of the 132 ids."""
    return sorted(set(np.unique(labels).tolist()) - {0, *LABEL_IDS})


def _overlap(joint: NDArray[np.int64], level: str, name: str, label: int | None, ids: tuple[int, ...]) -> Overlap:
    members = list(ids)
    rows = joint[members]
    size_a, size_b, both = int(rows.sum()), int(joint[:, members].sum()), int(rows[:, members].sum())
    return Overlap(level, name, label, dice(both, size_a, size_b), size_a, size_b, both)


NINE_REGIONS: tuple[str, ...] = tuple(name for name in REGIONS if name != OTHER)
"""Names of the regions of the paper's Figure 2."""
