"""The skin surface: where a smoothed scan crosses one threshold."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.errors import InputError
from efface.spatial.grid_limits import check_voxels
from efface.spatial.masks import connected_pieces, otsu_threshold
from efface.spatial.types import FloatVolume, Grid, Volume

GRID_MM, COARSE_MM = 1.0, 4.0
SMOOTH_MM = 1.25
"""Standard deviation of the smoothing: noise on the skin goes, lips and nostrils stay."""
SMOOTH_VOXELS = 0.9
"""The least standard deviation in voxels that leaves no ripple of the voxels in the surface."""
OTSU_SHARE = 0.5
"""Of Otsu's threshold: lower values add noise to the skin, higher values lose thin skin."""
BRIGHTEST_PERCENTILE = 99.0
"""Brighter values are clipped before the threshold is found."""
SPECK_ML = 1.0
"""Pieces below this are noise in the air; a nose cut off its face has more."""
REACH, AT_ONCE = 6.0, 8
"""Standard deviations at which a Gaussian weight ends, and points that are sampled together."""

BLOCK = 2
"""Voxels along the edge of the blocks by which rays leap through empty space."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The skin surface of a head.

    Attributes
    ----------
    volume
        Smoothed intensities on a grid of 1 mm along the scan's own axes, with air all around.
    threshold
        The intensity at the surface, in units of the scan.
    """

    volume: Volume
    threshold: float

    @functools.cached_property
    def empty_blocks(self) -> NDArray[np.uint8]:
        """How many blocks of `BLOCK` voxels can be crossed in any direction from each block without a crossing."""
        inside = self.volume.data >= self.threshold
        padded = np.pad(inside, [(0, -n % BLOCK) for n in inside.shape])
        for axis in range(3):
            padded = np.maximum.reduceat(padded, np.arange(0, padded.shape[axis], BLOCK), axis=axis)
        if not padded.any():
            return np.full(padded.shape, 255, np.uint8)
        blocks = ndimage.distance_transform_cdt(~padded, "chessboard")
        # One less for where in its block a ray starts, and one for the neighbours that interpolation looks at.
        return np.asarray(np.clip(blocks - 2, 0, 255), dtype=np.uint8)


def head_surface(volume: Volume, *, threshold: float | None = None) -> Surface:
    """Find the surface of everything in a scan that stands out from the air.

    Parameters
    ----------
    volume
        A head, any orientation and spacing, with dark air at 0, as `efface.anatomy.background.dark_air` gives it.
    threshold
        Intensity at the surface; half of Otsu's threshold when not given. For a defaced scan, give the original's.

    Returns
    -------
    Surface
        All pieces of at least `SPECK_ML`, not only the largest: a viewer shows them too, so a
        nose that defacing left hanging in the air, or that is wrapped behind the head, is shown.

    Raises
    ------
    InputError
        If the volume is constant, or the threshold is not a positive number.
    """
    if threshold is None:
        threshold = skin_threshold(volume)
    if not (np.isfinite(threshold) and threshold > 0):
        msg = f"threshold must be a positive intensity; received {threshold:g}: give that of the original scan"
        raise InputError(msg)
    smooth = smoothed(volume, GRID_MM)
    _remove_specks(smooth.data, threshold)
    return Surface(smooth, threshold)


def skin_threshold(volume: Volume) -> float:
    """Intensity at which a head begins: a share of Otsu's threshold of the smoothed scan, bright outliers clipped.

    Raises
    ------
    InputError
        If the volume is constant.
    """
    values = smoothed(volume, COARSE_MM).data
    values = values.clip(0, np.percentile(values, BRIGHTEST_PERCENTILE))
    if values.min() == values.max():
        msg = f"no head stands out: all smoothed intensities are {values.min():g}; expected a head scan: check it"
        raise InputError(msg)
    return OTSU_SHARE * otsu_threshold(values)


def smoothed(volume: Volume, step_mm: float) -> Volume:
    """Smooth a volume and sample it at `step_mm` along its axes at once: one matrix of Gaussian weights an axis.

    The new grid has a margin where everything has faded to the air outside, 0.

    Raises
    ------
    InputError
        If the voxel size asks for a grid beyond `MAXIMUM_VOXELS`.
    """
    data: FloatVolume = volume.data
    affine = volume.affine.copy()
    check_voxels(_sampled_sides(volume.grid, step_mm), f"sampling the skin at {step_mm:g} mm")
    for axis, (count, spacing) in enumerate(zip(volume.data.shape, volume.grid.spacing_mm, strict=True)):
        sigma, margin = _sigma_mm(spacing), _margin_mm(spacing, step_mm)
        new_mm = np.arange(-margin, (count - 1) * spacing + margin, step_mm)
        data = _weighted(data, axis, new_mm / spacing, sigma / spacing)
        affine[:3, 3] -= volume.affine[:3, axis] / spacing * margin
        affine[:3, axis] *= step_mm / spacing
    return Volume(data, affine)


def _weighted(data: FloatVolume, axis: int, at: NDArray[np.float64], sigma: float) -> FloatVolume:
    """Gaussian means around points along one axis (voxels; air, 0, outside), a few points at a time.

    Beyond `REACH` standard deviations a weight is less than the rounding of the sum.
    """
    count, after = data.shape[axis], math.prod(data.shape[axis + 1 :])
    source = data.reshape(-1, count, after)
    means = np.zeros((source.shape[0], len(at), after), np.float32)
    for first in range(0, len(at), AT_ONCE):
        some = at[first : first + AT_ONCE]
        low, high = math.floor(some[0] - REACH * sigma), math.ceil(some[-1] + REACH * sigma) + 1
        near = np.arange(max(low, 0), min(high, count))
        weights = np.exp(-0.5 * ((some[:, None] - near) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        values, sums = source[:, max(low, 0) : min(high, count)], means[:, first : first + AT_ONCE]
        if after == 1:  # one product instead of one for every line
            np.matmul(values[..., 0], weights.T.astype(np.float32), out=sums[..., 0])
        else:
            np.matmul(weights.astype(np.float32), values, out=sums)
    return means.reshape(*data.shape[:axis], len(at), *data.shape[axis + 1 :])


def _sigma_mm(spacing: float) -> float:
    return max(SMOOTH_MM, SMOOTH_VOXELS * spacing)


def _margin_mm(spacing: float, step_mm: float) -> float:
    return 4 * _sigma_mm(spacing) + step_mm


def _sampled_sides(grid: Grid, step_mm: float) -> list[int]:
    """Voxels along each axis of what `smoothed` makes, rounded up."""
    return [
        math.ceil(((count - 1) * spacing + 2 * _margin_mm(spacing, step_mm)) / step_mm)
        for count, spacing in zip(grid.shape, grid.spacing_mm.tolist(), strict=True)
    ]


def _remove_specks(data: FloatVolume, threshold: float) -> None:
    """Set pieces above the threshold, of less than `SPECK_ML`, to air."""
    labels, sizes = connected_pieces(data >= threshold, corners=True)
    small = sizes * GRID_MM**3 / 1000 < SPECK_ML
    small[0] = False
    data[small[labels]] = 0
