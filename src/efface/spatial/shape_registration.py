"""Registration of two surfaces, given as signed distances on one grid, by a smooth displacement without folds.

In each step, the points near the fixed surface ask to be moved along the gradient of the moving distance by what they
are off; Gaussians spread the wishes over the space, wide ones first: what is deep below the surface follows smoothly,
and less. A displacement that nearly folds is smoothed there.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.spatial.masks import box_of
from efface.spatial.types import Displacement, FloatVolume

BAND_MM = 3.0
"""Width of the band around the surface that drives the displacement."""
LEAST_BAND = 1e-4
"""Points that count less do not."""
DAMPING = 0.06
"""Of the weight of a plane surface under the Gaussian: far from the surface, the displacement fades."""
WIDE = 2.0
"""Gaussians this many voxels wide are applied on every second voxel."""
MOST_MM = 12.0
"""Largest wish of a point in one step."""
MOST_IN_ALL_MM = 20.0
"""Largest displacement before it is limited: where little of it is applied, wishes are never met, and would add up."""
LEAST_RATIO = 0.2
"""Ratio of volumes below which the displacement is smoothed."""
REPAIRS, WEAKENED = 30, 0.3
"""How often it is smoothed, then how often weakened, and by how much each time."""


def register_shapes(
    fixed: FloatVolume,
    moving: FloatVolume,
    mm: float,
    *,
    allowed: FloatVolume,
    sigmas_mm: Sequence[float],
) -> Displacement:
    """Find the displacement u with ``moving(x + u(x)) = fixed(x)`` at the fixed surface.

    Parameters
    ----------
    fixed, moving
        Signed distances, positive inside, mm; same shape.
    mm
        Voxel edge length.
    allowed
        The displacement is multiplied by it, 0 to 1: where it is 0 nothing moves.
    sigmas_mm
        Standard deviation of the Gaussian of each step.

    Returns
    -------
    numpy.ndarray
        In voxel axes, mm, shape (x, y, z, 3); exactly 0 where `allowed` is. Look at its `volume_ratio`: it is positive
        everywhere unless all repairs failed.
    """
    shift = np.zeros((3, *fixed.shape), dtype=np.float32)
    wide = [sigma for sigma in sigmas_mm if sigma >= WIDE * mm]
    if wide:
        half = (slice(None, None, 2),) * 3
        coarse = np.zeros((3, *fixed[half].shape), dtype=np.float32)
        _moved_on(coarse, fixed[half], moving[half], 2 * mm, allowed[half], wide)
        for axis in range(3):
            shift[axis] = ndimage.affine_transform(
                coarse[axis], np.full(3, 0.5), 0.0, fixed.shape, order=1, mode="nearest"
            )
    _moved_on(shift, fixed, moving, mm, allowed, [sigma for sigma in sigmas_mm if sigma < WIDE * mm])
    return unfolded(np.moveaxis(allowed * shift, 0, -1), mm, allowed)


def _moved_on(
    shift: NDArray[np.float32],
    fixed: FloatVolume,
    moving: FloatVolume,
    mm: float,
    allowed: FloatVolume,
    sigmas_mm: Sequence[float],
) -> None:
    """Go on with a displacement before it is limited, mm, shape (3, x, y, z), in place."""
    slopes = gradient(moving, mm)
    slopes /= np.maximum(np.linalg.norm(slopes, axis=0), 0.5)
    band = allowed * np.exp(-np.square(fixed / np.float32(BAND_MM)))
    near = band > LEAST_BAND
    at, drive, limit, target = np.argwhere(near).T.astype(np.float32), band[near], allowed[near], fixed[near]
    wish = np.zeros(fixed.shape, dtype=np.float32)
    weights: dict[float, FloatVolume] = {}
    for sigma in sigmas_mm:
        if sigma not in weights:
            weights[sigma] = _smooth(band, sigma / mm) + np.float32(DAMPING * BAND_MM / sigma)
        where = at + limit * shift[:, near] / np.float32(mm)
        off = np.clip(target - ndimage.map_coordinates(moving, where, order=1, mode="nearest"), -MOST_MM, MOST_MM)
        for axis in range(3):
            wish[near] = drive * off * ndimage.map_coordinates(slopes[axis], where, order=1, mode="nearest")
            shift[axis] += _smooth(wish, sigma / mm) / weights[sigma]
        length = np.linalg.norm(shift, axis=0)
        shift *= MOST_IN_ALL_MM / np.maximum(length, MOST_IN_ALL_MM)


def _smooth(values: FloatVolume, sigma_vox: float) -> FloatVolume:
    return np.asarray(ndimage.gaussian_filter(values, sigma_vox, truncate=3.0, mode="nearest"), dtype=np.float32)


def gradient(values: FloatVolume, mm: float) -> NDArray[np.float32]:
    """Slopes along the axes of a volume of cubic voxels, per mm, shape (3, x, y, z)."""
    slopes = np.empty((3, *values.shape), dtype=np.float32)
    for axis in range(3):
        slopes[axis] = np.gradient(values, mm, axis=axis)
    return slopes


def volume_ratio(displacement: Displacement, mm: float) -> FloatVolume:
    """Jacobian determinant of ``x + u(x)``, shape (x, y, z): where it is above 0 nothing folds.

    Parameters
    ----------
    displacement
        In voxel axes, mm, shape (x, y, z, 3).
    mm
        Voxel edge length.
    """
    rows = [np.gradient(displacement[..., axis], mm) for axis in range(3)]
    (a, b, c), (d, e, f), (g, h, i) = rows
    a, e, i = a + 1, e + 1, i + 1
    return np.asarray(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g), dtype=np.float32)


def unfolded(displacement: Displacement, mm: float, where: FloatVolume) -> Displacement:
    """Smooth a displacement where it squeezes space to less than `LEAST_RATIO`, until it does not; then weaken it there.

    Parameters
    ----------
    displacement
        In voxel axes, mm, shape (x, y, z, 3).
    mm
        Voxel edge length.
    where
        Share of a change that is made, 0 to 1, shape (x, y, z): where it is 0, nothing is changed.
    """
    field = np.array(displacement, dtype=np.float32)
    for repair in range(2 * REPAIRS):
        tight: NDArray[np.bool_] = volume_ratio(field, mm) < LEAST_RATIO
        if not tight.any():
            break
        sigma = 1.0 + 0.1 * repair
        share = ndimage.gaussian_filter(ndimage.binary_dilation(tight, iterations=2).astype(np.float32), 1.0)
        share *= where
        at = box_of(share > 0, round(3 * sigma) + 1)
        for axis in range(3):
            part = field[..., axis][at]
            if repair < REPAIRS:
                part += share[at] * (_smooth(part, sigma) - part)
            else:
                part *= 1 - np.float32(WEAKENED) * share[at]
    return field
