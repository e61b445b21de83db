"""From a standard grid back to the scan's own: every voxel takes the label whose share, interpolated there, is largest.

A share is what speaks for a label in a voxel of the standard grid: the mean probability that the tiles give it, or 1
where the fused labels say so. Shares are interpolated linearly, label by label and only around where a label is, so
that outlines are smooth at the scan's resolution, and nothing is registered or resampled twice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.arrays import Affine, FloatVolume, Grid, LabelVolume
from efface.segment.tiles import Geometry
from efface.segment.unet import CLASSES

NEGLIGIBLE = 0.01
"""Probabilities below this decide nothing: the largest of a voxel is larger."""
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Share:
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
    geometry
        Where tiles lie.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._sums = np.zeros((CLASSES, *geometry.grid.shape), dtype=np.float32)
        self._tiles = np.zeros(geometry.grid.shape, dtype=np.float32)

    def add(
        self, name: str, voxels: NDArray[np.int64], channels: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> None:
        """Take in a tile.

        Parameters
        ----------
        name
            The tile's.
        voxels
            Flat indices into the tile where anything but background is possible, shape (n,).
        channels
            Label indices, ascending, the first is 0, shape (k,).
        probabilities
            Shape (n, k), rows sum to one.
        """
        box = self.geometry.box(name)
        self._tiles[box] += 1
        x, y, z = np.unravel_index(voxels, self.geometry.tile_shape)
        flat = np.ravel_multi_index((x + box[0].start, y + box[1].start, z + box[2].start), self.geometry.grid.shape)
        row, column = np.nonzero(probabilities[:, 1:] > NEGLIGIBLE)
        at = channels[column + 1] * self._tiles.size + flat[row]
        self._sums.reshape(-1)[at] += probabilities[row, column + 1]

    def shares(self) -> Iterator[Share]:
        """Every label that has the largest share somewhere, where that is; background first: what the labels leave."""
        count = np.maximum(self._tiles, 1)
        self._sums[0] = count - self._sums[1:].sum(axis=0)
        for index, box in _boxes(self._sums.argmax(axis=0)):
            yield Share(index, box, self._sums[index][box] / count[box])


def label_shares(labels: LabelVolume) -> Iterator[Share]:
    """Shares of a label volume: 1 where the label is."""
    for index, box in _boxes(labels):
        yield Share(index, box, (labels[box] == index).astype(np.float32))


def _boxes(labels: NDArray[np.integer]) -> Iterator[tuple[int, Box]]:
    """Each label with the box it lies in and a voxel around it; background with the box of all labels."""
    inside = ndimage.find_objects((labels > 0).astype(np.int8))
    found = ndimage.find_objects(labels)
    for index, box in [(0, box) for box in inside] + [(i, box) for i, box in enumerate(found, 1) if box is not None]:
        x, y, z = (slice(max(0, s.start - 1), s.stop + 1) for s in box)
        yield index, (x, y, z)


def to_scan_grid(shares: Iterable[Share], grid: Grid, to_scan: Affine, scan: Grid) -> LabelVolume:
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

    Returns
    -------
    numpy.ndarray
        Label indices, shape ``scan.shape``, int32; 0 outside the standard grid. Of equal shares the first given wins.
    """
    to_index = np.linalg.inv(to_scan @ grid.affine) @ scan.affine
    best = np.zeros(scan.shape, dtype=np.float32)
    found = np.zeros(scan.shape, dtype=np.int32)
    for share in shares:
        low = np.array([s.start for s in share.box], dtype=np.float64)
        part = _covered(to_index, low, np.array(share.values.shape), scan.shape)
        if part is None:
            continue
        padded = np.pad(share.values, 1, mode="edge" if share.index == 0 else "constant")
        start = np.array([s.start for s in part])
        offset = to_index[:3, :3] @ start + to_index[:3, 3] - low + 1
        shape = tuple(s.stop - s.start for s in part)
        values = ndimage.affine_transform(
            padded, to_index[:3, :3], offset, shape, order=1, mode="grid-constant", output=np.float32
        )
        better = values > best[part]
        best[part][better] = values[better]
        found[part][better] = share.index
    return found


def _covered(
    to_index: Affine, low: NDArray[np.float64], size: NDArray[np.int_], shape: tuple[int, int, int]
) -> Box | None:
    """The scan's voxels that lie within one voxel of a box of the standard grid, or None."""
    corners = np.stack(np.meshgrid(*[(a - 1, a + n) for a, n in zip(low, size, strict=True)], indexing="ij"), axis=-1)
    back = np.linalg.inv(to_index)
    at = corners.reshape(-1, 3) @ back[:3, :3].T + back[:3, 3]
    first = np.clip(np.floor(at.min(axis=0)), 0, shape).astype(int)
    last = np.clip(np.ceil(at.max(axis=0)) + 1, 0, shape).astype(int)
    if not np.all(first < last):
        return None
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return x, y, z
