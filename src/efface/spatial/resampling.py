"""Transforms and sampling: an image on another grid, through an affine or a deformation.

A transform maps *fixed* world coordinates to *moving* world coordinates, in RAS+ mm. So resampling the moving image on
the fixed grid uses the transform as it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.errors import InputError
from efface.spatial.affine import apply_affine, invert
from efface.spatial.types import Affine, Displacement, FloatVolume, Grid, Volume

COARSER = 1.15
"""Sampling more than this much coarser is preceded by smoothing."""
SIGMA_PER_STEP = 0.35
"""Standard deviation of that smoothing, in steps of the coarser grid."""


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
        out = ndimage.affine_transform(
            moving.data, matrix[:3, :3], matrix[:3, 3], grid.shape, order=order, mode="grid-constant", cval=fill
        )
    result: FloatVolume = np.asarray(out, dtype=np.float32)
    return result


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
    padded = np.pad(volume.data, [(0, int(-n % s)) for n, s in zip(volume.data.shape, step, strict=True)], mode="edge")
    x, y, z = (n // s for n, s in zip(padded.shape, step, strict=True))
    blocks = padded.reshape(x, step[0], y, step[1], z, step[2])
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, :3] * step
    affine[:3, 3] = volume.affine[:3, :3] @ ((step - 1) / 2) + volume.affine[:3, 3]
    return Volume(blocks.mean(axis=(1, 3, 5), dtype=np.float32), affine)


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
