"""mri_reface: face and ears are replaced by average ones, fitted to this head and its intensities.

References
----------
Schwarz et al. "Changing the face of neuroimaging research: Comparing a new MRI de-facing technique with popular
alternatives." NeuroImage 231 (2021) 117845.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface import registration, templates
from efface.anatomy import Anatomy
from efface.arrays import Affine, BoolVolume, FloatVolume, Volume
from efface.deface.edit import Edit
from efface.errors import InputError
from efface.registration import Warp

FITTING_MM = 4.0
SMOOTHING_VOX = (4.0, 2.0)
"""The fit is stiff and driven from outside the face: a face that fitted closely would be the person's again."""
QUANTILES = np.linspace(0.5, 99.5, 41)
BIAS_SIGMA_MM, GAIN = 15.0, (0.6, 1.7)
NEAR_MM = 25.0
SKIN = (0.3, 0.7)
"""Shares of heads between which air becomes tissue: the average of many skins is blurred, one skin is not."""
NECK_MM = -115.0
"""Average head z below which air is left alone: necks and shoulders differ too much."""
BLANKED = 0.3
"""Share of zeros from which the air of a scan counts as blanked: it stays 0, and tells nothing about the noise."""
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class _Parts:
    """What is replaced, and what the average outside has there, on the scan's grid.

    Attributes
    ----------
    face
        Face and ears, and the air before them.
    air
        Air around the head, with what wraps around into it.
    shape
        Share of heads that have tissue there.
    tissue
        Mean intensity of head tissue, 1 = brain.
    """

    face: BoolVolume
    air: BoolVolume
    shape: FloatVolume
    tissue: FloatVolume


def plan(anatomy: Anatomy, *, margin_mm: float = 7.0, taper_mm: float = 6.0) -> Edit:
    """Decide what mri_reface replaces, and by what.

    Parameters
    ----------
    anatomy
        Of the scan; brain mask, head mask and the position of the average head are used.
    margin_mm
        Nothing this near the brain is replaced (5 to 11 mm around the intracranial volume in the original).
    taper_mm
        Inside the head, old and new fade into each other over this distance.

    Raises
    ------
    InputError
        If a distance is negative.
    RegistrationError
        If the average head was not found in the scan.

    Notes
    -----
    As in the original, regions are face, ears, and the air around the head with what wraps around there. Two
    deformations are fitted, from the affine of the anatomy and from its whole-image refinement; the better
    correlation wins. The average face is our own, the mean of heads brought together by deformable registration
    (`efface.training.priors`). Noise is drawn from a generator seeded with the scan's hash.
    """
    for name, value in (("margin_mm", margin_mm), ("taper_mm", taper_mm)):
        if not value >= 0:
            msg = f"{name} must be 0 or more; received {value}"
            raise InputError(msg)
    scan = anatomy.scan
    parts = _fit(anatomy, margin_mm)
    new = _match(scan.data, parts, anatomy.head, scan.spacing_mm)
    new = _with_noise(np.where(parts.air, 0, new), scan.data, anatomy, parts)
    weight = _taper(parts.face, anatomy.head, scan.spacing_mm, taper_mm)
    weight[parts.air] = 1
    mask = weight > 0
    values = weight[mask] * new[mask] + (1 - weight[mask]) * scan.data[mask]
    params = {"margin_mm": margin_mm, "taper_mm": taper_mm}
    return Edit(np.ascontiguousarray(mask), values.astype(np.float32), "mri_reface", params=params)


def _fit(anatomy: Anatomy, margin_mm: float) -> _Parts:
    """Fit the average head, and carry what lies in its space to the scan."""
    scan = anatomy.scan
    points = _points(_best_warp(anatomy), scan.grid.shape, scan.affine)
    clear = ndimage.distance_transform_edt(~anatomy.brain, sampling=scan.spacing_mm) > margin_mm
    face = (_sample(templates.prior("face_and_ears"), points) > 0.05) & clear
    shape = _sample(templates.prior("head"), points)
    air = (_sample(templates.prior("air"), points) > 0.5) & (points[2] > NECK_MM) & clear & ~face
    tissue = templates.prior("tissue")
    known = _sample(Volume((tissue.data > 0).astype(np.float32), tissue.affine), points)
    mean = _sample(tissue, points) / np.maximum(known, 1e-3) / np.float32(100)
    return _Parts(face, air, shape, np.asarray(mean, dtype=np.float32))


def _best_warp(anatomy: Anatomy) -> Warp:
    """Deformations from two starts; the one after which scan and average head correlate better."""
    scan = registration.block_mean(anatomy.scan.volume, FITTING_MM)
    average = registration.block_mean(templates.average_head(), FITTING_MM / 2)
    first = anatomy.from_average
    refined = registration.refine_affine(templates.average_head(), anatomy.scan.volume, first)
    found: list[tuple[float, Warp]] = []
    for start in [first, *([refined.matrix] if refined.converged else [])]:
        back: Affine = np.asarray(np.linalg.inv(start), dtype=np.float64)
        face = registration.resample(templates.prior("face_and_ears"), scan.grid, back) > 0
        driving = (registration.resample(templates.prior("air"), scan.grid, back, fill=1.0) < 0.5) & ~face
        warp = registration.register_deformable(
            scan, average, back, mask=driving, iterations="60x40", radius=2, smoothing_vox=SMOOTHING_VOX
        )
        moved = registration.resample(average, scan.grid, warp)
        found.append((float(np.corrcoef(moved[driving], scan.data[driving])[0, 1]), warp))
    return max(found, key=lambda pair: pair[0])[1]


def _points(warp: Warp, shape: tuple[int, int, int], affine: Affine) -> NDArray[np.float32]:
    """Average head mm of every voxel of a grid, from a warp found on a coarser one, shape (3, x, y, z)."""
    to_coarse = np.linalg.inv(warp.grid.affine) @ affine
    linear = warp.affine[:3, :3]
    index = np.ogrid[tuple(slice(n) for n in shape)]
    points = np.empty((3, *shape), dtype=np.float32)
    displacement = np.empty((3, *shape), dtype=np.float32)
    for axis in range(3):
        displacement[axis] = ndimage.affine_transform(
            warp.displacement[..., axis], to_coarse[:3, :3], to_coarse[:3, 3], shape, order=1, mode="nearest"
        )
    whole = warp.affine @ affine
    for axis in range(3):
        position = sum(np.float32(whole[axis, k]) * index[k].astype(np.float32) for k in range(3))
        points[axis] = position + np.float32(whole[axis, 3]) + np.tensordot(linear[axis], displacement, 1)
    return points


def _sample(volume: Volume, points: NDArray[np.float32]) -> FloatVolume:
    """Linear samples at average head mm, on a grid whose axes are the average head's; 0 outside."""
    index = [(points[a] - volume.affine[a, 3]) / volume.affine[a, a] for a in range(3)]
    return np.asarray(ndimage.map_coordinates(volume.data, index, order=1, mode="grid-constant"), dtype=np.float32)


def _match(data: FloatVolume, parts: _Parts, head: BoolVolume, spacing_mm: NDArray[np.float64]) -> FloatVolume:
    """Give the average outside the intensities of the scan: quantiles first, then a smooth local gain, then skin.

    Quantiles are those of the tissue in and near the region, in both; the gain is estimated on tissue that both
    have and that stays.
    """
    near = ndimage.distance_transform_edt(~parts.face, sampling=spacing_mm) < NEAR_MM
    theirs, ours = near & (parts.shape > SKIN[1]), near & head
    source, target = np.percentile(parts.tissue[theirs], QUANTILES), np.percentile(data[ours], QUANTILES)
    source = np.maximum.accumulate(source + 1e-6 * np.arange(source.size))
    matched = np.interp(parts.tissue, source, target).astype(np.float32)
    shared = ours & theirs & ~parts.face
    sigma = BIAS_SIGMA_MM / spacing_mm
    floor = 0.02 * float(target.mean())
    a, b = (ndimage.gaussian_filter(np.where(shared, v, 0).astype(np.float32), sigma, truncate=3) for v in (data, matched))
    matched *= np.clip((a + floor) / (b + floor), *GAIN)
    return np.asarray(matched * np.clip((parts.shape - SKIN[0]) / (SKIN[1] - SKIN[0]), 0, 1), dtype=np.float32)


def _with_noise(clean: FloatVolume, data: FloatVolume, anatomy: Anatomy, parts: _Parts) -> FloatVolume:
    """Add Rician noise as strong as the scan's; where the scan's air is blanked, to tissue only."""
    air = data[parts.air & ~ndimage.binary_dilation(anatomy.head, iterations=3)]
    blanked = air.size < 1000 or np.count_nonzero(air) < (1 - BLANKED) * air.size
    level = tissue_noise(data, anatomy.brain) if blanked else float(np.median(air)) / 1.1774
    generator = np.random.default_rng(int(anatomy.scan.sha256[:16], 16))
    real, imaginary = (generator.normal(0, level, clean.shape).astype(np.float32) for _ in range(2))
    noisy = np.hypot(clean + real, imaginary)
    return np.asarray(np.where((clean > 0) | (not blanked), noisy, 0), dtype=np.float32)


def tissue_noise(data: FloatVolume, brain: BoolVolume) -> float:
    """Standard deviation of the noise inside the brain, from second differences, which tissue hardly has."""
    kernel = np.array([1.0, -2.0, 1.0])
    curved = data
    for axis in range(3):
        curved = ndimage.convolve1d(curved, kernel, axis=axis)
    inside = np.abs(curved[ndimage.binary_erosion(brain, iterations=3)])
    return MAD_TO_SIGMA * float(np.median(inside)) / 6.0**1.5 if inside.size else 0.0


def _taper(replaced: BoolVolume, head: BoolVolume, spacing_mm: NDArray[np.float64], taper_mm: float) -> FloatVolume:
    """Weight of the new: 1 in the region, falling to 0 towards head tissue that stays."""
    if taper_mm == 0:
        return replaced.astype(np.float32)
    kept = head & ~replaced
    to_kept_mm = ndimage.distance_transform_edt(~kept, sampling=spacing_mm)
    ramp = np.clip(to_kept_mm / taper_mm, 0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    return np.where(replaced, smooth, 0).astype(np.float32)
