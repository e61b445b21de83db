"""Preprocessing of SLANT: affine alignment, bias correction, intensity normalisation on the standard grid.

The published pipeline aligns the whole head with the MNI305 average, weighted by that average's brain, resamples it,
runs N4, and maps its intensities: z-score over the brain, then a robust linear fit of the sorted intensities to the
mean ones of the training heads. Here the affine is that of the brain to the BrainCOLOR template, so that it hardly
moves when a face goes; the rest is the same. The inverse of that one affine takes labels back.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
Huber "Robust estimation of a location parameter." Ann. Math. Statist. 35 (1964) 73-101.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from efface.errors import AnatomyError
from efface.segmentation.bias_field import log_bias_field
from efface.segmentation.brain_alignment import align, initial_pose, prepare_brain
from efface.segmentation.braincolor_template import load_template
from efface.spatial.resampling import antialiased, block_mean, resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

ALIGNING_MM = 2.0
QUANTILES = np.linspace(0, 1, 501)
"""Where the distribution of the brain's intensities is compared: sorted intensities, thinned."""
CLIP = (-4.0, 5.0)
"""Limits of normalised intensities; fat and vessels are brighter than any brain."""
HUBER, MAD_TO_SD = 1.345, 0.6745
MINIMUM_BRAIN_VOX = 1000


@dataclass(frozen=True, eq=False)
class PreprocessedHead:
    """A head on a standard grid.

    Attributes
    ----------
    image
        Intensities, z-scored over the brain.
    brain
        Brain mask.
    quantiles
        Of `image` over the brain, at `QUANTILES`.
    to_scan
        Standard mm to the scan's mm, shape (4, 4).
    """

    image: FloatVolume
    brain: BoolVolume
    quantiles: NDArray[np.float64]
    to_scan: Affine


def scan_to_template(anatomy: "HeadAnatomy", warnings: list[str]) -> Affine:
    """Affine from scan mm to mm of the BrainCOLOR template, by the brain.

    Raises
    ------
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template was not found in it.
    """
    scan = block_mean(anatomy.scan.volume, ALIGNING_MM)
    mask = block_mean(Volume(anatomy.brain.astype(np.float32), anatomy.scan.affine), ALIGNING_MM).data > 0.5
    brain, inside, _ = prepare_brain(scan, mask, bias=False)  # local correlation does not see a smooth field
    return align(brain, inside, initial_pose(anatomy, warnings), load_template())


def standardise(
    volume: Volume, brain: BoolVolume, to_scan: Affine, grid: Grid, *, bias: bool = True, resolution_mm: float = 0.0
) -> PreprocessedHead:
    """Resample a head on a standard grid, divide by its bias field, and scale it by its brain's mean and spread.

    Parameters
    ----------
    volume
        The scan.
    brain
        Its brain mask, same shape.
    to_scan
        Standard mm to scan mm, shape (4, 4).
    grid
        Where to resample it.
    bias
        Whether to correct for intensity non-uniformity (N4).
    resolution_mm
        Details to smooth away before resampling, in standard mm; 0 for the grid's own spacing.

    Raises
    ------
    AnatomyError
        If hardly any of the brain lies on the grid, or it has one intensity only.
    """
    target_mm = np.maximum(resolution_mm, grid.spacing_mm) * float(np.cbrt(np.linalg.det(to_scan[:3, :3])))
    smooth = antialiased(volume.data, target_mm.mean() / volume.grid.spacing_mm)
    image = resample(Volume(smooth, volume.affine), grid, to_scan, fill=float(volume.data.min()))
    inside = resample(Volume(brain.astype(np.float32), volume.affine), grid, to_scan) > 0.5
    if np.count_nonzero(inside) < MINIMUM_BRAIN_VOX:
        msg = (
            f"only {np.count_nonzero(inside)} voxels of the brain lie on the standard grid; expected at least "
            f"{MINIMUM_BRAIN_VOX}: check the brain mask and that the scan is T1-weighted"
        )
        raise AnatomyError(msg)
    if bias:
        image = _even(image, inside, grid)
    values = image[inside]
    mean, spread = float(values.mean()), float(values.std())
    if not spread > 0:
        msg = "the brain has one intensity only; expected a T1-weighted scan: check it, and the brain mask"
        raise AnatomyError(msg)
    scored = ((image - mean) / spread).astype(np.float32)
    return PreprocessedHead(scored, inside, np.quantile(scored[inside], QUANTILES), to_scan)


def normalise(head: PreprocessedHead, target: NDArray[np.float64] | None) -> FloatVolume:
    """Map intensities linearly so that the brain's quantiles fit those of the training heads, and clip them.

    Parameters
    ----------
    head
        A standardised head.
    target
        Mean quantiles of the training heads, as `PreprocessedHead.quantiles`; None leaves the z-scores, not clipped.
    """
    if target is None:
        return head.image
    slope, offset = huber_line(head.quantiles, target)
    clipped: FloatVolume = np.clip(head.image * slope + offset, *CLIP).astype(np.float32)
    return clipped


def huber_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of a line through points, fitted robustly: outliers count by distance, not by its square."""
    weight = np.ones_like(x)
    slope, offset = 1.0, 0.0
    for _ in range(50):
        centre_x, centre_y = np.average(x, weights=weight), np.average(y, weights=weight)
        new = float(np.sum(weight * (x - centre_x) * (y - centre_y)) / np.sum(weight * (x - centre_x) ** 2))
        done = abs(new - slope) < 1e-9
        slope, offset = new, float(centre_y - new * centre_x)
        residual = y - slope * x - offset
        scale = max(float(np.median(np.abs(residual))) / MAD_TO_SD, 1e-9)
        weight = 1 / np.maximum(1, np.abs(residual) / (HUBER * scale))
        if done:
            break
    return slope, offset


def _even(image: FloatVolume, inside: BoolVolume, grid: Grid) -> FloatVolume:
    """Divide by the brain's bias field; outside the brain by what the field is at most, or at least, in it."""
    positive = image - min(float(np.percentile(image[inside], 0.1)), 0.0)
    field = log_bias_field(np.clip(positive, 0, None).astype(np.float32), inside, grid.spacing_mm)
    if field is None:
        return image
    known = field[inside]
    return np.asarray(positive / np.exp(np.clip(field, known.min(), known.max())), dtype=np.float32)
