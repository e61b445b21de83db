"""Segmentation by an atlas: register the template, then let place and intensity decide together.

1. The brain, bias-corrected (N4), is aligned with the template: from the affine to the average head, refined.
2. It is resampled upright on the template's grid and registered deformably (local correlation). Working upright
   makes a rotated or obliquely stored head cost nothing.
3. Every brain voxel of the *scan's own grid* is carried to the template. The atlas's probabilities there, times
   the likelihood of the voxel's intensity under fluid, grey and white matter, times agreement with the six
   neighbours, give its group (a structure, white matter, cortex, or background). Cortex takes the gyrus there.

No label is ever resampled onto another grid, so there are no staircases and nothing is lost twice. Sulcal fluid
gets no label: the union of the labels is tissue and ventricles, not the intracranial space.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface._version import __version__
from efface.errors import AnatomyError, InputError, RegistrationError
from efface.segmentation.atlas.atlas_prior import Prior, load_prior
from efface.segmentation.atlas.map_labelling import decide
from efface.segmentation.bias_field import correct_bias
from efface.segmentation.labels import LABEL_IDS, Labels, Provenance
from efface.spatial.registration import Warp, register_affine, register_deformable, resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Volume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

AVERAGE_TO_TEMPLATE: Affine = np.array(
    [
        [1.124247, -0.089953, -0.022865, 5.914083],
        [0.102954, 1.064279, 0.134064, -17.347187],
        [0.003761, -0.116829, 1.166365, 4.537769],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""Average head RAS+ mm to template RAS+ mm; made by validation/average_to_braincolor.py."""

MARGIN_VOX = 5
BRAIN_ML = (300.0, 3000.0)
CONFIDENT_AFFINE_SCORE, MINIMUM_AFFINE_SCORE = 0.65, 0.4
"""Correlation inside the brain of scan and affine template: below the first, other poses are tried too.

On the development heads right poses reach 0.56 (wide ventricles) to 0.81, wrong ones (upside down, turned by 60 or
90 degrees) 0.18 to 0.52.
"""
MINIMUM_SCORE = 0.74
"""The same after the deformation: 0.80 to 0.87 for right poses, at most 0.72 for wrong ones."""


@dataclass(frozen=True)
class AtlasParams:
    """Parameters of the deformable registration and of the neighbourhood.

    Attributes
    ----------
    iterations
        Of the deformable registration per level, 6, 3 and 1.5 mm.
    radius
        Half width of the window of local correlation, in voxels of 1.5 mm.
    agreement
        Log-probability that a voxel gains for each of its six neighbours with the same group.
    """

    iterations: str = "100x50x10"
    radius: int = 2
    agreement: float = 0.3


def segment_atlas(anatomy: "HeadAnatomy", **params: Any) -> Labels:
    """Segment a head into the 132 BrainCOLOR labels.

    Parameters
    ----------
    anatomy
        The scan with its brain mask and its affine from the average head.
    **params
        See `AtlasParams`.

    Raises
    ------
    InputError
        If a parameter is unknown.
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the atlas does not fit the brain.
    """
    try:
        chosen = AtlasParams(**params)
    except TypeError as error:
        known = ", ".join(asdict(AtlasParams()))
        msg = f"unknown parameter of the atlas segmenter: expected {known}; received {', '.join(params)}"
        raise InputError(msg) from error
    prior = load_prior()
    brain, mask, box = prepare_brain(anatomy.scan.volume, anatomy.brain)
    warnings: list[str] = []
    affine = align(brain, mask, initial_pose(anatomy, warnings), prior.template)
    warp = deform(brain, mask, affine, prior, chosen)
    found = decide(brain, mask, to_template(brain, mask, affine, warp), prior, chosen.agreement)
    values = np.zeros(anatomy.scan.shape, dtype=np.int32)
    values[box] = found
    missing = sorted(set(LABEL_IDS) - set(np.unique(found).tolist()))
    if missing:
        warnings.append(f"{len(missing)} of 132 labels have no voxel: {', '.join(map(str, missing))}")
    return Labels(values, tuple(warnings), Provenance("atlas", __version__, asdict(chosen)))


def prepare_brain(scan: Volume, mask: BoolVolume, *, bias: bool = True) -> tuple[Volume, BoolVolume, tuple[slice, ...]]:
    """The brain, bias-corrected unless told not to, in its box, about 0 to 1.3 with 0 outside; its mask; the box.

    Raises
    ------
    AnatomyError
        If the mask's volume is not that of a brain.
    """
    volume_ml = float(np.count_nonzero(mask) * abs(np.linalg.det(scan.affine[:3, :3])) / 1000)
    if not BRAIN_ML[0] <= volume_ml <= BRAIN_ML[1]:
        msg = (
            f"brain mask of {volume_ml:.0f} ml cannot be a brain: expected {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f} ml; "
            "hand in a better one with --brain-mask"
        )
        raise AnatomyError(msg)
    tight = ndimage.find_objects(mask.astype(np.int8))[0]
    box = tuple(slice(max(0, s.start - MARGIN_VOX), s.stop + MARGIN_VOX) for s in tight)
    inside = np.ascontiguousarray(mask[box])
    data = np.ascontiguousarray(scan.data[box], dtype=np.float32)
    low = float(np.percentile(data[inside], 0.1))
    values = np.clip(data - min(low, 0.0), 0, None)
    if bias:
        values = correct_bias(values, inside, scan.grid.spacing_mm)
    scale = max(float(np.percentile(values[inside], 98)), 1e-6)
    scaled = np.where(inside, np.clip(values / scale, 0, 1.3), 0).astype(np.float32)
    return Volume(scaled, scan.grid.cropped(box).affine), inside, box


def align(brain: Volume, mask: BoolVolume, initial: Affine | None, template: Volume) -> Affine:
    """Affine from scan mm to template mm: refined from `initial`, and searched for where that does not fit well.

    Raises
    ------
    RegistrationError
        If neither fits.
    """
    tried = []
    for start in [initial, None] if initial is not None else [None]:
        tried.append(register_affine(brain, template, weight=mask, initial=start, minimum_score=MINIMUM_AFFINE_SCORE))
        if tried[-1].converged and tried[-1].score >= CONFIDENT_AFFINE_SCORE:
            break
    best = max(tried, key=lambda result: (result.converged, result.score))
    if not best.converged:
        msg = (
            f"the BrainCOLOR template was not found in the brain: {best.reason}; "
            "check the brain mask and that the scan is T1-weighted"
        )
        raise RegistrationError(msg)
    return best.matrix


def deform(brain: Volume, mask: BoolVolume, affine: Affine, prior: Prior, params: AtlasParams) -> Warp:
    """Deformation from the upright brain, on the template's grid, to the template.

    Raises
    ------
    RegistrationError
        If the deformed template does not resemble the brain.
    """
    upright, inside = make_upright(brain, mask, affine, prior)
    warp = register_deformable(
        upright,
        prior.template,
        np.eye(4),
        mask=ndimage.binary_dilation(inside, iterations=2),
        iterations=params.iterations,
        radius=params.radius,
        smoothing_vox=(1.732, 0.707),
    )
    fitted = resample(prior.template, prior.grid, warp)
    score = float(np.corrcoef(upright.data[inside], fitted[inside])[0, 1])
    if not score >= MINIMUM_SCORE:
        msg = (
            f"the BrainCOLOR template does not fit the brain: correlation {score:.2f}, expected at least "
            f"{MINIMUM_SCORE:.2f}; check the brain mask and that the scan is T1-weighted"
        )
        raise RegistrationError(msg)
    return warp


def make_upright(brain: Volume, mask: BoolVolume, affine: Affine, prior: Prior) -> tuple[Volume, BoolVolume]:
    """The brain and its mask on the template's grid; finer scans are smoothed first, against aliasing."""
    coarser = prior.grid.spacing_mm / brain.grid.spacing_mm
    sigma = np.where(coarser > 1.15, 0.35 * coarser, 0)
    smooth = ndimage.gaussian_filter(brain.data, sigma) if sigma.any() else brain.data
    inverse: Affine = np.linalg.inv(affine).astype(np.float64)
    data: FloatVolume = resample(Volume(smooth, brain.affine), prior.grid, inverse)
    inside = resample(Volume(mask.astype(np.float32), brain.affine), prior.grid, inverse) > 0.5
    return Volume(data, prior.grid.affine), inside


def to_template(brain: Volume, mask: BoolVolume, affine: Affine, warp: Warp) -> NDArray[np.float32]:
    """Template mm of every voxel of the mask, in the order of `numpy.argwhere`, shape (n, 3)."""
    matrix = affine @ brain.affine
    points = np.argwhere(mask) @ matrix[:3, :3].T + matrix[:3, 3]
    inverse = np.linalg.inv(warp.grid.affine)
    index = (points @ inverse[:3, :3].T + inverse[:3, 3]).T
    for axis in range(3):
        points[:, axis] += ndimage.map_coordinates(warp.displacement[..., axis], index, order=1, mode="nearest")
    return points.astype(np.float32)


def initial_pose(anatomy: "HeadAnatomy", warnings: list[str]) -> Affine | None:
    """Scan to template by way of the average head, or None where the head was not found."""
    try:
        average_to_scan = anatomy.average_to_scan
    except RegistrationError as error:
        warnings.append(f"the average head was not found in the scan, so the brain was searched for by itself: {error}")
        return None
    return np.asarray(AVERAGE_TO_TEMPLATE @ np.linalg.inv(average_to_scan), dtype=np.float64)
