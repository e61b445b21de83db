"""mri_reface: face and ears are replaced by those of the average head, fitted to this head and its intensities.

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
from efface.anatomy import Anatomy, head_mask
from efface.arrays import BoolVolume, FloatVolume, Grid, Volume
from efface.deface.edit import Edit
from efface.errors import InputError
from efface.registration import Transform

FITTING_MM = 4.0
SMOOTHING_VOX = (4.0, 2.0)
"""The fit is stiff and driven from outside the face: a face that fitted closely would be the person's again."""
QUANTILES = np.linspace(0.0, 100.0, 41)
BIAS_SIGMA_MM, NEAR_MM = 15.0, 40.0
AIR_LEVEL = 0.15
"""Share of the average head's tissue below which a voxel of it is air: its frames and ghosts are cut away."""


@dataclass(frozen=True)
class _Parts:
    """What is replaced, and what the average head has there, on the scan's grid."""

    replaced: BoolVolume
    average: FloatVolume
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
    As in the original, regions are face, ears, and the air around them with what wraps around there. Two
    deformations are fitted, from the affine of the anatomy and from its whole-image refinement; the better
    correlation wins. Noise is drawn from a generator seeded with the scan's hash.
    """
    for name, value in (("margin_mm", margin_mm), ("taper_mm", taper_mm)):
        if not value >= 0:
            msg = f"{name} must be 0 or more; received {value}"
            raise InputError(msg)
    scan = anatomy.scan
    parts = _fit(anatomy, margin_mm)
    matched = _match(scan.data, parts, anatomy.head, scan.spacing_mm)
    new = _with_noise(matched * parts.tissue, scan.data, anatomy.head, scan.sha256)
    weight = _taper(parts.replaced, anatomy.head, scan.spacing_mm, taper_mm)
    mask = parts.replaced & (weight > 0)
    values = weight[mask] * new[mask] + (1 - weight[mask]) * scan.data[mask]
    params = {"margin_mm": margin_mm, "taper_mm": taper_mm}
    return Edit(np.ascontiguousarray(mask), values.astype(np.float32), "mri_reface", params=params)


def _fit(anatomy: Anatomy, margin_mm: float) -> _Parts:
    """Fit the average head, and carry it and the regions to the scan."""
    scan = anatomy.scan
    average = templates.average_head()
    transform = _best_transform(anatomy)
    points = _points_in_average(transform, scan.grid)
    region = _sample(templates.prior("face_and_ears"), points, order=1) > 0.05
    to_brain_mm = ndimage.distance_transform_edt(~anatomy.brain, sampling=scan.spacing_mm)
    inside = ndimage.gaussian_filter(_average_tissue().data, 1.0)
    tissue = np.clip(_sample(Volume(inside, average.affine), points, order=1, edge=True), 0, 1)
    values = _sample(average, points, order=1, edge=True)
    return _Parts(region & (to_brain_mm > margin_mm), values, tissue)


def _best_transform(anatomy: Anatomy) -> Transform:
    """Deformations from two starts; the one after which scan and average head correlate better."""
    scan = registration.block_mean(anatomy.scan.volume, FITTING_MM)
    average = registration.block_mean(templates.average_head(), FITTING_MM)
    first = anatomy.from_average
    refined = registration.refine_affine(templates.average_head(), anatomy.scan.volume, first)
    found: list[tuple[float, Transform]] = []
    for start in [first, *([refined.matrix] if refined.converged else [])]:
        back = np.asarray(np.linalg.inv(start), dtype=np.float64)
        face = registration.resample(templates.prior("face_and_ears"), scan.grid, back) > 0
        driving = (registration.resample(_average_tissue(), scan.grid, back) > 0.5) & ~face
        warp = registration.register_deformable(
            scan, average, back, mask=driving, iterations="60x40", radius=2, smoothing_vox=SMOOTHING_VOX
        )
        moved = registration.resample(average, scan.grid, warp)
        found.append((float(np.corrcoef(moved[driving], scan.data[driving])[0, 1]), warp))
    return max(found, key=lambda pair: pair[0])[1]


def _average_tissue() -> Volume:
    """The average head's own mask, 1 inside."""
    average = templates.average_head()
    mask = head_mask(Volume(average.data, average.affine))
    solid = ndimage.binary_opening(
        mask & (average.data > AIR_LEVEL * float(np.percentile(average.data, 98))), iterations=2
    )
    labels, _ = ndimage.label(solid)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return Volume(ndimage.binary_closing(largest, iterations=3).astype(np.float32), average.affine)


def _points_in_average(transform: Transform, grid: Grid) -> NDArray[np.float32]:
    """Average head mm of every voxel of a grid, from a warp found on a coarser one, shape (3, x, y, z)."""
    if not isinstance(transform, registration.Warp):
        msg = "a warp is expected"
        raise TypeError(msg)
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in grid.shape], indexing="ij"))
    to_coarse = np.linalg.inv(transform.grid.affine) @ grid.affine
    coarse = np.tensordot(to_coarse[:3, :3], index, 1) + to_coarse[:3, 3].reshape(3, 1, 1, 1)
    points = np.tensordot(grid.affine[:3, :3], index, 1) + grid.affine[:3, 3].reshape(3, 1, 1, 1)
    for axis in range(3):
        points[axis] += ndimage.map_coordinates(transform.displacement[..., axis], coarse, order=1, mode="nearest")
    moved = np.tensordot(transform.affine[:3, :3], points, 1) + transform.affine[:3, 3].reshape(3, 1, 1, 1)
    return moved.astype(np.float32)


def _sample(volume: Volume, points: NDArray[np.float32], order: int, *, edge: bool = False) -> FloatVolume:
    to_voxel = np.linalg.inv(volume.affine)
    index = np.tensordot(to_voxel[:3, :3], points, 1) + to_voxel[:3, 3].reshape(3, 1, 1, 1)
    mode = "nearest" if edge else "grid-constant"
    return np.asarray(ndimage.map_coordinates(volume.data, index, order=order, mode=mode), dtype=np.float32)


def _match(data: FloatVolume, parts: _Parts, head: BoolVolume, spacing_mm: NDArray[np.float64]) -> FloatVolume:
    """Give the average head the intensities of the scan: quantiles first, then a smooth local gain.

    Both are estimated near the face, on tissue that both heads have and that stays.
    """
    near = ndimage.distance_transform_edt(~parts.replaced, sampling=spacing_mm) < NEAR_MM
    shared = near & head & ~parts.replaced & (parts.tissue > 0.9)
    source, target = (np.percentile(v[shared], QUANTILES) for v in (parts.average, data))
    source = np.maximum.accumulate(source + 1e-6 * np.arange(source.size))
    matched = np.interp(parts.average, source, target).astype(np.float32)
    sigma = BIAS_SIGMA_MM / spacing_mm
    floor = 0.02 * float(target[-1])
    ours = ndimage.gaussian_filter(np.where(shared, data, 0).astype(np.float32), sigma, truncate=3)
    theirs = ndimage.gaussian_filter(np.where(shared, matched, 0).astype(np.float32), sigma, truncate=3)
    gain = (ours + floor * 0.05) / (theirs + floor * 0.05)
    return np.asarray(matched * np.clip(gain, 0.5, 2.0), dtype=np.float32)


def _with_noise(clean: FloatVolume, data: FloatVolume, head: BoolVolume, seed: str) -> FloatVolume:
    """Add Rician noise as strong as that of the scan's air."""
    air = data[~ndimage.binary_dilation(head, iterations=4)]
    level = float(np.sqrt(np.mean(np.square(air[air > 0])) / 2)) if np.count_nonzero(air) > 100 else 0.0
    share = np.count_nonzero(air) / max(1, air.size)
    robust = min(level, float(np.median(air[air > 0])) / 1.1774) if level > 0 and share > 0.2 else 0.0
    if robust == 0.0:
        return clean
    generator = np.random.default_rng(int(seed[:16], 16))
    real, imaginary = (generator.normal(0, robust, clean.shape).astype(np.float32) for _ in range(2))
    return np.asarray(np.hypot(clean + real, imaginary), dtype=np.float32)


def _taper(replaced: BoolVolume, head: BoolVolume, spacing_mm: NDArray[np.float64], taper_mm: float) -> FloatVolume:
    """Weight of the new: 1 in the region, falling to 0 towards head tissue that stays."""
    if taper_mm == 0:
        return replaced.astype(np.float32)
    kept = head & ~replaced
    to_kept_mm = ndimage.distance_transform_edt(~kept, sampling=spacing_mm)
    ramp = np.clip(to_kept_mm / taper_mm, 0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    return np.where(replaced, smooth, 0).astype(np.float32)
