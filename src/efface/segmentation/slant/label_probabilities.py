"""Resample label probabilities from the standard grid to the scan's own grid, and take the argmax.

The probability of a label in a voxel of the standard grid is the mean over the tiles, or 1 where the fused labels say
so. Its logarithm is interpolated by cubic splines (it is the networks' score, but for a constant that all labels have in
common): probabilities interpolated linearly lose thin structures such as cortex. This is done for each label, only
around its voxels, so that outlines are smooth at the scan's resolution and nothing is registered or resampled twice.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from efface.segmentation.slant.label_prior import BlockPrior, LabelPrior
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import Box, box_corners, covering_box
from efface.spatial.types import Affine, FloatVolume, Grid, LabelVolume

T = TypeVar("T", bound=np.generic)
NEGLIGIBLE = 0.01
"""Probabilities below this decide nothing: the largest of a voxel is larger."""
MARGIN_VOX = 2
"""How far around a label's voxels its probability is looked at."""


@dataclass(frozen=True, eq=False)
class LabelProbability:
    """Probability of one label in the voxels of a box of a standard grid.

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


class BlockAccumulator:
    """The mean of the probabilities that overlapping tiles give to each label.

    Parameters
    ----------
    prior
        The blocks that tiles have in common, and which labels are possible where in them.
    """

    def __init__(self, prior: LabelPrior) -> None:
        self.prior = prior
        self._sums = [np.zeros(tuple(block.log_prior.shape), np.float32) for _, block in prior.blocks]
        self._tiles = [0] * len(self._sums)

    def add(self, tile: Iterable[tuple[int, NDArray[np.float32]]]) -> None:
        """Take in a tile: for each block that it covers, its number and its probabilities, rows sum to one."""
        for number, probabilities in tile:
            self._sums[number] += probabilities
            self._tiles[number] += 1

    def probabilities(self) -> Iterator[LabelProbability]:
        """Every label that is most probable somewhere, in the box around these voxels; background first."""
        means = [self._mean_of(number) for number in range(len(self._sums))]
        for label, box in _boxes(self._most_probable(means)):
            yield LabelProbability(label, box, self._mean_in(box, label, means))

    def _mean_of(self, number: int) -> NDArray[np.float32]:
        """Mean probabilities of a block's voxels and channels; background where no tile covers the block."""
        mean = self._sums[number] / np.float32(max(self._tiles[number], 1))
        if not self._tiles[number]:
            mean[:, 0] = 1
        return mean

    def _most_probable(self, means: Sequence[NDArray[np.float32]]) -> LabelVolume:
        labels = np.zeros(self.prior.geometry.grid.shape, dtype=np.int32)
        for (box, block), mean in zip(self.prior.blocks, means, strict=True):
            best = block.channels.numpy()[mean.argmax(axis=1)].astype(np.int32)
            labels[box] = _in_box(best, block, box, fill=0)
        return labels

    def _mean_in(self, box: Box, label: int, means: Sequence[NDArray[np.float32]]) -> FloatVolume:
        """Mean probability of one label in a box of the grid, from all blocks that overlap it."""
        outside = np.float32(label == 0)  # voxels of no block are background
        values = np.full(_shape(box), outside, dtype=np.float32)
        for (block_box, block), mean in zip(self.prior.blocks, means, strict=True):
            columns = np.flatnonzero(block.channels.numpy() == label)
            overlap = _overlap(box, block_box)
            if columns.size and overlap is not None:
                whole = _in_box(mean[:, columns[0]], block, block_box, fill=outside)
                values[_relative(overlap, box)] = whole[_relative(overlap, block_box)]
        return values


def _in_box(values: NDArray[T], block: BlockPrior, box: Box, fill: T | int) -> NDArray[T]:
    """Values of a block's voxels as a volume of its box; `fill` elsewhere."""
    flat = np.full(np.prod(_shape(box)), fill, dtype=values.dtype)
    flat[block.voxels.numpy()] = values
    return flat.reshape(_shape(box))


def _shape(box: Box) -> tuple[int, int, int]:
    x, y, z = (s.stop - s.start for s in box)
    return x, y, z


def _overlap(a: Box, b: Box) -> Box | None:
    """Voxels of the grid that lie in both boxes, or None."""
    x, y, z = (slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return (x, y, z) if all(s.start < s.stop for s in (x, y, z)) else None


def _relative(part: Box, box: Box) -> Box:
    """Voxels of the grid as voxels of a box that holds them."""
    x, y, z = (slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
    return x, y, z


def one_hot(labels: LabelVolume) -> Iterator[LabelProbability]:
    """Probabilities of a label volume: 1 where the label is."""
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


def most_probable(probabilities: Iterable[LabelProbability], shape: tuple[int, int, int]) -> LabelVolume:
    """Labels of the largest probability on a standard grid of the given shape; the first given of equal ones."""
    best = np.zeros(shape, dtype=np.float32)
    found = np.zeros(shape, dtype=np.int32)
    for probability in probabilities:
        better = probability.values > best[probability.box]
        best[probability.box][better] = probability.values[better]
        found[probability.box][better] = probability.index
    return found


def to_scan_grid(
    probabilities: Iterable[LabelProbability], grid: Grid, to_scan: Affine, scan: Grid, threads: int = 1
) -> LabelVolume:
    """Labels on the scan's own grid.

    Parameters
    ----------
    probabilities
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
        Label indices, shape ``scan.shape``, int32; 0 outside the standard grid. Of equal probabilities, the first given
        wins.
    """
    to_index = invert(to_scan @ grid.affine) @ scan.affine
    best = np.full(scan.shape, -np.inf, dtype=np.float32)
    found = np.zeros(scan.shape, dtype=np.int32)

    def sampled(probability: LabelProbability) -> tuple[int, Box, FloatVolume] | None:
        return _sampled(probability, to_index, scan.shape)

    with ThreadPoolExecutor(threads) as pool:
        for result in pool.map(sampled, probabilities):
            if result is None:
                continue
            index, part, values = result
            better = values > best[part]
            best[part][better] = values[better]
            found[part][better] = index
    return found


def _sampled(
    probability: LabelProbability, to_index: Affine, shape: tuple[int, int, int]
) -> tuple[int, Box, FloatVolume] | None:
    """Logarithm of a probability at the voxels of the scan that lie in its box: its index, which voxels, and values.

    The spline is evaluated at half the standard spacing, where it is one matrix an axis, and linearly between.
    """
    low = np.array([s.start for s in probability.box], dtype=np.float64)
    part = _covered(to_index, low, np.array(probability.values.shape), shape)
    if part is None:
        return None
    fine = np.log(probability.values + np.float32(NEGLIGIBLE))
    for axis, size in enumerate(fine.shape):
        fine = np.moveaxis(np.tensordot(_halving(size), fine, axes=(1, axis)), 0, axis)
    matrix = 2 * to_index[:3, :3]
    start = np.array([s.start for s in part])
    offset = matrix @ start + 2 * (to_index[:3, 3] - low)
    size_there = tuple(s.stop - s.start for s in part)
    values = ndimage.affine_transform(
        fine, matrix, offset, size_there, order=1, mode="constant", cval=-np.inf, output=np.float32
    )
    return probability.index, part, values


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
    corners = apply_affine(invert(to_index), box_corners(low, low + size - 1))
    box = covering_box(corners, shape, at_least=0)
    return box if all(s.start < s.stop for s in box) else None
