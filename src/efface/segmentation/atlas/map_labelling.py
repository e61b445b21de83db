"""MAP labelling from a spatial prior and tissue likelihoods, smoothed by ICM (iterated conditional modes)."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.segmentation.atlas.atlas_prior import (
    CEREBELLAR_WHITE_IDS,
    CEREBRAL_WHITE,
    CORTEX,
    FLUID_IDS,
    GROUPS,
    MIXED_IDS,
    NUCLEUS_IDS,
    Prior,
)
from efface.segmentation.atlas.tissue_model import Tissue, fit_tissue
from efface.segmentation.labels import REGIONS
from efface.spatial.point_sampling import CHUNK, sample_channels, sample_labels
from efface.spatial.types import BoolVolume, LabelVolume, Volume

SWEEPS = 3
"""Of ICM over all voxels."""
PRIOR_FLOOR = 1e-4
"""Added to the prior probability of every group but background."""
FLUID_FLOOR = 2e-2
"""Added to the prior probability of background: sulci, cisterns and atrophy put fluid almost anywhere."""
NUCLEUS_SPREAD = 1.5
"""Standard deviation of the intensities of a nucleus, in units of the noise of the pure tissues."""
INSIDE_NUCLEUS = 0.5
"""Minimum prior probability of the voxels whose intensities give the mean of a nucleus."""
MINIMUM_NUCLEUS_VOX = 20
HORN_WALLS = (*REGIONS["cerebral WM"], 31, 32, 47, 48)
"""Labels around the horns of the lateral ventricles: white matter, amygdala, hippocampus."""
DEEP_WALL = 0.5
"""Minimum fraction of `HORN_WALLS` and ventricles in the walls of a cavity that gets a label."""

_ROW = {group: row for row, group in enumerate(GROUPS)}


def label_brain(
    brain: Volume, mask: BoolVolume, points_mm: NDArray[np.float32], prior: Prior, agreement: float
) -> LabelVolume:
    """Label a brain.

    Parameters
    ----------
    brain
        Bias-corrected intensities.
    mask
        Brain mask, same shape.
    points_mm
        Template mm of the voxels of the mask, in the order of `numpy.argwhere`, shape (n, 3).
    prior
        The atlas.
    agreement
        Log-probability gained for each of the six neighbours with the same group.

    Returns
    -------
    numpy.ndarray
        BrainCOLOR ids, 0 outside the mask and in sulcal fluid, shape of `mask`.
    """
    values = brain.data[mask]
    tissue = fit_tissue(values, sample_channels(prior.tissue, prior.grid.affine, points_mm))
    log_posterior = _log_posterior(values, points_mm, prior, tissue)
    rows = _smoothed_argmax(log_posterior, mask, agreement)
    ids = np.array(GROUPS, dtype=np.int32)[rows]
    for side, group in CORTEX.items():
        cortex = ids == group
        ids[cortex] = sample_labels(prior.gyri[side], prior.labels_affine, points_mm[cortex])
    labels = np.zeros(mask.shape, dtype=np.int32)
    labels[mask] = ids
    return fill_cavities(labels)


def fill_cavities(labels: LabelVolume) -> LabelVolume:
    """Label background that white matter encloses.

    Horns of wide ventricles reach beyond the ventricles of the prior, and small lesions look like fluid. A cavity that
    touches a ventricle becomes the nearest ventricle, any other takes the nearest label. At low resolution cisterns can
    be enclosed too, but by cortex and brainstem; they stay background.

    Parameters
    ----------
    labels
        BrainCOLOR ids.

    Returns
    -------
    numpy.ndarray
        BrainCOLOR ids, same shape.
    """
    enclosed = ndimage.binary_fill_holes(labels > 0) & (labels == 0)
    cavities, count = ndimage.label(enclosed)
    if count == 0:
        return labels
    ventricle = np.isin(labels, REGIONS["ventricles"])
    around_horns = ventricle | np.isin(labels, HORN_WALLS)
    wall, wall_deep, wall_ventricle = (_wall_area(cavities, count, m) for m in (labels > 0, around_horns, ventricle))
    deep = wall_deep >= DEEP_WALL * wall
    filled = labels.copy()
    for chosen, source in ((deep & (wall_ventricle > 0), ventricle), (deep & (wall_ventricle == 0), labels > 0)):
        part = chosen[cavities] & enclosed
        if part.any():
            nearest = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
            filled[part] = labels[tuple(axis[part] for axis in nearest)]
    return filled


def _wall_area(cavities: NDArray[np.int32], count: int, tissue: BoolVolume) -> NDArray[np.intp]:
    """Number of voxel faces between each cavity and `tissue`, by cavity number (0 unused), shape (count + 1,)."""
    area = np.zeros(count + 1, dtype=np.intp)
    for axis in range(3):
        c, t = np.moveaxis(cavities, axis, 0), np.moveaxis(tissue, axis, 0)
        area += np.bincount(c[1:][t[:-1]], minlength=count + 1) + np.bincount(c[:-1][t[1:]], minlength=count + 1)
    return area


def _log_posterior(
    values: NDArray[np.float32], points_mm: NDArray[np.float32], prior: Prior, tissue: Tissue
) -> NDArray[np.float32]:
    """Log of prior times likelihood for every group and voxel, shape (groups, n)."""
    log_posterior = sample_channels(prior.groups, prior.grid.affine, points_mm)
    nuclei = {g: _nucleus_mean(values, log_posterior[_ROW[g]], tissue) for g in NUCLEUS_IDS}
    for start in range(0, values.size, CHUNK):
        part = slice(start, start + CHUNK)
        v = values[part]
        fluid, grey, white = tissue.memberships(v)
        solid = np.clip(1 - fluid, 1e-3, 1)
        likelihood = dict.fromkeys(FLUID_IDS, fluid) | dict.fromkeys(CORTEX.values(), grey)
        likelihood |= dict.fromkeys((*CEREBRAL_WHITE.values(), *CEREBELLAR_WHITE_IDS), white)
        likelihood |= dict.fromkeys(MIXED_IDS, solid)
        for g, mean in nuclei.items():
            z = (v - mean) / (NUCLEUS_SPREAD * np.hypot(tissue.noise, 0.05))
            likelihood[g] = solid * np.maximum(0.9 * np.exp(-0.5 * z * z), 0.02)
        for g, row in _ROW.items():
            floor = FLUID_FLOOR if g == 0 else PRIOR_FLOOR
            log_posterior[row, part] = np.log(log_posterior[row, part] + floor) + np.log(likelihood[g])
    return log_posterior


def _nucleus_mean(values: NDArray[np.float32], prior: NDArray[np.float32], tissue: Tissue) -> float:
    """Mean intensity where the prior probability of a nucleus is high, limited to fluid and white matter."""
    inside = prior > INSIDE_NUCLEUS
    if np.count_nonzero(inside) < MINIMUM_NUCLEUS_VOX:
        inside = prior >= min(INSIDE_NUCLEUS, float(prior.max()))
    mean = np.average(values[inside], weights=prior[inside]) if inside.any() else tissue.grey
    return float(np.clip(mean, tissue.csf_limit, max(tissue.white, tissue.csf_limit)))


def _smoothed_argmax(log_posterior: NDArray[np.float32], mask: BoolVolume, agreement: float) -> NDArray[np.intp]:
    """Row of the best group of every voxel, smoothed by ICM: each neighbour adds `agreement` to its own group."""
    rows: NDArray[np.intp] = log_posterior.argmax(axis=0)
    if agreement <= 0:
        return rows
    padded = np.full(np.array(mask.shape) + 2, -1, dtype=np.intp)
    inside = np.flatnonzero(np.pad(mask, 1))
    flat = padded.reshape(-1)
    strides = np.array(padded.strides) // padded.itemsize
    for _ in range(SWEEPS):
        flat[inside] = rows
        updated = np.empty_like(rows)
        for start in range(0, rows.size, CHUNK):
            part = slice(start, start + CHUNK)
            score = log_posterior[:, part].copy()
            for step in (*strides, *-strides):
                neighbour = flat[inside[part] + step]
                known = np.flatnonzero(neighbour >= 0)
                score[neighbour[known], known] += agreement
            updated[part] = score.argmax(axis=0)
        rows = updated
    return rows
