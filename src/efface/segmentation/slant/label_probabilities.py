"""Resample label probabilities from the standard grid to the scan grid, and take the argmax.

The probability of a label in a voxel of the standard grid is the mean over the tiles that cover it, or 1 where the
fused labels of the published networks have it. The logarithm of the probability is interpolated by cubic splines: it
equals the score of the networks up to a term that all labels share. Linear interpolation of the probability itself would
lose thin structures such as the cortex. Each label is interpolated only around its own voxels. Outlines come out smooth
at the scan's resolution, and labels are resampled once.
"""

import functools
from collections.abc import Iterable, Iterator
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
"""Added to a probability before its logarithm is taken; the most probable label of a voxel has far more."""
MARGIN_VOX = 2
"""Standard voxels around a label's own voxels in which its probability is interpolated."""


@dataclass(frozen=True, eq=False)
class LabelProbability:
    """Probability of one label in a box of a standard grid.

    Attributes
    ----------
    index
        Label index, 0 is background.
    box
        Voxels of the grid that `values` covers.
    values
        Probabilities, 0 to 1, shape of the box.
    """

    index: int
    box: Box
    values: FloatVolume


class BlockAccumulator:
    """Mean over the tiles of the label probabilities, kept block by block.

    The grid is cut into blocks at the borders of all tiles (`Geometry.blocks`). A block has a list of voxels in which
    any label is possible, and a list of possible labels; its probabilities are a matrix of these voxels (rows) and
    labels (columns). All other voxels are background.

    Parameters
    ----------
    prior
        The blocks, and the possible voxels and labels of each.
    """

    def __init__(self, prior: LabelPrior) -> None:
        self.prior = prior
        self._sums = [np.zeros(tuple(block.log_prior.shape), np.float32) for _, block in prior.blocks]
        self._tiles = [0] * len(self._sums)

    def add(self, tile: Iterable[tuple[int, NDArray[np.float32]]]) -> None:
        """Add the probabilities of a tile.

        Parameters
        ----------
        tile
            For every block that the tile covers: its number in `LabelPrior.blocks`, and probabilities of shape (voxels,
            labels); rows add up to one.
        """
        for number, probabilities in tile:
            self._sums[number] += probabilities
            self._tiles[number] += 1

    def mean(self, label: int, box: Box) -> FloatVolume:
        """Mean probability of one label in a box of the grid.

        Parameters
        ----------
        label
            Label index, 0 is background.
        box
            Voxels of the grid.

        Returns
        -------
        numpy.ndarray
            Shape of the box.
        """
        outside = np.float32(label == 0)  # voxels in no block are background
        values = np.full(_shape(box), outside, dtype=np.float32)
        for number, (block_box, block) in enumerate(self.prior.blocks):
            column = np.flatnonzero(block.channels.numpy() == label)
            overlap = _overlap(box, block_box)
            if column.size and overlap is not None:
                in_block = _to_volume(self._block_mean(number, column)[:, 0], block, block_box, fill=outside)
                values[_relative_to(box, overlap)] = in_block[_relative_to(block_box, overlap)]
        return values

    def argmax_labels(self) -> LabelVolume:
        """Most probable label index of every voxel of the grid; the smallest of equally probable ones."""
        labels = np.zeros(self.prior.geometry.grid.shape, dtype=np.int32)
        for number, (box, block) in enumerate(self.prior.blocks):
            channels = block.channels.numpy()
            best = channels[self._block_mean(number, np.arange(len(channels))).argmax(axis=1)].astype(np.int32)
            labels[box] = _to_volume(best, block, box, fill=0)
        return labels

    def probabilities(self) -> Iterator[LabelProbability]:
        """Mean probability of each label that is the most probable somewhere, around there; background first."""
        for label, box in label_boxes(self.argmax_labels()):
            yield LabelProbability(label, box, self.mean(label, box))

    def _block_mean(self, number: int, columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Mean probabilities of some labels of a block, shape (voxels, columns); background where no tile was added."""
        if self._tiles[number]:
            return self._sums[number][:, columns] / np.float32(self._tiles[number])
        background = np.float32(columns == 0)
        return np.broadcast_to(background, (len(self._sums[number]), len(columns)))


def _to_volume(values: NDArray[T], block: BlockPrior, box: Box, fill: T | int) -> NDArray[T]:
    """Values of a block's possible voxels as a volume of the block's box; `fill` in its other voxels."""
    flat = np.full(np.prod(_shape(box)), fill, dtype=values.dtype)
    flat[block.voxels.numpy()] = values
    return flat.reshape(_shape(box))


def _shape(box: Box) -> tuple[int, int, int]:
    x, y, z = (s.stop - s.start for s in box)
    return x, y, z


def _overlap(a: Box, b: Box) -> Box | None:
    """Voxels that lie in both boxes, or None."""
    x, y, z = (slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return (x, y, z) if all(s.start < s.stop for s in (x, y, z)) else None


def _relative_to(box: Box, part: Box) -> Box:
    """A part of a box, counted from the first voxel of the box."""
    x, y, z = (slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
    return x, y, z


def one_hot(labels: LabelVolume) -> Iterator[LabelProbability]:
    """Probabilities of fused labels: 1 where the label is, else 0; background first."""
    for label, box in label_boxes(labels):
        yield LabelProbability(label, box, (labels[box] == label).astype(np.float32))


def label_boxes(labels: NDArray[np.integer]) -> Iterator[tuple[int, Box]]:
    """Each label with the box around its voxels, a margin included; background first, with the box of all labels."""
    foreground = ndimage.find_objects((labels > 0).astype(np.int8))
    found = ndimage.find_objects(labels)
    tight = [(0, box) for box in foreground] + [(label, box) for label, box in enumerate(found, 1) if box is not None]
    for label, box in tight:
        x, y, z = (
            slice(max(0, s.start - MARGIN_VOX), min(n, s.stop + MARGIN_VOX))
            for s, n in zip(box, labels.shape, strict=True)
        )
        yield label, (x, y, z)


def most_probable(probabilities: Iterable[LabelProbability], shape: tuple[int, int, int]) -> LabelVolume:
    """Argmax of label probabilities on the standard grid itself.

    Parameters
    ----------
    probabilities
        Of the labels.
    shape
        Of the standard grid.

    Returns
    -------
    numpy.ndarray
        Label indices, int32. Of equal probabilities, the first given wins.
    """
    best = np.zeros(shape, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.int32)
    for probability in probabilities:
        better = probability.values > best[probability.box]
        best[probability.box][better] = probability.values[better]
        labels[probability.box][better] = probability.index
    return labels


def to_scan_grid(
    probabilities: Iterable[LabelProbability],
    grid: Grid,
    to_scan: Affine,
    scan: Grid,
    threads: int = 1,
    *,
    halved: bool = True,
) -> LabelVolume:
    """Argmax of label probabilities on the scan grid.

    Parameters
    ----------
    probabilities
        Of the labels, on `grid`.
    grid
        The standard grid.
    to_scan
        Standard mm to scan mm, shape (4, 4).
    scan
        The scan grid.
    threads
        Number of labels interpolated at the same time; the result does not depend on it.
    halved
        Interpolate by cubic splines at half the standard spacing first; linear interpolation is enough on a fine grid.

    Returns
    -------
    numpy.ndarray
        Label indices, shape ``scan.shape``, int32; 0 outside the standard grid. Of equal probabilities, the first given
        wins.
    """
    scan_to_standard_vox = invert(to_scan @ grid.affine) @ scan.affine
    best = np.full(scan.shape, -np.inf, dtype=np.float32)
    labels = np.zeros(scan.shape, dtype=np.int32)

    def resampled(probability: LabelProbability) -> tuple[int, Box, FloatVolume] | None:
        return _resampled(probability, scan_to_standard_vox, scan.shape, 2 if halved else 1)

    with ThreadPoolExecutor(threads) as pool:
        for result in pool.map(resampled, probabilities):
            if result is None:
                continue
            label, box, values = result
            better = values > best[box]
            best[box][better] = values[better]
            labels[box][better] = label
    return labels


def _resampled(
    probability: LabelProbability, scan_to_standard_vox: Affine, shape: tuple[int, int, int], finer: int
) -> tuple[int, Box, FloatVolume] | None:
    """Logarithm of a probability in the voxels of the scan that its box covers: label, box of the scan, values.

    With `finer` 2, the spline is evaluated at half the standard spacing, where it is one matrix for each axis. Values
    between these points are interpolated linearly.
    """
    first = np.array([s.start for s in probability.box], dtype=np.float64)
    box = _scan_box(scan_to_standard_vox, first, np.array(probability.values.shape), shape)
    if box is None:
        return None
    fine = np.log(probability.values + np.float32(NEGLIGIBLE))
    for axis, size in enumerate(fine.shape if finer > 1 else ()):
        fine = np.moveaxis(np.tensordot(_halving(size), fine, axes=(1, axis)), 0, axis)
    to_fine = finer * scan_to_standard_vox[:3, :3]
    offset = to_fine @ np.array([s.start for s in box]) + finer * (scan_to_standard_vox[:3, 3] - first)
    values = ndimage.affine_transform(
        fine, to_fine, offset, _shape(box), order=1, mode="constant", cval=-np.inf, output=np.float32
    )
    return probability.index, box, values


@functools.lru_cache(maxsize=256)
def _halving(size: int) -> NDArray[np.float32]:
    """Matrix that maps values at 0, 1, 2, ... to their cubic spline at 0, 0.5, 1, ..., shape (2 size - 1, size)."""
    spline = make_interp_spline(np.arange(size), np.eye(size), k=min(3, size - 1))
    matrix: NDArray[np.float32] = spline(np.arange(2 * size - 1) / 2).astype(np.float32)
    return matrix


def _scan_box(
    scan_to_standard_vox: Affine, first: NDArray[np.float64], size: NDArray[np.int_], shape: tuple[int, int, int]
) -> Box | None:
    """Voxels of the scan that a box of standard voxels covers, or None where they are outside the scan."""
    corners = apply_affine(invert(scan_to_standard_vox), box_corners(first, first + size - 1))
    box = covering_box(corners, shape, at_least=0)
    return box if all(s.start < s.stop for s in box) else None
