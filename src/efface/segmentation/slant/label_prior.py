"""Spatial label prior: logarithms of label frequencies on the standard grid, small enough to ship.

Frequencies are kept at half the grid's resolution (they are smooth), and as bytes on a logarithmic scale, because it
is the logarithm that is added to a network's scores, and that is interpolated. Most bytes are zero: a label is
possible in a small part of the grid only, so the file is small, and only the possible is computed.
"""

import functools
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from efface.errors import InputError
from efface.segmentation.labels import MIRRORED
from efface.segmentation.slant.tiling import Geometry
from efface.segmentation.slant.unet import CLASSES
from efface.spatial.boxes import Box

LOG_FLOOR = float(np.log(1e-3))
"""Logarithm of the frequency below which a label counts as impossible; byte 0. Byte 255 is frequency one."""
SMOOTHING_VOX = 0.7
"""Standard deviation of the smoothing at half resolution, 2.8 mm: what few heads do not show is possible nearby."""

NEAR = 3
"""Labels that occur this near a block, in voxels of the half grid (12 mm), are possible in it."""


@dataclass(frozen=True)
class BlockPrior:
    """Label frequencies in a box of the grid, where anything but background is possible.

    Attributes
    ----------
    voxels
        Flat indices into the box, ascending, int64, shape (n,).
    channels
        Label indices that are possible in the box, ascending, the first is 0, int64, shape (k,).
    log_prior
        Natural logarithms of frequencies, float32, shape (n, k).
    """

    voxels: torch.Tensor
    channels: torch.Tensor
    log_prior: torch.Tensor


@dataclass(frozen=True, eq=False)
class LabelPrior:
    """Label frequencies of a geometry.

    Attributes
    ----------
    geometry
        Whose grid; its sides are even.
    levels
        Bytes as described for `LOG_FLOOR`, shape (133, x / 2, y / 2, z / 2).
    """

    geometry: Geometry
    levels: NDArray[np.uint8]

    @functools.cached_property
    def symmetric(self) -> bool:
        """Whether the mirror image of a head has the mirror image of these frequencies."""
        return bool(np.array_equal(self.levels, self.levels[MIRRORED, ::-1]))

    def tile(self, name: str) -> BlockPrior:
        """Frequencies in a tile.

        Raises
        ------
        InputError
            If there is no tile of that name.
        """
        return self._inside(self.geometry.box(name), 0)

    @functools.cached_property
    def blocks(self) -> list[tuple[Box, BlockPrior]]:
        """Frequencies in each block of the geometry where any label is possible; of those in or near the block."""
        made = [(box, self._inside(box, NEAR)) for box in self.geometry.blocks()]
        return [(box, block) for box, block in made if block.voxels.numel()]

    def _inside(self, box: Box, near: int) -> BlockPrior:
        sizes = self.levels.shape[1:]
        spans = [_needed(n, span) for n, span in zip(sizes, box, strict=True)]
        wide = tuple(slice(max(0, s.start - near), min(n, s.stop + near)) for n, s in zip(sizes, spans, strict=True))
        channels = np.union1d([0], np.flatnonzero(self.levels[:, *wide].any(axis=(1, 2, 3))))
        part = self.levels[channels][:, *spans]
        doubling = [_doubling(n, span) for n, span in zip(sizes, box, strict=True)]
        anything = np.asarray(part[1:].any(axis=0), dtype=np.float32)
        anywhere = _interpolated(anything[..., None], doubling)
        voxels = np.flatnonzero(anywhere > 0)
        levels = _interpolated(np.moveaxis(part, 0, -1).astype(np.float32), doubling)
        log_prior = np.float32(LOG_FLOOR) * (1 - levels.reshape(-1, len(channels))[voxels] / np.float32(255))
        return BlockPrior(torch.from_numpy(voxels), torch.from_numpy(channels), torch.from_numpy(log_prior))

    def to_bytes(self) -> bytes:
        """A compressed file of the levels."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, levels=self.levels)
        return buffer.getvalue()


def load_label_prior(path: Path, geometry: Geometry) -> LabelPrior:
    """Read what `LabelPrior.to_bytes` made.

    Raises
    ------
    InputError
        If the file is missing or of another geometry.
    """
    shape = (CLASSES, *(n // 2 for n in geometry.grid.shape))
    try:
        with np.load(path) as file:
            levels = file["levels"]
    except (OSError, ValueError, KeyError) as error:
        msg = f"label frequencies {path} cannot be read ({error}): expected a file made by efface.training.slant"
        raise InputError(msg) from error
    if levels.shape != shape or levels.dtype != np.uint8:
        msg = f"label frequencies {path} must be bytes of shape {shape}; received {levels.dtype} {levels.shape}"
        raise InputError(msg)
    return LabelPrior(geometry, levels)


def build_label_prior(counts: NDArray[np.floating], geometry: Geometry) -> LabelPrior:
    """Make frequencies from counts of labels at half resolution.

    Parameters
    ----------
    counts
        How often each label was seen in each voxel, any scale, shape (133, x / 2, y / 2, z / 2).
    geometry
        The grid they are of.
    """
    smooth = np.stack([ndimage.gaussian_filter(c.astype(np.float32), SMOOTHING_VOX) for c in counts])
    total = smooth.sum(axis=0)
    smooth[0] += total <= 0
    frequency = smooth / np.where(total > 0, total, 1)
    with np.errstate(divide="ignore"):
        levels = 255 * (1 - np.log(frequency) / LOG_FLOOR)
    return LabelPrior(geometry, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _needed(size: int, span: slice) -> slice:
    """The part of the half grid, `size` long, between whose voxels those of a span of the full one lie."""
    return slice(max(0, (span.start - 1) // 2), min(size - 1, span.stop // 2) + 1)


def _doubling(size: int, span: slice) -> NDArray[np.float32]:
    """Linear interpolation from `_needed` to the span, as a matrix; a block of two shares its centre with one voxel."""
    part = _needed(size, span)
    at = np.clip((np.arange(span.start, span.stop) - 0.5) / 2, part.start, part.stop - 1) - part.start
    distance = np.abs(at[:, None] - np.arange(part.stop - part.start))
    matrix: NDArray[np.float32] = np.clip(1 - distance, 0, None).astype(np.float32)
    return matrix


def _interpolated(values: NDArray[np.float32], matrices: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Apply a matrix along each of the first three axes; the fourth, channels, stays."""
    a, b, c = matrices
    x, y, z, k = len(a), len(b), len(c), values.shape[3]
    along_x = np.tensordot(a, values, axes=1)
    along_y = (b @ along_x.reshape(x, b.shape[1], -1)).reshape(x * y, c.shape[1], k)
    along_z: NDArray[np.float32] = np.matmul(c, along_y)
    return along_z.reshape(x, y, z, k)
