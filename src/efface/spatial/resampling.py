"""Transforms and sampling: an image on another grid, through an affine or a deformation.

A transform maps *fixed* world coordinates to *moving* world coordinates, in RAS+ mm. So resampling the moving image on
the fixed grid uses the transform as it is.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.errors import InputError
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import Box
from efface.spatial.types import Affine, BoolVolume, Displacement, FloatVolume, Grid, Volume

COARSER = 1.15
"""Sampling more than this much coarser is preceded by smoothing."""
SIGMA_PER_STEP = 0.35
"""Standard deviation of that smoothing, in steps of the coarser grid."""

TILE_VOX, BLOCK_VOX = 16, 4
"""Sides of the tiles of a grid, not sampled where the image is empty, and of the blocks by which that is seen."""


@dataclass(frozen=True)
class Warp:
    """A deformable transform: fixed point x goes to ``affine @ (x + displacement(x))`` in moving space.

    Attributes
    ----------
    displacement
        On `grid`, shape (x, y, z, 3), RAS+ mm, float32.
    grid
        The fixed grid.
    affine
        Fixed mm to moving mm, applied after the displacement, shape (4, 4).
    """

    displacement: Displacement
    grid: Grid
    affine: Affine


Transform = Affine | Warp


def resample(
    moving: Volume,
    grid: Grid,
    transform: Transform | None = None,
    *,
    order: int = 1,
    fill: float = 0.0,
) -> FloatVolume:
    """Sample `moving` on `grid` through a transform from grid mm to moving mm.

    Parameters
    ----------
    moving
        The image to sample.
    grid
        Where to sample it.
    transform
        A 4x4 matrix, a `Warp` on this grid, or None for identity.
    order
        Spline order: 0 nearest, 1 linear, 3 cubic.
    fill
        Value outside the moving image.
    """
    to_voxel = invert(moving.affine)
    if isinstance(transform, Warp):
        points = warp_points(transform, grid)
        index = apply_affine(to_voxel, points)
        out = ndimage.map_coordinates(
            moving.data, np.moveaxis(index, -1, 0), order=order, mode="grid-constant", cval=fill
        )
    else:
        matrix = to_voxel @ (np.eye(4) if transform is None else transform) @ grid.affine
        out = np.full(grid.shape, fill, moving.data.dtype)
        whole = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
        for at, known in _tiles(moving.data, matrix, grid.shape, fill) if order <= 1 else [(whole, None)]:
            if known is not None:
                out[at] = known
                continue
            start = np.array([part.start for part in at])
            ndimage.affine_transform(
                moving.data, matrix[:3, :3], matrix[:3, :3] @ start + matrix[:3, 3], out[at].shape, out[at], order=order,
                mode="grid-constant", cval=fill,
            )  # fmt: skip
    result: FloatVolume = np.asarray(out, dtype=np.float32)
    return result


def _tiles(
    data: FloatVolume, matrix: Affine, shape: tuple[int, int, int], fill: float
) -> Iterator[tuple[Box, float | None]]:
    """The tiles of a grid, and what linear sampling gives in each where `data` is all `fill`, or all 0, around it.

    Parameters
    ----------
    data
        The image that is sampled.
    matrix
        Voxels of the grid to voxels of `data`, shape (4, 4).
    shape
        Of the grid.
    fill
        Value outside the image.

    Yields
    ------
    box, value
        None for the value where it is not known.
    """
    first = np.stack(np.meshgrid(*[np.arange(0, n, TILE_VOX) for n in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    last = np.minimum(first + TILE_VOX, shape)
    there = apply_affine(matrix, (first + last - 1) / 2)
    reach = (last - 1 - first) / 2 @ np.abs(matrix[:3, :3]).T + 1.0  # sampling looks at neighbours
    low, high = there - reach, there + reach
    filled = ~_any_in(data != fill, low, high)
    zero = np.zeros_like(filled)
    if fill != 0:
        zero = (low >= 0).all(axis=1) & (high <= np.array(data.shape) - 1).all(axis=1) & ~_any_in(data != 0, low, high)
    for a, b, is_filled, is_zero in zip(first.tolist(), last.tolist(), filled, zero, strict=True):
        value = fill if is_filled else 0.0 if is_zero else None
        yield (slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2])), value


def _any_in(mask: BoolVolume, low: NDArray[np.float64], high: NDArray[np.float64]) -> BoolVolume:
    """Whether a mask has a voxel in or near each of many boxes, by sums over blocks; corners of shape (n, 3)."""
    blocks = mask
    for axis in range(3):
        blocks = np.logical_or.reduceat(blocks, np.arange(0, mask.shape[axis], BLOCK_VOX), axis=axis)
    sums = np.pad(blocks.astype(np.int64).cumsum(axis=0).cumsum(axis=1).cumsum(axis=2), ((1, 0),) * 3)
    ends = [np.clip(np.floor(x / BLOCK_VOX) + n, 0, blocks.shape).astype(int) for x, n in ((low, 0), (high, 1))]
    count = np.zeros(len(low), dtype=np.int64)
    for sides in itertools.product((0, 1), repeat=3):
        count += (-1) ** (3 - sum(sides)) * sums[tuple(ends[side][:, axis] for axis, side in enumerate(sides))]
    return np.asarray(count > 0, dtype=np.bool_)


def warp_points(warp: Warp, grid: Grid) -> NDArray[np.float64]:
    """Where every voxel of the warp's grid goes, moving RAS+ mm, shape (x, y, z, 3).

    Raises
    ------
    InputError
        If `grid` is not the grid the warp was found on.
    """
    if grid.shape != warp.grid.shape or not np.allclose(grid.affine, warp.grid.affine, atol=1e-4):
        msg = f"a warp can be sampled on its own grid only {warp.grid.shape}; received {grid.shape}"
        raise InputError(msg)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    points = apply_affine(grid.affine, index) + warp.displacement
    return apply_affine(warp.affine, points)


def block_mean(volume: Volume, mm: float) -> Volume:
    """Average blocks of whole voxels so that the spacing is about `mm`; the affine follows."""
    # Just under the half, so that the rounding errors of an oblique affine do not change the step (5 mm of 2 mm).
    step = np.maximum(1, np.round(mm / volume.grid.spacing_mm - 1e-4))
    step = np.minimum(step, volume.data.shape).astype(int)  # one block an axis, however small its voxels
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, :3] * step
    affine[:3, 3] = volume.affine[:3, :3] @ ((step - 1) / 2) + volume.affine[:3, 3]
    data = volume.data
    for axis in range(3):
        data = _block_sums(data, axis, int(step[axis]))
    return Volume(np.asarray(data / np.float32(step.prod()), dtype=np.float32), affine)


def _block_sums(data: FloatVolume, axis: int, step: int) -> FloatVolume:
    """Sums of so many voxels along an axis; the last voxel is repeated where the last block is not full."""
    if step == 1:
        return data
    missing = [(0, -data.shape[axis] % step if a == axis else 0) for a in range(3)]
    padded = np.pad(data, missing, mode="edge") if missing[axis][1] else data
    parts = [padded[(slice(None),) * axis + (slice(k, None, step),)] for k in range(step)]
    total = parts[0].astype(np.float32)
    for part in parts[1:]:
        total += part
    return total


def antialiased(data: FloatVolume, coarser: NDArray[np.float64]) -> FloatVolume:
    """Smooth intensities before they are sampled on a coarser grid.

    Parameters
    ----------
    data
        Shape (x, y, z).
    coarser
        How many of its voxels one step of the coarser grid is, along each axis, shape (3,).
    """
    sigma_vox = np.where(coarser > COARSER, SIGMA_PER_STEP * coarser, 0)
    return ndimage.gaussian_filter(data, sigma_vox) if sigma_vox.any() else data
