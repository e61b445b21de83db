"""mri_reface: replace face and ears by average ones that are fitted to the head and its intensities.

References
----------
Schwarz et al. "Changing the face of neuroimaging research: Comparing a new MRI de-facing technique with popular
alternatives." NeuroImage 231 (2021) 117845.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.method import MARGIN, DefacingMethod, ExternalParams, ExternalProgram, Workspace
from efface.errors import AnatomyError
from efface.spatial import registration, resampling
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import Box, box_corners, covering_box
from efface.spatial.masks import box_of, distance_mm
from efface.spatial.resampling import Warp
from efface.spatial.types import BoolVolume, FloatVolume, Grid, Volume

FITTING_MM = 4.0
"""Voxel size at which the average head is fitted to the scan."""
SMOOTHING_VOX = (4.0, 2.0)
"""The fit is stiff and driven from outside the face: a face that fits closely would show the person again."""
QUANTILES = np.linspace(0.5, 99.5, 41)
BIAS_SIGMA_MM, GAIN = 15.0, (0.6, 1.7)
"""Smoothness and limits of the local gain that adapts the new tissue to the scan."""
NEAR_MM = 25.0
"""Intensities are matched on tissue within this distance of the replaced region."""
SURFACE_MM, EAR_SURFACE_MM = 22.0, 8.0
"""Over this distance from unchanged head, the old surface blends into the new one."""
EARS_BEHIND_MM = 25.0
"""Behind this y of the average head, what is replaced is an ear."""
SKIN_MM = 2.0
"""Air changes to tissue over this distance."""
NECK_MM = -115.0
"""Below this z of the average head, air is not replaced: necks and shoulders differ too much."""
BLANKED = 0.3
"""Fraction of zeros from which the air of a scan counts as blanked, and stays 0."""
MAD_TO_SIGMA, RAYLEIGH_MEDIAN = 1.4826, 1.1774


@dataclass(frozen=True)
class Params:
    """Parameters of mri_reface.

    Attributes
    ----------
    margin_mm
        Nothing within this distance of the brain is replaced (5 to 11 mm around the intracranial volume in the
        external program).
    taper_mm
        Inside the head, old and new intensities blend over this distance.
    """

    margin_mm: float = field(
        default=7.0,
        metadata={"help": "distance to the brain within which nothing changes", **MARGIN},
    )
    taper_mm: float = field(
        default=8.0,
        metadata={"help": "distance over which old and new tissue blend", **MARGIN},
    )


@dataclass(frozen=True)
class _Parts:
    """The replaced region and the average face in it, on a box of the scan's grid.

    Attributes
    ----------
    at
        The box.
    data, head
        Of the scan: intensities above the air's, and head mask.
    face
        The replaced region: face, ears and the air in front of them.
    surface_mm
        Distance over which the old surface blends into the new one.
    shape
        Fraction of heads that have tissue there.
    tissue
        Mean intensity of head tissue, 1 = brain.
    """

    at: Box
    data: FloatVolume
    head: BoolVolume
    face: BoolVolume
    surface_mm: FloatVolume
    shape: FloatVolume
    tissue: FloatVolume


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what mri_reface replaces, and by which values.

    Parameters
    ----------
    anatomy
        Of the scan; brain mask, head mask and registrations to the average head are used.
    params
        See `Params`.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan.
    AnatomyError
        If there is no tissue where the face should be.

    Notes
    -----
    As in the external program, the regions are face, ears, and the air around the head with wrap-around artefacts.
    Two deformations are fitted, one from each registration of the anatomy; the one with the better correlation is
    used. The average face is the mean of heads that were aligned by deformable registration
    (`efface.training.priors`). Noise comes from a generator that is seeded from the scan's intensities.
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
    return Edit(mask, values[mask] + np.float32(anatomy.background.air), "mri_reface", params=asdict(params))


def _fit(anatomy: HeadAnatomy, warp: Warp, coarse: NDArray[np.float32], clear: BoolVolume) -> _Parts:
    """Resample the average face and its region to the scan, in a box around the face."""
    scan = anatomy.scan
    reached = _sample(templates.prior("face_and_ears"), coarse) > 0
    if not reached.any():
        msg = "the average head's face lies outside the scan's field of view; expected a whole head: check the scan"
        raise AnatomyError(msg)
    at = _box_around(reached, warp.grid, scan.grid)
    points = _points(warp, scan.grid.cropped(at))
    face = (_sample(templates.prior("face_and_ears"), points) > 0.05) & clear[at]
    tissue = templates.prior("tissue")
    known = _sample(Volume((tissue.data > 0).astype(np.float32), tissue.affine), points)
    mean = np.asarray(_sample(tissue, points) / np.maximum(known, 1e-3) / 100, dtype=np.float32)
    surface_mm = np.full(face.shape, SURFACE_MM, dtype=np.float32)
    surface_mm[points[1] < EARS_BEHIND_MM] = EAR_SURFACE_MM
    shape = _sample(templates.prior("head"), points)
    return _Parts(at, anatomy.image.data[at], anatomy.head[at], face, surface_mm, shape, mean)


def _box_around(coarse: BoolVolume, coarse_grid: Grid, grid: Grid) -> Box:
    """Voxels of a grid around a mask on a coarser grid with the same axes, with room to match intensities."""
    index = np.argwhere(coarse)
    corners = box_corners(index.min(axis=0), index.max(axis=0))
    to_grid = invert(grid.affine) @ coarse_grid.affine
    return covering_box(apply_affine(to_grid, corners), grid.shape, room_vox=NEAR_MM / grid.spacing_mm)


def _air(anatomy: HeadAnatomy, warp: Warp, coarse: NDArray[np.float32], clear: BoolVolume) -> BoolVolume:
    """Air around the head, wrap-around artefacts included."""
    reached = (_sample(templates.prior("air"), coarse) > 0.5) & (coarse[2] > NECK_MM)
    near = resampling.resample(Volume(reached.astype(np.float32), warp.grid.affine), anatomy.scan.grid)
    return np.asarray((near > 0.5) & clear, dtype=np.bool_)


def _best_warp(anatomy: HeadAnatomy) -> Warp:
    """Fit deformations from two initial affines, and return the one that gives the higher correlation."""
    scan = resampling.block_mean(anatomy.image, FITTING_MM)
    average = resampling.block_mean(templates.average_head(), FITTING_MM / 2)
    first = anatomy.average_to_scan
    refined = anatomy.registration_mi
    fits: list[tuple[float, Warp]] = []
    for start in [first, *([refined.matrix] if refined.converged else [])]:
        to_average = invert(start)
        face = resampling.resample(templates.prior("face_and_ears"), scan.grid, to_average) > 0
        driving = (resampling.resample(templates.prior("air"), scan.grid, to_average, fill=1.0) < 0.5) & ~face
        warp = registration.register_deformable(
            scan, average, to_average, mask=driving, iterations="60x40", radius=2, smoothing_vox=SMOOTHING_VOX
        )
        moved = resampling.resample(average, scan.grid, warp)
        fits.append((float(np.corrcoef(moved[driving], scan.data[driving])[0, 1]), warp))
    return max(fits, key=lambda pair: pair[0])[1]


def _points(warp: Warp, grid: Grid) -> NDArray[np.float32]:
    """Average head mm of every voxel of a grid, shape (3, x, y, z), from a warp on a coarser grid."""
    to_coarse = invert(warp.grid.affine) @ grid.affine
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
    """Sample a volume with a diagonal affine linearly at average head mm; 0 outside."""
    index = [(points[a] - volume.affine[a, 3]) / volume.affine[a, a] for a in range(3)]
    return np.asarray(ndimage.map_coordinates(volume.data, index, order=1, mode="grid-constant"), dtype=np.float32)


def _new_face(parts: _Parts, noise: "_Noise", spacing_mm: NDArray[np.float64], taper_mm: float) -> NDArray[np.float32]:
    """New intensities of the replaced voxels.

    Near unchanged head tissue, the old skin surface blends into the new one (by their signed distances), and old
    tissue blends into new tissue.
    """
    matched = _match(parts, spacing_mm)
    to_unchanged_mm = distance_mm(~(parts.head & ~parts.face), spacing_mm, parts.face)
    blend = _smooth_step(to_unchanged_mm / parts.surface_mm[parts.face])
    depth_mm = blend * _signed_mm(parts.shape > 0.5, spacing_mm, parts.face)
    depth_mm += (1 - blend) * _signed_mm(parts.head, spacing_mm, parts.face)
    inside = np.clip(0.5 + depth_mm / SKIN_MM, 0, 1)
    fresh = noise.over(matched[parts.face])
    taper = _smooth_step(to_unchanged_mm / taper_mm) if taper_mm > 0 else np.ones_like(to_unchanged_mm)
    taper = np.where(parts.head[parts.face], taper, 1)
    tissue = taper * fresh + (1 - taper) * parts.data[parts.face]
    air = noise.over(np.zeros(inside.shape, np.float32))
    return np.asarray(inside * tissue + (1 - inside) * air, dtype=np.float32)


def _match(parts: _Parts, spacing_mm: NDArray[np.float64]) -> FloatVolume:
    """Adapt the intensities of the average tissue to the scan: first by quantiles, then by a smooth local gain.

    The quantiles are those of the tissue in and near the replaced region, in both images. The gain is estimated on
    unchanged tissue that both images have.
    """
    near = distance_mm(~parts.face, spacing_mm) < NEAR_MM
    average, own = near & (parts.shape > 0.5), near & parts.head
    if not average.any() or not own.any():
        msg = "no tissue was found near the face: check that this is a whole head with its face"
        raise AnatomyError(msg)
    source, target = np.percentile(parts.tissue[average], QUANTILES), np.percentile(parts.data[own], QUANTILES)
    source = np.maximum.accumulate(source + 1e-6 * np.arange(source.size))
    matched = np.interp(parts.tissue, source, target).astype(np.float32)
    shared = own & average & ~parts.face
    sigma = BIAS_SIGMA_MM / spacing_mm
    floor = 0.02 * float(target.mean())
    a, b = (
        ndimage.gaussian_filter(np.where(shared, values, 0).astype(np.float32), sigma, truncate=3)
        for values in (parts.data, matched)
    )
    return np.asarray(matched * np.clip((a + floor) / (b + floor), *GAIN), dtype=np.float32)


class _Noise:
    """Rician noise of the scan's level, estimated in its air (0 if the air is blanked) and in its tissue."""

    def __init__(self, anatomy: HeadAnatomy, air: BoolVolume) -> None:
        data = anatomy.image.data
        sample = data[air & ~anatomy.head]
        blanked = sample.size < 1000 or np.count_nonzero(sample) < (1 - BLANKED) * sample.size
        self.in_air = 0.0 if blanked else float(np.median(sample)) / RAYLEIGH_MEDIAN
        self.in_tissue = max(self.in_air, tissue_noise(data, anatomy.brain))
        self._generator = np.random.default_rng(anatomy.scan.seed)

    def over(self, clean: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add noise to intensities; values of 0 are air."""
        level = np.where(clean > 0, self.in_tissue, self.in_air)
        real, imaginary = (level * self._generator.standard_normal(clean.shape) for _ in range(2))
        return np.asarray(np.hypot(clean + real, imaginary), dtype=np.float32)


def tissue_noise(data: FloatVolume, brain: BoolVolume) -> float:
    """Standard deviation of the noise inside the brain, from second differences, which are small in tissue.

    Parameters
    ----------
    data
        Intensities.
    brain
        Brain mask, same shape.

    Returns
    -------
    float
        In intensity units; 0 if the brain is too small for an estimate.
    """
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


def _smooth_step(position: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    ramp = np.clip(position, 0, 1).astype(np.float64)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float64)


def _command(program: Path, files: Workspace, params: ExternalParams) -> Sequence[str | Path]:
    return [program, files.uncompressed_scan, files.folder / "out", "-imType", "T1", "-saveQCRenders", "0"]


METHOD = DefacingMethod(
    name="mri_reface",
    title="mri_reface",
    summary="replaces face and ears by an average face that is fitted to the head",
    citation="schwarz2021",
    reference="Schwarz et al. 2021, doi 10.1016/j.neuroimage.2021.117845",
    colour="#D55E00",
    params=Params,
    plan=plan,
    external=ExternalProgram(
        "run_mri_reface.sh",
        _command,
        "install mri_reface and its MATLAB runtime (nitrc.org/projects/mri_reface)",
        needs_uncompressed=True,
        output_pattern="out/*_deFaced.nii*",
    ),
)
