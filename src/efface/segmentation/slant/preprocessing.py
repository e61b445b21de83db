"""Preprocessing of SLANT: alignment to the standard grid, bias field correction, intensity normalisation.

The published pipeline registers the whole head to the MNI305 average, weighted by the brain of that average. It then
resamples the head, runs N4, and normalises intensities: a z-score over the brain, then a robust linear fit of the sorted
intensities to the mean ones of the training heads. Here the brain is registered to the BrainCOLOR template instead, so
that removing the face hardly changes the affine; the other steps are the same. By the whole head: `alignment`.

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
"""Voxel size at which the brain is registered."""
QUANTILES = np.linspace(0, 1, 501)
"""Probabilities of the quantiles by which two intensity distributions are compared."""
CLIP = (-4.0, 5.0)
"""Limits of normalised intensities; fat and vessels are brighter than brain."""
HUBER, MAD_TO_SD = 1.345, 0.6745
"""Threshold of the Huber weights, in standard deviations; median absolute deviation of a unit normal distribution."""
MINIMUM_BRAIN_VOX = 1000


@dataclass(frozen=True, eq=False)
class PreprocessedHead:
    """A head on a standard grid.

    Attributes
    ----------
    image
        Intensities, z-scored over the brain (or over where the template has it).
    brain
        Brain mask.
    quantiles
        Of `image` where it was z-scored, at `QUANTILES`.
    to_scan
        Standard mm to scan mm, shape (4, 4).
    """

    image: FloatVolume
    brain: BoolVolume
    quantiles: NDArray[np.float64]
    to_scan: Affine


def scan_to_template(anatomy: "HeadAnatomy", warnings: list[str]) -> Affine:
    """Register the brain to the BrainCOLOR template.

    Parameters
    ----------
    anatomy
        Anatomy of the scan.
    warnings
        Warnings are added here.

    Returns
    -------
    numpy.ndarray
        Scan mm to template mm, shape (4, 4).

    Raises
    ------
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template does not fit the brain.
    """
    scan = block_mean(anatomy.image, ALIGNING_MM)
    mask = block_mean(Volume(anatomy.brain.astype(np.float32), anatomy.scan.affine), ALIGNING_MM).data > 0.5
    brain, inside, _ = prepare_brain(scan, mask, bias=False)  # local correlation is blind to a smooth field
    return align(brain, inside, initial_pose(anatomy, warnings), load_template())


def standardise(
    volume: Volume,
    brain: BoolVolume,
    to_scan: Affine,
    grid: Grid,
    *,
    bias: bool = True,
    resolution_mm: float = 0.0,
    field: BoolVolume | None = None,
    scored: BoolVolume | None = None,
) -> PreprocessedHead:
    """Resample a head on a standard grid, correct its bias field, and z-score its intensities over the brain.

    Parameters
    ----------
    volume
        The scan.
    brain
        Its brain mask, same shape.
    to_scan
        Standard mm to scan mm, shape (4, 4).
    grid
        The standard grid.
    bias
        Whether to correct intensity non-uniformity (N4).
    resolution_mm
        Resolution to smooth the scan to before resampling, in standard mm; 0 for the spacing of the grid.
    field
        Voxels of the scan in which the bias field is estimated; None for the brain.
    scored
        Voxels of the grid over which intensities are z-scored; None for the brain.

    Raises
    ------
    AnatomyError
        If too little of the brain lies on the grid, or all its voxels have the same intensity.
    """
    target_mm = np.maximum(resolution_mm, grid.spacing_mm) * float(np.cbrt(np.linalg.det(to_scan[:3, :3])))
    smooth = antialiased(volume.data, target_mm.mean() / volume.grid.spacing_mm)
    image = resample(Volume(smooth, volume.affine), grid, to_scan, fill=float(volume.data.min()))
    inside = _mask_on(grid, brain, volume.affine, to_scan)
    if np.count_nonzero(inside) < MINIMUM_BRAIN_VOX:
        msg = (
            f"only {np.count_nonzero(inside)} voxels of the brain lie on the standard grid; expected at least "
            f"{MINIMUM_BRAIN_VOX}: check the brain mask and that the scan is T1-weighted"
        )
        raise AnatomyError(msg)
    if bias:
        image = _corrected(image, inside if field is None else _mask_on(grid, field, volume.affine, to_scan), grid)
    reference = inside if scored is None else scored
    values = image[reference]
    mean, spread = float(values.mean()), float(values.std())
    if not spread > 0:
        msg = (
            "all voxels of the brain have the same intensity; expected a T1-weighted scan: check it, and the brain mask"
        )
        raise AnatomyError(msg)
    scores = ((image - mean) / spread).astype(np.float32)
    return PreprocessedHead(scores, inside, np.quantile(scores[reference], QUANTILES), to_scan)


def normalise(head: PreprocessedHead, target: NDArray[np.float64] | None) -> FloatVolume:
    """Map intensities linearly so that the brain's quantiles fit those of the training heads, and clip them.

    Parameters
    ----------
    head
        As made by `standardise`.
    target
        Mean of `PreprocessedHead.quantiles` over the training heads; None returns the z-scores without clipping.

    Returns
    -------
    numpy.ndarray
        Intensities within `CLIP`, float32, same shape.
    """
    if target is None:
        return head.image
    slope, offset = huber_line(head.quantiles, target)
    clipped: FloatVolume = np.clip(head.image * slope + offset, *CLIP).astype(np.float32)
    return clipped


def huber_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Fit a line by iteratively reweighted least squares with Huber weights.

    Parameters
    ----------
    x, y
        Points, shape (n,).

    Returns
    -------
    slope, offset
        Of the line.
    """
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


def _mask_on(grid: Grid, mask: BoolVolume, affine: Affine, to_scan: Affine) -> BoolVolume:
    inside: BoolVolume = resample(Volume(mask.astype(np.float32), affine), grid, to_scan) > 0.5
    return inside


def _corrected(image: FloatVolume, inside: BoolVolume, grid: Grid) -> FloatVolume:
    """Divide by the bias field inside a mask; outside of it, the field is clipped to its range inside."""
    positive = image - min(float(np.percentile(image[inside], 0.1)), 0.0)
    field = log_bias_field(np.clip(positive, 0, None).astype(np.float32), inside, grid.spacing_mm)
    if field is None:
        return image
    known = field[inside]
    return np.asarray(positive / np.exp(np.clip(field, known.min(), known.max())), dtype=np.float32)
