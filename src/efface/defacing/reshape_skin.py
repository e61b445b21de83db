"""The skin that reshape gives: the outermost millimetres of the new face, the same for everybody.

A displacement leaves a residue that is the person's own, and thin bright or dark tissue under the skin moves the
surface that somebody sees. So the skin is made new where the face is everybody's: air outside the wanted surface, even
tissue with the scan's noise inside, and from `EVEN_MM` to `DEEP_MM` a passage into what was pulled back.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.reshape_target import Shapes
from efface.spatial.affine import invert
from efface.spatial.masks import box_of
from efface.spatial.types import BoolVolume, FloatVolume

EVEN_MM, DEEP_MM = 2.5, 5.0
"""Depths below the new skin up to which tissue is even, and from which it is what was pulled back."""
HALO_MM = 4.0
"""So far outside of the new skin, air is drawn anew: what was pulled back has the old skin's blur there."""
BRIGHTNESS = 2.0
"""Of the even tissue, in units of the threshold of the skin: half of it is at the surface, however it is smoothed."""
LEAST_SHARE = 0.02
"""Smaller shares of new skin are none."""
QUIETEST_PERCENT = 2.0
"""Noise is what the quietest places of the brain have: everywhere else, edges and texture are added to it."""
BLUR_VOX = 0.6
"""Half the width of the passage from air to tissue, in voxels, as the image has it at other edges."""


def renewed(
    anatomy: HeadAnatomy, shapes: Shapes, after: FloatVolume, margin_mm: float
) -> tuple[BoolVolume, FloatVolume]:
    """Make the skin of the face new.

    Parameters
    ----------
    anatomy
        Of the scan.
    shapes
        The wanted skin, and where it is made new.
    after
        The scan with what was pulled back, shape of the scan.
    margin_mm
        Nothing within this distance of the brain changes.

    Returns
    -------
    mask
        The voxels that change, shape of the scan.
    values
        Their new values, in the order of the mask.
    """
    scan = anatomy.scan
    at = shapes.box_in(shapes.new_skin > LEAST_SHARE, scan.grid)
    grid = scan.grid.cropped(at)
    to_frame = invert(shapes.grid.affine) @ invert(shapes.to_scan) @ grid.affine
    depth, share = (
        ndimage.affine_transform(part, to_frame[:3, :3], to_frame[:3, 3], grid.shape, order=1, mode=mode, cval=0.0)
        for part, mode in ((shapes.wanted, "nearest"), (shapes.new_skin, "constant"))
    )
    share[anatomy.brain_distance_mm[at] <= margin_mm] = 0
    signal = after[at] - np.float32(anatomy.background.air)
    blur_mm = BLUR_VOX * float(np.prod(scan.spacing_mm)) ** (1 / 3)
    outside = depth < -blur_mm
    halo = outside & ((depth > -HALO_MM) | (signal > shapes.threshold)) & (share > 0.5)
    inside = ~outside & (depth < DEEP_MM) & (share > LEAST_SHARE)
    new = after[at].copy()
    new[inside] = _mixed(anatomy, shapes, signal, (inside, depth, share, blur_mm))
    new[halo] = drawn_air(anatomy, shapes.threshold, int(halo.sum()))
    mask = np.zeros(scan.shape, dtype=np.bool_)
    mask[at] = inside | halo
    return mask, np.asarray(new[inside | halo], dtype=np.float32)


def _mixed(
    anatomy: HeadAnatomy,
    shapes: Shapes,
    signal: FloatVolume,
    where: tuple[BoolVolume, FloatVolume, FloatVolume, float],
) -> NDArray[np.float32]:
    """Intensities at and below the new skin, in the order of the mask."""
    inside, depth, share, blur_mm = where
    deep, much, old = depth[inside], share[inside], signal[inside]
    threshold = np.float32(shapes.threshold)
    profile = np.clip(1 + deep / blur_mm, 0, BRIGHTNESS)  # 1, the threshold, is at the surface itself
    rng = np.random.default_rng(anatomy.scan.seed)
    noise = rng.standard_normal(len(deep)) * _noise(anatomy) * np.minimum(profile / BRIGHTNESS, 1)
    fresh = np.maximum(threshold * profile + noise, 0)
    much = much * np.clip((DEEP_MM - deep) / (DEEP_MM - EVEN_MM), 0, 1)
    return np.asarray(anatomy.background.air + old + much * (fresh - old), dtype=np.float32)


def _noise(anatomy: HeadAnatomy) -> float:
    """Standard deviation of the noise from voxel to voxel, at the quietest places of the brain."""
    at = box_of(anatomy.brain, 1)
    values, inside = anatomy.scan.data[at], anatomy.brain[at]
    rough = values - ndimage.gaussian_filter(values, 1.0)
    near = ndimage.uniform_filter(np.square(rough), 3)
    return float(np.sqrt(max(np.percentile(near[inside], QUIETEST_PERCENT), 0.0)))


def drawn_air(anatomy: HeadAnatomy, threshold: float, count: int) -> NDArray[np.float32]:
    """Intensities of air, drawn from what is dark outside the head; where air is noise of full height, the lowest."""
    background = anatomy.background
    if background.noise is None:
        signal = background.signal(anatomy.scan.data)
        air = anatomy.scan.data[~anatomy.head & (signal < threshold / 2)]
        if air.size:
            return np.random.default_rng(anatomy.scan.seed).choice(air, count).astype(np.float32)
    return np.full(count, background.air, np.float32)
