"""Spatial label prior: log frequencies of the labels on the standard grid.

Frequencies are smooth, so they are stored at half the resolution of the grid. They are stored as bytes on a logarithmic
scale, because their logarithms are interpolated and added to the scores of the networks. A label is possible only in a
small part of the grid: most bytes are zero, the compressed file is small, and scores are computed for few labels.
"""

import functools
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from efface.errors import InputError
from efface.io.array_files import read_arrays
from efface.segmentation.labels import MIRRORED
from efface.segmentation.slant.tiling import Geometry
from efface.segmentation.slant.unet import CLASSES
from efface.spatial.boxes import Box

LOG_FLOOR = float(np.log(1e-3))
"""Logarithm of the frequency below which a label counts as impossible; byte 0. Byte 255 is frequency one."""
SMOOTHING_VOX = 0.7
"""Standard deviation of the smoothing, in voxels of the half grid (2.8 mm); it covers what few training heads miss."""
HEADER_BYTES = 2**16
"""What the file may have beside the levels."""
NEAR_VOX = 3
"""A label is possible in a block if it occurs within this distance, in voxels of the half grid (12 mm)."""


@dataclass(frozen=True)
class BlockPrior:
    """Label prior in a box of the grid, restricted to voxels where a label other than background is possible.

    Attributes
    ----------
    voxels
        These voxels as flat indices into the box, ascending, int64, shape (n,).
    channels
        Label indices that are possible in the box, ascending from 0 (background), int64, shape (k,).
    log_prior
        Natural logarithms of the label frequencies, float32, shape (n, k).
    """

    voxels: torch.Tensor
    channels: torch.Tensor
    log_prior: torch.Tensor


@dataclass(frozen=True, eq=False)
class LabelPrior:
    """Label frequencies on the standard grid of a geometry.

    Attributes
    ----------
    geometry
        The grid and its tiles; the grid has an even number of voxels along each axis.
    levels
        Logarithms of the frequencies as bytes, see `LOG_FLOOR`, shape (133, x / 2, y / 2, z / 2).
    """

    geometry: Geometry
    levels: NDArray[np.uint8]

    @functools.cached_property
    def symmetric(self) -> bool:
        """Whether the frequencies are symmetric about the midline, with left and right labels exchanged."""
        return bool(np.array_equal(self.levels, self.levels[MIRRORED, ::-1]))

    def tile(self, name: str) -> BlockPrior:
        """Label prior in a tile.

        Raises
        ------
        InputError
            If there is no tile of that name.
        """
        return self._inside(self.geometry.box(name), 0)

    @functools.cached_property
    def blocks(self) -> list[tuple[Box, BlockPrior]]:
        """Box and label prior of every block of the geometry in which a label other than background is possible."""
        made = [(box, self._inside(box, NEAR_VOX)) for box in self.geometry.blocks()]
        return [(box, block) for box, block in made if block.voxels.numel()]

    def _inside(self, box: Box, near: int) -> BlockPrior:
        """Label prior in a box; labels that occur within `near` voxels of the half grid count as possible."""
        sizes = self.levels.shape[1:]
        spans = [_needed(n, span) for n, span in zip(sizes, box, strict=True)]
        wide = tuple(slice(max(0, s.start - near), min(n, s.stop + near)) for n, s in zip(sizes, spans, strict=True))
        channels = np.union1d([0], np.flatnonzero(self.levels[:, *wide].any(axis=(1, 2, 3))))
        part = self.levels[channels][:, *spans]
        doubling = [_doubling(n, span) for n, span in zip(sizes, box, strict=True)]
        foreground = np.asarray(part[1:].any(axis=0), dtype=np.float32)
        voxels = np.flatnonzero(_interpolated(foreground[..., None], doubling) > 0)
        levels = _interpolated(np.moveaxis(part, 0, -1).astype(np.float32), doubling)
        log_prior = np.float32(LOG_FLOOR) * (1 - levels.reshape(-1, len(channels))[voxels] / np.float32(255))
        return BlockPrior(torch.from_numpy(voxels), torch.from_numpy(channels), torch.from_numpy(log_prior))

    def to_bytes(self) -> bytes:
        """Content of the file that `load_label_prior` reads, compressed."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, levels=self.levels)
        return buffer.getvalue()


def load_label_prior(path: Path, geometry: Geometry) -> LabelPrior:
    """Read a label prior.

    Parameters
    ----------
    path
        File with the content of `LabelPrior.to_bytes`.
    geometry
        The grid and its tiles.

    Raises
    ------
    InputError
        If the file cannot be read, or has another grid.
    """
    shape = (CLASSES, *(n // 2 for n in geometry.grid.shape))
    levels = read_arrays(
        path,
        ["levels"],
        what="label prior",
        expected="a file of `efface train slant`",
        largest=math.prod(shape) + HEADER_BYTES,
    )["levels"]
    if levels.shape != shape or levels.dtype != np.uint8:
        msg = (
            f"label prior {path} must be bytes of shape {shape}; received {levels.dtype} of shape {levels.shape}: "
            "make it with this version of `efface train slant`"
        )
        raise InputError(msg)
    return LabelPrior(geometry, levels)


def build_label_prior(counts: NDArray[np.floating], geometry: Geometry) -> LabelPrior:
    """Make a label prior from label counts at half resolution.

    Parameters
    ----------
    counts
        How often each label occurs in each voxel, on any scale, shape (133, x / 2, y / 2, z / 2).
    geometry
        The grid and its tiles.
    """
    smooth = np.stack([ndimage.gaussian_filter(c.astype(np.float32), SMOOTHING_VOX) for c in counts])
    total = smooth.sum(axis=0)
    smooth[0] += total <= 0
    frequency = smooth / np.where(total > 0, total, 1)
    with np.errstate(divide="ignore"):
        levels = 255 * (1 - np.log(frequency) / LOG_FLOOR)
    return LabelPrior(geometry, np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _needed(size: int, span: slice) -> slice:
    """Voxels along an axis of the half grid, of `size` voxels, that interpolation to a span of the full grid needs."""
    return slice(max(0, (span.start - 1) // 2), min(size - 1, span.stop // 2) + 1)


def _doubling(size: int, span: slice) -> NDArray[np.float32]:
    """Matrix of the linear interpolation from `_needed` to the span.

    One voxel of the half grid covers two of the full grid, so full voxel i is at half voxel (i - 0.5) / 2.
    """
    part = _needed(size, span)
    at = np.clip((np.arange(span.start, span.stop) - 0.5) / 2, part.start, part.stop - 1) - part.start
    distance = np.abs(at[:, None] - np.arange(part.stop - part.start))
    matrix: NDArray[np.float32] = np.clip(1 - distance, 0, None).astype(np.float32)
    return matrix


def _interpolated(values: NDArray[np.float32], matrices: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Apply a matrix along each of the first three axes of an array of shape (x, y, z, channels)."""
    a, b, c = matrices
    x, y, z, k = len(a), len(b), len(c), values.shape[3]
    along_x = np.tensordot(a, values, axes=1)
    along_y = (b @ along_x.reshape(x, b.shape[1], -1)).reshape(x * y, c.shape[1], k)
    along_z: NDArray[np.float32] = np.matmul(c, along_y)
    return along_z.reshape(x, y, z, k)
