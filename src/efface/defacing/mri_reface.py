"""mri_reface: face and ears are replaced by average ones, fitted to this head and its intensities.

References
----------
Schwarz et al. "Changing the face of neuroimaging research: Comparing a new MRI de-facing technique with popular
alternatives." NeuroImage 231 (2021) 117845.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.errors import AnatomyError
from efface.parameters import param
from efface.spatial import registration, resampling
from efface.spatial.masks import box_of, distance_mm
from efface.spatial.resampling import Warp
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume

FITTING_MM = 4.0
SMOOTHING_VOX = (4.0, 2.0)
"""The fit is stiff and driven from outside the face: a face that fitted closely would be the person's again."""
QUANTILES = np.linspace(0.5, 99.5, 41)
BIAS_SIGMA_MM, GAIN = 15.0, (0.6, 1.7)
NEAR_MM = 25.0
SURFACE_MM, EAR_SURFACE_MM = 22.0, 8.0
"""Within this distance of head that stays, the old surface turns into the new one."""
EARS_BEHIND_MM = 25.0
"""Average head y behind which what is replaced is an ear."""
SKIN_MM = 2.0
"""Over this distance air becomes tissue."""
NECK_MM = -115.0
"""Average head z below which air is left alone: necks and shoulders differ too much."""
BLANKED = 0.3
"""Share of zeros from which the air of a scan counts as blanked, and stays 0."""
MAD_TO_SIGMA, RAYLEIGH_MEDIAN = 1.4826, 1.1774


@dataclass(frozen=True)
class _Parts:
    """What is replaced, and what the average outside has there, on a box of the scan's grid.

    Attributes
    ----------
    at
        The box.
    data, head
        Of the scan.
    face
        Face and ears, and the air before them: what is replaced.
    surface_mm
        Over which distance the old surface turns into the new one.
    shape
        Share of heads that have tissue there.
    tissue
        Mean intensity of head tissue, 1 = brain.
    """

    at: tuple[slice, slice, slice]
    data: FloatVolume
    head: BoolVolume
    face: BoolVolume
    surface_mm: FloatVolume
    shape: FloatVolume
    tissue: FloatVolume


@dataclass(frozen=True)
class Params:
    """Parameters of mri_reface.

    Attributes
    ----------
    margin_mm
        Nothing this near the brain is replaced (5 to 11 mm around the intracranial volume in the published program).
    taper_mm
        Inside the head, old and new intensities fade into each other over this distance.
    """

    margin_mm: float = param(7.0, "nothing this near the brain is replaced", unit="mm", minimum=0)
    taper_mm: float = param(8.0, "old and new intensities fade into each other over this distance", unit="mm", minimum=0)


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what mri_reface replaces, and by what.

    Parameters
    ----------
    anatomy
        Of the scan; brain mask, head mask and the registration of the average head are used.
    params
        See `Params`.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan.
    AnatomyError
        If no tissue is where the face should be.

    Notes
    -----
    As in the published program, the regions are face, ears, and the air around the head with what wraps around there.
    Two deformations are fitted, from the affine of the anatomy and from its whole-image refinement; the better
    correlation wins. The average face is our own, the mean of heads brought together by deformable registration
    (`efface.training.priors`). Noise is drawn from a generator seeded from the scan's intensities.
    """
    scan, spacing_mm = anatomy.scan, anatomy.scan.spacing_mm
    clear = anatomy.brain_distance_mm > params.margin_mm
    warp = _best_warp(anatomy)
    coarse = _points(warp, warp.grid)
    parts = _fit(anatomy, warp, coarse, clear)
    air = _air(anatomy, warp, coarse, clear)
    noise = _Noise(anatomy, air)
    mask, values = air.copy(), np.zeros(scan.shape, dtype=np.float32)
    values[air] = noise.over(np.zeros(int(air.sum()), np.float32))
    values[parts.at][parts.face] = _new_face(parts, noise, spacing_mm, params.taper_mm)
    mask[parts.at] |= parts.face
    return Edit(mask, values[mask], "mri_reface", params=asdict(params))


def _fit(anatomy: HeadAnatomy, warp: Warp, coarse: NDArray[np.float32], clear: BoolVolume) -> _Parts:
    """Carry what lies in the average head's space to the scan, in the box around the face."""
    scan = anatomy.scan
    reached = _sample(templates.prior("face_and_ears"), coarse) > 0
    if not reached.any():
        msg = "the average head's face lies outside the scan's field of view; expected a whole head: check the scan"
        raise AnatomyError(msg)
    at = _box(reached, warp.grid, scan.grid)
    points = _points(warp, scan.grid.cropped(at))
    face = (_sample(templates.prior("face_and_ears"), points) > 0.05) & clear[at]
    tissue = templates.prior("tissue")
    known = _sample(Volume((tissue.data > 0).astype(np.float32), tissue.affine), points)
    mean = np.asarray(_sample(tissue, points) / np.maximum(known, 1e-3) / 100, dtype=np.float32)
    surface_mm = np.full(face.shape, SURFACE_MM, dtype=np.float32)
    surface_mm[points[1] < EARS_BEHIND_MM] = EAR_SURFACE_MM
    shape = _sample(templates.prior("head"), points)
    return _Parts(at, scan.data[at], anatomy.head[at], face, surface_mm, shape, mean)


def _box(coarse: BoolVolume, coarse_grid: Grid, grid: Grid) -> tuple[slice, slice, slice]:
    """The voxels of a grid around a mask on a coarser one along the same axes, with room to match intensities."""
    index = np.argwhere(coarse)
    to_grid = np.linalg.inv(grid.affine) @ coarse_grid.affine
    room = NEAR_MM / grid.spacing_mm
    low = to_grid[:3, :3] @ index.min(axis=0) + to_grid[:3, 3] - room
    high = to_grid[:3, :3] @ index.max(axis=0) + to_grid[:3, 3] + room
    first = np.clip(np.floor(low), 0, np.array(grid.shape) - 1).astype(int)
    last = np.clip(np.ceil(high) + 1, first + 1, grid.shape).astype(int)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return x, y, z


def _air(anatomy: HeadAnatomy, warp: Warp, coarse: NDArray[np.float32], clear: BoolVolume) -> BoolVolume:
    """Air around the head, with what wraps around into it."""
    reached = (_sample(templates.prior("air"), coarse) > 0.5) & (coarse[2] > NECK_MM)
    near = resampling.resample(Volume(reached.astype(np.float32), warp.grid.affine), anatomy.scan.grid)
    return np.asarray((near > 0.5) & clear, dtype=np.bool_)


def _best_warp(anatomy: HeadAnatomy) -> Warp:
    """Deformations from two starts; the one after which scan and average head correlate better."""
    scan = resampling.block_mean(anatomy.scan.volume, FITTING_MM)
    average = resampling.block_mean(templates.average_head(), FITTING_MM / 2)
    first = anatomy.average_to_scan
    refined = anatomy.registration_mi
    found: list[tuple[float, Warp]] = []
    for start in [first, *([refined.matrix] if refined.converged else [])]:
        back: Affine = np.asarray(np.linalg.inv(start), dtype=np.float64)
        face = resampling.resample(templates.prior("face_and_ears"), scan.grid, back) > 0
        driving = (resampling.resample(templates.prior("air"), scan.grid, back, fill=1.0) < 0.5) & ~face
        warp = registration.register_deformable(
            scan, average, back, mask=driving, iterations="60x40", radius=2, smoothing_vox=SMOOTHING_VOX
        )
        moved = resampling.resample(average, scan.grid, warp)
        found.append((float(np.corrcoef(moved[driving], scan.data[driving])[0, 1]), warp))
    return max(found, key=lambda pair: pair[0])[1]


def _points(warp: Warp, grid: Grid) -> NDArray[np.float32]:
    """Average head mm of every voxel of a grid, from a warp found on a coarser one, shape (3, x, y, z)."""
    to_coarse = np.linalg.inv(warp.grid.affine) @ grid.affine
    whole = warp.affine @ grid.affine
    index = [axis.astype(np.float32) for axis in np.ogrid[tuple(slice(n) for n in grid.shape)]]
    displacement = [
        ndimage.affine_transform(
            warp.displacement[..., axis], to_coarse[:3, :3], to_coarse[:3, 3], grid.shape, order=1, mode="nearest"
        )
        for axis in range(3)
    ]
    points = np.empty((3, *grid.shape), dtype=np.float32)
    for axis in range(3):
        points[axis] = whole[axis, 3]
        for k in range(3):
            points[axis] += np.float32(whole[axis, k]) * index[k] + np.float32(warp.affine[axis, k]) * displacement[k]
    return points


def _sample(volume: Volume, points: NDArray[np.float32]) -> FloatVolume:
    """Linear samples at average head mm, on a grid whose axes are the average head's; 0 outside."""
    index = [(points[a] - volume.affine[a, 3]) / volume.affine[a, a] for a in range(3)]
    return np.asarray(ndimage.map_coordinates(volume.data, index, order=1, mode="grid-constant"), dtype=np.float32)


def _new_face(parts: _Parts, noise: "_Noise", spacing_mm: NDArray[np.float64], taper_mm: float) -> NDArray[np.float32]:
    """New intensities of the voxels that are replaced.

    Towards head tissue that stays, the old skin's surface turns into the new one (their signed distances are
    blended), and old tissue into new.
    """
    matched = _match(parts, spacing_mm)
    to_kept_mm = distance_mm(~(parts.head & ~parts.face), spacing_mm, parts.face)
    turned = _smooth_step(to_kept_mm / parts.surface_mm[parts.face])
    depth_mm = turned * _signed_mm(parts.shape > 0.5, spacing_mm, parts.face)
    depth_mm += (1 - turned) * _signed_mm(parts.head, spacing_mm, parts.face)
    inside = np.clip(0.5 + depth_mm / SKIN_MM, 0, 1)
    fresh = noise.over(matched[parts.face])
    faded = _smooth_step(to_kept_mm / taper_mm) if taper_mm > 0 else np.ones_like(to_kept_mm)
    faded = np.where(parts.head[parts.face], faded, 1)
    tissue = faded * fresh + (1 - faded) * parts.data[parts.face]
    air = noise.over(np.zeros(inside.shape, np.float32))
    return np.asarray(inside * tissue + (1 - inside) * air, dtype=np.float32)


def _match(parts: _Parts, spacing_mm: NDArray[np.float64]) -> FloatVolume:
    """Give the average outside the intensities of the scan: quantiles first, then a smooth local gain.

    Quantiles are those of the tissue in and near the region, in both; the gain is estimated on tissue that both
    have and that stays.
    """
    near = distance_mm(~parts.face, spacing_mm) < NEAR_MM
    theirs, ours = near & (parts.shape > 0.5), near & parts.head
    if not theirs.any() or not ours.any():
        msg = "no tissue was found near the face: check that this is a whole head with its face"
        raise AnatomyError(msg)
    source, target = np.percentile(parts.tissue[theirs], QUANTILES), np.percentile(parts.data[ours], QUANTILES)
    source = np.maximum.accumulate(source + 1e-6 * np.arange(source.size))
    matched = np.interp(parts.tissue, source, target).astype(np.float32)
    shared = ours & theirs & ~parts.face
    sigma = BIAS_SIGMA_MM / spacing_mm
    floor = 0.02 * float(target.mean())
    a, b = (
        ndimage.gaussian_filter(np.where(shared, values, 0).astype(np.float32), sigma, truncate=3)
        for values in (parts.data, matched)
    )
    return np.asarray(matched * np.clip((a + floor) / (b + floor), *GAIN), dtype=np.float32)


class _Noise:
    """Rician noise as strong as the scan's: in air as in its air (none where that is blanked), in tissue as there."""

    def __init__(self, anatomy: HeadAnatomy, air: BoolVolume) -> None:
        data = anatomy.scan.data
        sample = data[air & ~anatomy.head]
        blanked = sample.size < 1000 or np.count_nonzero(sample) < (1 - BLANKED) * sample.size
        self.in_air = 0.0 if blanked else float(np.median(sample)) / RAYLEIGH_MEDIAN
        self.in_tissue = max(self.in_air, tissue_noise(data, anatomy.brain))
        self._generator = np.random.default_rng(anatomy.scan.seed)

    def over(self, clean: NDArray[np.float32]) -> NDArray[np.float32]:
        """Intensities with noise; what is 0 is air."""
        level = np.where(clean > 0, self.in_tissue, self.in_air)
        real, imaginary = (level * self._generator.standard_normal(clean.shape) for _ in range(2))
        return np.asarray(np.hypot(clean + real, imaginary), dtype=np.float32)


def tissue_noise(data: FloatVolume, brain: BoolVolume) -> float:
    """Standard deviation of the noise inside the brain, from second differences, which tissue hardly has."""
    at = box_of(brain, 3)
    kernel = np.array([1.0, -2.0, 1.0])
    curved = data[at]
    for axis in range(3):
        curved = ndimage.convolve1d(curved, kernel, axis=axis)
    inside = np.abs(curved[ndimage.binary_erosion(brain[at], iterations=3)])
    return MAD_TO_SIGMA * float(np.median(inside)) / 6.0**1.5 if inside.size else 0.0


def _signed_mm(mask: BoolVolume, spacing_mm: NDArray[np.float64], at: BoolVolume) -> NDArray[np.float64]:
    """Distance of chosen voxels to the surface of a mask: positive inside, negative outside."""
    inside, outside = (distance_mm(m, spacing_mm, at) for m in (mask, ~mask))
    return np.asarray(inside - outside, dtype=np.float64)


def _smooth_step(share: NDArray[np.float64]) -> NDArray[np.float64]:
    ramp = np.clip(share, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float64)
