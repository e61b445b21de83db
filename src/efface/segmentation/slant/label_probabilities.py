"""From a standard grid back to the scan's own: every voxel takes the label whose share, interpolated there, is largest.

A share is what speaks for a label in a voxel of the standard grid: the mean probability that the tiles give it, or 1
where the fused labels say so. What is interpolated is the share's logarithm (but for a constant that all labels have in
common, the networks' score), by cubic splines: probabilities interpolated linearly lose what is thin, such as cortex.
Label by label and only around where a label is, so that outlines are smooth at the scan's resolution, and nothing is
registered or resampled twice.
"""

import functools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from efface.segmentation.slant.label_prior import LabelPrior
from efface.segmentation.slant.tiling import Box
from efface.spatial.types import Affine, FloatVolume, Grid, LabelVolume

NEGLIGIBLE = 0.01
"""Probabilities below this decide nothing: the largest of a voxel is larger."""
MARGIN_VOX = 2
"""How far around a label's voxels its share is looked at."""


@dataclass(frozen=True, eq=False)
class LabelProbability:
    """One label's share of the voxels of a box of a standard grid.

    Attributes
    ----------
    index
        Label index, 0 is background.
    box
        Which voxels of the grid.
    values
        0 to 1, the box's shape.
    """

    index: int
    box: Box
    values: FloatVolume


class MeanShares:
    """The mean of the probabilities that overlapping tiles give to each label.

    Parameters
    ----------
    place
        The blocks that tiles have in common, and which labels are possible where in them.
    """

    def __init__(self, place: LabelPrior) -> None:
        self.place = place
        self._sums = [np.zeros(tuple(part.log_prior.shape), np.float32) for _, part in place.blocks]
        self._tiles = [0] * len(self._sums)

    def add(self, found: Iterable[tuple[int, NDArray[np.float32]]]) -> None:
        """Take in a tile: for each block that it covers, its number and its probabilities, rows sum to one."""
        for number, probabilities in found:
            self._sums[number] += probabilities
            self._tiles[number] += 1

    def shares(self) -> Iterator[LabelProbability]:
        """Every label that has the largest share somewhere, where that is; background first."""
        shape = self.place.geometry.grid.shape
        labels = np.zeros(shape, dtype=np.int32)
        means = []
        for (block, part), total, tiles in zip(self.place.blocks, self._sums, self._tiles, strict=True):
            mean, channels = total / np.float32(max(tiles, 1)), part.channels.numpy()
            if not tiles:
                mean[:, 0] = 1
            size = tuple(s.stop - s.start for s in block)
            there = np.zeros(size, dtype=np.int32).reshape(-1)
            there[part.voxels.numpy()] = channels[mean.argmax(axis=1)]
            labels[block] = there.reshape(size)
            means.append((block, size, part.voxels.numpy(), {int(c): k for k, c in enumerate(channels)}, mean))
        for index, box in _boxes(labels):
            values = np.full([s.stop - s.start for s in box], float(index == 0), dtype=np.float32)
            for block, size, voxels, column, mean in means:
                both = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, block, strict=True)]
                if index in column and all(low < high for low, high in both):
                    whole = np.full(size, float(index == 0), dtype=np.float32).reshape(-1)
                    whole[voxels] = mean[:, column[index]]
                    inside = tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(both, block, strict=True))
                    here = tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(both, box, strict=True))
                    values[here] = whole.reshape(size)[inside]
            yield LabelProbability(index, box, values)


def label_shares(labels: LabelVolume) -> Iterator[LabelProbability]:
    """Shares of a label volume: 1 where the label is."""
    for index, box in _boxes(labels):
        yield LabelProbability(index, box, (labels[box] == index).astype(np.float32))


def _boxes(labels: NDArray[np.integer]) -> Iterator[tuple[int, Box]]:
    """Each label with the box it lies in and a margin around it; background first, with the box of all labels."""
    inside = ndimage.find_objects((labels > 0).astype(np.int8))
    found = ndimage.find_objects(labels)
    for index, box in [(0, box) for box in inside] + [(i, box) for i, box in enumerate(found, 1) if box is not None]:
        x, y, z = (
            slice(max(0, s.start - MARGIN_VOX), min(n, s.stop + MARGIN_VOX))
            for s, n in zip(box, labels.shape, strict=True)
        )
        yield index, (x, y, z)


def most_probable(shares: Iterable[LabelProbability], shape: tuple[int, int, int]) -> LabelVolume:
    """Labels on the standard grid, of the given shape: of the largest share, the first given of equal ones."""
    best = np.zeros(shape, dtype=np.float32)
    found = np.zeros(shape, dtype=np.int32)
    for share in shares:
        better = share.values > best[share.box]
        best[share.box][better] = share.values[better]
        found[share.box][better] = share.index
    return found


def to_scan_grid(
    shares: Iterable[LabelProbability], grid: Grid, to_scan: Affine, scan: Grid, threads: int = 1
) -> LabelVolume:
    """Labels on the scan's own grid.

    Parameters
    ----------
    shares
        Of the labels, on `grid`.
    grid
        The standard grid.
    to_scan
        Standard mm to scan mm, shape (4, 4).
    scan
        Where the labels go.
    threads
        How many labels are worked on at a time; the result does not depend on it.

    Returns
    -------
    numpy.ndarray
        Label indices, shape ``scan.shape``, int32; 0 outside the standard grid. Of equal shares the first given wins.
    """
    to_index = np.linalg.inv(to_scan @ grid.affine) @ scan.affine
    best = np.full(scan.shape, -np.inf, dtype=np.float32)
    found = np.zeros(scan.shape, dtype=np.int32)

    def sampled(share: LabelProbability) -> tuple[int, Box, FloatVolume] | None:
        return _sampled(share, to_index, scan.shape)

    with ThreadPoolExecutor(threads) as pool:
        for result in pool.map(sampled, shares):
            if result is None:
                continue
            index, part, values = result
            better = values > best[part]
            best[part][better] = values[better]
            found[part][better] = index
    return found


def _sampled(
    share: LabelProbability, to_index: Affine, shape: tuple[int, int, int]
) -> tuple[int, Box, FloatVolume] | None:
    """Logarithm of a share at the voxels of the scan that lie in its box: its index, which voxels, and values.

    The spline is evaluated at half the standard spacing, where it is one matrix an axis, and linearly between.
    """
    low = np.array([s.start for s in share.box], dtype=np.float64)
    part = _covered(to_index, low, np.array(share.values.shape), shape)
    if part is None:
        return None
    fine = np.log(share.values + np.float32(NEGLIGIBLE))
    for axis, size in enumerate(fine.shape):
        fine = np.moveaxis(np.tensordot(_halving(size), fine, axes=(1, axis)), 0, axis)
    matrix = 2 * to_index[:3, :3]
    start = np.array([s.start for s in part])
    offset = matrix @ start + 2 * (to_index[:3, 3] - low)
    size_there = tuple(s.stop - s.start for s in part)
    values = ndimage.affine_transform(
        fine, matrix, offset, size_there, order=1, mode="constant", cval=-np.inf, output=np.float32
    )
    return share.index, part, values


@functools.lru_cache(maxsize=256)
def _halving(size: int) -> NDArray[np.float32]:
    """Matrix of the cubic spline through values at 0, 1, 2 ..., evaluated at 0, 0.5, 1 ...; the first axis is new."""
    spline = make_interp_spline(np.arange(size), np.eye(size), k=min(3, size - 1))
    matrix: NDArray[np.float32] = spline(np.arange(2 * size - 1) / 2).astype(np.float32)
    return matrix


def _covered(
    to_index: Affine, low: NDArray[np.float64], size: NDArray[np.int_], shape: tuple[int, int, int]
) -> Box | None:
    """The scan's voxels between the centres of a box of the standard grid, or None."""
    corners = np.stack(np.meshgrid(*[(a, a + n - 1) for a, n in zip(low, size, strict=True)], indexing="ij"), axis=-1)
    back = np.linalg.inv(to_index)
    at = corners.reshape(-1, 3) @ back[:3, :3].T + back[:3, 3]
    first = np.clip(np.floor(at.min(axis=0)), 0, shape).astype(int)
    last = np.clip(np.ceil(at.max(axis=0)) + 1, 0, shape).astype(int)
    if not np.all(first < last):
        return None
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return x, y, z
