"""Segmentation by an atlas: register the template, then label each voxel from its position and its intensity.

1. The brain, bias-corrected (N4), is aligned with the template: from the affine to the average head, refined.
2. It is resampled upright on the template's grid and registered deformably (local correlation). Working upright
   makes a rotated or obliquely stored head cost nothing.
3. Every brain voxel of the *scan's own grid* is carried to the template. The atlas's probabilities there, times
   the likelihood of the voxel's intensity under fluid, grey and white matter, times agreement with the six
   neighbours, give its group (a structure, white matter, cortex, or background). Cortex takes the gyrus there.

No label is ever resampled onto another grid, so there are no staircases and nothing is lost twice. Sulcal fluid
gets no label: the union of the labels is tissue and ventricles, not the intracranial space.
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
from efface.segmentation.labels import LABEL_IDS, Labels, Provenance
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
        Of the scan; its brain mask and the registration of the average head are used.
    params
        See `AtlasParams`.

    Raises
    ------
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the atlas does not fit the brain.
    """
    prior = load_prior()
    brain, mask, box = prepare_brain(anatomy.scan.volume, anatomy.brain)
    warnings: list[str] = []
    affine = align(brain, mask, initial_pose(anatomy, warnings), prior.template)
    warp = deform(brain, mask, affine, prior, params)
    found = label_brain(brain, mask, to_template(brain, mask, affine, warp), prior, params.agreement)
    values = np.zeros(anatomy.scan.shape, dtype=np.int32)
    values[box] = found
    missing = sorted(set(LABEL_IDS) - set(np.unique(found).tolist()))
    if missing:
        warnings.append(f"{len(missing)} of 132 labels have no voxel: {', '.join(map(str, missing))}")
    return Labels(values, tuple(warnings), Provenance("atlas", __version__, asdict(params)))


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
    smooth = antialiased(brain.data, prior.grid.spacing_mm / brain.grid.spacing_mm)
    inverse = invert(affine)
    data: FloatVolume = resample(Volume(smooth, brain.affine), prior.grid, inverse)
    inside = resample(Volume(mask.astype(np.float32), brain.affine), prior.grid, inverse) > 0.5
    return Volume(data, prior.grid.affine), inside


def to_template(brain: Volume, mask: BoolVolume, affine: Affine, warp: Warp) -> NDArray[np.float32]:
    """Template mm of every voxel of the mask, in the order of `numpy.argwhere`, shape (n, 3)."""
    points = apply_affine(affine @ brain.affine, np.argwhere(mask))
    index = apply_affine(invert(warp.grid.affine), points).T
    for axis in range(3):
        points[:, axis] += ndimage.map_coordinates(warp.displacement[..., axis], index, order=1, mode="nearest")
    return points.astype(np.float32)
