"""The atlas segmenter: register the BrainCOLOR template, then label each voxel from its position and its intensity.

1. The bias-corrected brain (N4) is aligned with the template by an affine, which starts from the affine to the average
   head.
2. The brain is resampled upright on the grid of the template and registered deformably (local correlation). Because it
   is upright there, oblique scans and turned heads need no extra work.
3. Every brain voxel of the *scan grid* is mapped to the template. Its group (a deep structure, white matter, cortex, or
   background) is the most probable one given the prior probabilities there, the likelihood of its intensity under fluid,
   grey and white matter, and the groups of its six neighbours. Cortex takes the label of the gyrus there.

Labels are never resampled, so outlines have no staircase artefacts. Sulcal fluid gets no label: the union of the labels
is tissue and ventricles, not the intracranial space.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface._version import __version__
from efface.errors import RegistrationError
from efface.segmentation.atlas.atlas_prior import Prior, load_prior
from efface.segmentation.atlas.map_labelling import label_brain
from efface.segmentation.atlas.params import AtlasParams
from efface.segmentation.brain_alignment import align, initial_pose, prepare_brain
from efface.segmentation.labels import Labels, Provenance, missing_labels
from efface.spatial.affine import apply_affine, invert
from efface.spatial.registration import register_deformable
from efface.spatial.resampling import Warp, antialiased, resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Volume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

MINIMUM_SCORE = 0.74
"""Correlation inside the brain after the deformation: 0.80 to 0.87 for right poses, at most 0.72 for wrong ones."""


def segment_atlas(anatomy: "HeadAnatomy", params: AtlasParams) -> Labels:
    """Segment a head into the 132 BrainCOLOR labels.

    Parameters
    ----------
    anatomy
        Anatomy of the scan; its brain mask and the registration of the average head are used.
    params
        Of the deformable registration and of the smoothing.

    Raises
    ------
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template does not fit the brain.
    """
    prior = load_prior()
    brain, mask, box = prepare_brain(anatomy.image, anatomy.brain)
    warnings: list[str] = []
    affine = align(brain, mask, initial_pose(anatomy, warnings), prior.template)
    warp = deform(brain, mask, affine, prior, params)
    points_mm = to_template(brain, mask, affine, warp)
    values = np.zeros(anatomy.scan.shape, dtype=np.int32)
    values[box] = label_brain(brain, mask, points_mm, prior, params.agreement)
    return Labels(values, (*warnings, *missing_labels(values)), Provenance("atlas", __version__, asdict(params)))


def deform(brain: Volume, mask: BoolVolume, affine: Affine, prior: Prior, params: AtlasParams) -> Warp:
    """Register the upright brain deformably to the template.

    Parameters
    ----------
    brain
        Bias-corrected intensities, 0 outside the brain.
    mask
        Brain mask, same shape.
    affine
        Scan mm to template mm, shape (4, 4).
    prior
        The atlas.
    params
        Iterations and window of the registration.

    Returns
    -------
    Warp
        From the upright brain, on the grid of the template, to the template.

    Raises
    ------
    RegistrationError
        If the deformed template does not fit the brain.
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
            f"{MINIMUM_SCORE:.2f}: check the brain mask and that the scan is T1-weighted"
        )
        raise RegistrationError(msg)
    return warp


def make_upright(brain: Volume, mask: BoolVolume, affine: Affine, prior: Prior) -> tuple[Volume, BoolVolume]:
    """Resample the brain and its mask to the grid of the template; finer scans are smoothed first, against aliasing."""
    smooth = antialiased(brain.data, prior.grid.spacing_mm / brain.grid.spacing_mm)
    inverse = invert(affine)
    data: FloatVolume = resample(Volume(smooth, brain.affine), prior.grid, inverse)
    inside = resample(Volume(mask.astype(np.float32), brain.affine), prior.grid, inverse) > 0.5
    return Volume(data, prior.grid.affine), inside


def to_template(brain: Volume, mask: BoolVolume, affine: Affine, warp: Warp) -> NDArray[np.float32]:
    """Template mm of every voxel of the mask, in the order of `numpy.argwhere`, float32, shape (n, 3)."""
    points = apply_affine(affine @ brain.affine, np.argwhere(mask))
    index = apply_affine(invert(warp.grid.affine), points).T
    for axis in range(3):
        points[:, axis] += ndimage.map_coordinates(warp.displacement[..., axis], index, order=1, mode="nearest")
    return points.astype(np.float32)
