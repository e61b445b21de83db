"""Bring a defaced scan, made by any program, to the grid and intensities of the undefaced scan."""

import numpy as np
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.errors import InputError
from efface.io.scan import Scan
from efface.spatial.types import FloatVolume

GRID_MM = 1e-2
GRID_VOXELS = 0.02
"""Part of a voxel by which a cropped scan's grid may be off."""
REAL_CHANGE = 0.10
"""Of the brain's median intensity: grey and white matter differ by more, rounding and repacking by far less."""
SAME = 0.01
"""Of the brain's median intensity: what two copies of a value may differ by."""
MOSTLY = 0.5
"""Unchanged share of the brain below which another intensity scale is looked for, and above which one is found."""
LEAST_SAME, LEAST_CORRELATION = 0.3, 0.3
"""Unchanged share of the brain, and correlation inside it: where both are below, these are two different scans."""


def on_original_grid(original: Scan, defaced: Scan, air: float) -> tuple[FloatVolume, tuple[str, ...]]:
    """Intensities of the defaced scan on the original's RAS+ grid, and what to warn of.

    A scan that was cropped or padded by whole voxels is put in place; what is missing is air, of the original's level.

    Raises
    ------
    InputError
        If the voxels of the two do not lie over each other.
    """
    if original.shape == defaced.shape and np.allclose(original.affine, defaced.affine, atol=GRID_MM):
        return defaced.data, ()
    to_original = np.linalg.inv(original.affine) @ defaced.affine
    offset = np.rint(to_original[:3, 3]).astype(int)
    reach = np.array(defaced.shape) - 1
    drift = np.abs((to_original[:3, :3] - np.eye(3)) @ np.diag(reach)).max()
    low = np.maximum(offset, 0)
    high = np.minimum(offset + np.array(defaced.shape), original.shape)
    if drift > GRID_VOXELS or np.abs(to_original[:3, 3] - offset).max() > GRID_VOXELS or (low >= high).any():
        msg = (
            f"{defaced.path or 'the defaced scan'} must lie on the grid of {original.path or 'the original'} "
            f"(or be a part of it); expected {_grid(original)}; received {_grid(defaced)}: "
            "resample it onto the original's grid first"
        )
        raise InputError(msg)
    data = np.full(original.shape, air, dtype=np.float32)
    theirs = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, offset, strict=True))
    data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = defaced.data[theirs]
    return data, ("the defaced scan has another field of view than the original: what is missing counts as removed",)


def comparable(anatomy: HeadAnatomy, after: FloatVolume) -> tuple[FloatVolume, float, float, tuple[str, ...]]:
    """Undo a change of scale of the intensities, if another program made one.

    Parameters
    ----------
    anatomy
        Of the original.
    after
        The defaced scan on the original's grid, intensities above the original's air.

    Returns
    -------
    after
        In the original's intensities, above its air.
    level
        Median intensity of the original's brain above its air.
    slope
        What the intensities were multiplied by; 1 where nothing was undone.
    warnings
        What was undone.

    Raises
    ------
    InputError
        If the brain in the two is not the same.
    """
    before = anatomy.signal
    x, y = before[anatomy.brain].astype(np.float64), after[anatomy.brain].astype(np.float64)
    level = float(np.median(x))
    if not level > 0:
        msg = (
            f"the brain's median intensity is {level:g} above the air's; expected a T1-weighted head with a bright "
            "brain: check the scan"
        )
        raise InputError(msg)
    warnings: tuple[str, ...] = ()
    undone = 1.0
    if _unchanged(x, y, level) < MOSTLY and y.std() > 0:
        slope, intercept = _line(y, x)
        scaled = slope * y + intercept
        if _unchanged(x, scaled, level) > MOSTLY:
            after = np.asarray(slope * after + intercept, dtype=np.float32)
            warnings = (f"the defaced scan's intensities are others: taken times {slope:.4g}, plus {intercept:.4g}",)
            y, undone = scaled, slope
    same = float((np.abs(x - y) <= REAL_CHANGE * level).mean())
    if same < LEAST_SAME and _correlation(x, y) < LEAST_CORRELATION:
        msg = (
            f"only {same:.0%} of the brain is the same in both scans (expected at least {LEAST_SAME:.0%}): "
            "check that the second was made from the first"
        )
        raise InputError(msg)
    return after, level, undone, warnings


def _unchanged(x: NDArray[np.float64], y: NDArray[np.float64], level: float) -> float:
    return float((np.abs(x - y) <= SAME * level).mean())


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if y.std() > 0 and x.std() > 0 else 0.0


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Straight line through most points: least squares, three times, each without what the last did not fit."""
    keep = np.ones(x.shape, dtype=np.bool_)
    slope, intercept = 1.0, 0.0
    for _ in range(3):
        if keep.sum() < 2 or x[keep].std() == 0:
            break
        slope, intercept = (float(c) for c in np.polyfit(x[keep], y[keep], 1))
        off = np.abs(slope * x + intercept - y)
        keep = off <= max(3 * float(np.median(off)), 1e-6)
    return slope, intercept


def _grid(scan: Scan) -> str:
    spacing = " x ".join(f"{s:.3g}" for s in scan.spacing_mm)
    return f"{scan.shape} voxels of {spacing} mm at {np.round(scan.affine[:3, 3], 1).tolist()} mm"
