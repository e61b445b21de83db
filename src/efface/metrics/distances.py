"""Surface distances of all labels, the nine regions and the whole brain, in mm.

The surface of a region is the voxels of it that share a face with something else (or with the image's edge). One
search from either surface to the other gives all the distances that both measures are made from. Only the voxels
that the two surfaces do not share are looked up, in a k-d tree of the other surface: every distance is the exact
Euclidean one between voxel centres, at any spacing, and a region that did not move costs nothing.

References
----------
Maier-Hein, Reinke et al. "Metrics reloaded: recommendations for image analysis validation." Nature Methods 21
(2024) 195-212 (95 % Hausdorff distance, average symmetric surface distance).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from efface.errors import InputError
from efface.metrics.dice import WHOLE_BRAIN
from efface.segmentation.labels import LABEL_IDS, LABELS, REGIONS
from efface.spatial.types import BoolVolume, LabelVolume
from efface.statistics.undefined import ratio

PERCENTILE = 95.0

_Points = dict[int, NDArray[np.intp]]
"""Flat voxel indices of each region's surface, ascending, by the region's number."""


@dataclass(frozen=True)
class SurfaceDistance:
    """How far apart the surfaces of one region are in two segmentations.

    Attributes
    ----------
    level, region, label
        As of `efface.metrics.Overlap`.
    hd95_mm
        The larger of the two directed 95th percentiles of distance; NaN where the region is empty in either.
    mean_mm
        Mean distance over both surfaces' voxels (average symmetric surface distance); NaN likewise.
    """

    level: str
    region: str
    label: int | None
    hd95_mm: float
    mean_mm: float


def compare_surfaces(a: LabelVolume, b: LabelVolume, spacing_mm: NDArray[np.float64]) -> list[SurfaceDistance]:
    """Surface distances between two segmentations on the same grid.

    Parameters
    ----------
    a, b
        BrainCOLOR ids, 0 = background, same shape. Numbers that are none of the 132 ids count as background.
    spacing_mm
        Voxel edge lengths, shape (3,).

    Returns
    -------
    list of SurfaceDistance
        In the order of `compare_labels`, without that of all labels pooled.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    if a.shape != b.shape:
        msg = f"segmentations must have the same shape; received {a.shape} and {b.shape}: resample one onto the other"
        raise InputError(msg)
    box = _box(a, b)
    a, b = a[box], b[box]
    tables = _tables()
    names: dict[str, list[tuple[str, int | None]]] = {
        "whole brain": [(WHOLE_BRAIN, None)],
        "region": [(name, None) for name in REGIONS],
        "label": [(x.name, x.id) for x in LABELS],
    }
    found = []
    for level, members in names.items():
        numbers = [np.take(tables[level], x, mode="clip") for x in (a, b)]
        surfaces = [_surfaces(x) for x in numbers]
        for number, (region, label) in enumerate(members, start=1):
            one, two = (s.get(number, np.zeros(0, np.intp)) for s in surfaces)
            found.append(SurfaceDistance(level, region, label, *_distances(one, two, a.shape, spacing_mm)))
    return found


def _tables() -> dict[str, NDArray[np.uint8]]:
    """For each level, the number of the region that a BrainCOLOR id belongs to; 0 for none and beyond the last."""
    empty = np.zeros(LABEL_IDS[-1] + 2, np.uint8)
    whole, regions, labels = empty.copy(), empty.copy(), empty.copy()
    whole[list(LABEL_IDS)] = 1
    for number, ids in enumerate(REGIONS.values(), start=1):
        regions[list(ids)] = number
    labels[list(LABEL_IDS)] = np.arange(1, len(LABEL_IDS) + 1)
    return {"whole brain": whole, "region": regions, "label": labels}


def _box(a: LabelVolume, b: LabelVolume) -> tuple[slice, ...]:
    """Where either segmentation has anything, and a voxel more, so that only the image's own edge is an edge."""
    found = ndimage.find_objects(((a > 0) | (b > 0)).astype(np.uint8))
    if not found:
        return (slice(0, 0),) * 3
    return tuple(slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(found[0], a.shape, strict=True))


def _surfaces(numbers: NDArray[np.uint8]) -> _Points:
    """Surface voxels of every region in one pass, whatever the number of regions."""
    flat = np.flatnonzero((numbers > 0) & _edges(numbers))
    owner = numbers.ravel()[flat]
    order = np.argsort(owner, kind="stable")
    flat, owner = flat[order], owner[order]
    starts = np.flatnonzero(np.diff(owner, prepend=0))
    if not starts.size:
        return {}
    return {int(owner[i]): part for i, part in zip(starts, np.split(flat, starts[1:]), strict=True)}


def _edges(numbers: NDArray[np.uint8]) -> BoolVolume:
    """Voxels that share a face with a voxel of another number, or with the image's edge."""
    edge = np.zeros(numbers.shape, np.bool_)
    for axis in range(3):
        here, there = np.moveaxis(edge, axis, 0), np.moveaxis(numbers, axis, 0)
        differs = there[1:] != there[:-1]
        here[1:] |= differs
        here[:-1] |= differs
        here[:1] = here[-1:] = True
    return edge


def _distances(
    a: NDArray[np.intp], b: NDArray[np.intp], shape: tuple[int, ...], spacing_mm: NDArray[np.float64]
) -> tuple[float, float]:
    """The two measures of one region."""
    if not (a.size and b.size):
        return float("nan"), float("nan")
    forth, back = _to_nearest(a, b, shape, spacing_mm), _to_nearest(b, a, shape, spacing_mm)
    hd95 = max(_percentile(forth, a.size), _percentile(back, b.size))
    return hd95, ratio(float(forth.sum() + back.sum()), a.size + b.size)


def _to_nearest(
    points: NDArray[np.intp], others: NDArray[np.intp], shape: tuple[int, ...], spacing_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distances from the points that are not among the others to the nearest of the others, in mm."""
    alone = points[~np.isin(points, others, assume_unique=True)]
    if not alone.size:
        return np.zeros(0)
    where, targets = (np.stack(np.unravel_index(x, shape), axis=-1) * spacing_mm for x in (alone, others))
    distances: NDArray[np.float64] = cKDTree(targets).query(where)[0]
    return distances


def _percentile(beyond: NDArray[np.float64], size: int) -> float:
    """The 95th percentile of `size` distances of which those not in `beyond` are 0."""
    every = np.zeros(size)
    every[: beyond.size] = beyond
    return float(np.percentile(every, PERCENTILE))
