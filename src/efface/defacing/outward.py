"""Close an edit outwards, so that neither its mask nor its air shows the skin that was removed.

What a program changed can be the tissue alone: the front of such an edit is the person's skin, and so is the border
between blanked face and noisy air. Every edit is therefore closed through the air to the borders of the image:

- in front of removed tissue, all air belongs to it;
- where the edit does not have the air around the removed skin already, so does all air of the image that lies in
  front of the rearmost and below the topmost removed tissue. Then the border of the edit is the cut, planes of the
  image, and the skin that stays, which the defaced image shows anyway.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import skin_threshold
from efface.defacing.edit import Edit, extended
from efface.spatial.boxes import Box
from efface.spatial.masks import connected_pieces, dilated, distance_mm, opened
from efface.spatial.types import BoolVolume, FloatVolume

REGION = "closed outward"
"""What a mask is, for the record."""
SMOOTH_MM = 1.0
KEEP_MM = 2.0
"""Around tissue that stays, at least one voxel: air of this layer is not edited, for the skin is in it."""
INSIDE_MM = 10.0
"""Bone and cavities this near tissue that stays, inside the head, are not air."""
SPECK_ML = 0.05
"""Pieces of tissue below this, outside the edit, are noise."""
RIM_MM, RIM_VOXELS, COVERED = 5.0, 2.5, 0.95
"""An edit that has so much of the air up to this distance from the removed skin does not follow the skin: 0.977 and more
of quickshear's, pydeface's, fsl_deface's and mri_reface's, 0.66 to 0.74 of defacer's, 0.92 to 0.97 of mri_deface's (five
heads)."""
LEAST_SEEN = 0.2
"""Of that air, the share that must not be 0 for this to be seen."""
NEIGHBOURS = 5
"""Voxels along the edge of the neighbourhood that decides whether a voxel of 0 belongs to the edit."""
LEAST_AIR = 1000
"""Voxels of air in an edit from which more air is drawn; where it has fewer, from all that it made dark."""


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """The part of the image around an edit.

    Attributes
    ----------
    removed
        Tissue in the edit.
    stays
        Tissue that is not edited, a layer around it, and what is dark inside the head near it.
    to_kept_mm
        Distance to tissue that is not edited; infinite where there is none.
    """

    removed: BoolVolume
    stays: BoolVolume
    to_kept_mm: FloatVolume


def closed_outward(edit: Edit, anatomy: HeadAnatomy) -> Edit:
    """Extend an edit through the air to the borders of the image, along the axes of the image.

    Parameters
    ----------
    edit
        On the RAS+ grid of the scan; its values are kept.
    anatomy
        Of the scan before the edit; its head mask is used.

    Returns
    -------
    Edit
        The air that was added gets intensities as the edit has in its own air.
    """
    scan, head = anatomy.scan, anatomy.head
    own = head if anatomy.wrap is None else head | (anatomy.wrap.pieces > 0)
    if not (edit.mask & own).any():
        return edit
    image, level = anatomy.image, np.float32(anatomy.background.air)
    threshold = skin_threshold(image)
    box = _in_front_and_below(edit.mask & own, scan.spacing_mm)
    mask = edit.mask[box]
    around = _surroundings(mask, own[box], image.data[box], scan.spacing_mm, threshold)
    inner = _in_front_and_below(around.removed)
    reach = np.zeros_like(mask)
    if anatomy.wrap is None and _has_its_air(mask, own[box], image.data[box], around, scan.spacing_mm):
        reach[inner] = np.logical_or.accumulate(around.removed[inner], axis=1)
        reach |= _zeros_among(mask, image.data[box])
    else:
        reach[inner] = True
    added = np.zeros_like(edit.mask)
    added[box] = reach & ~around.stays & ~mask
    if isinstance(edit.values, int | float):
        return replace(edit, mask=edit.mask | added)
    dark = edit.values - level <= threshold
    in_air = dark & ~own[edit.mask]
    air = edit.values[in_air if np.count_nonzero(in_air) >= LEAST_AIR else dark]
    return extended(edit, added, _drawn(air, int(added.sum()), scan.seed, level))


def _in_front_and_below(mask: BoolVolume, spacing_mm: NDArray[np.float64] | None = None) -> Box:
    """The part of an image in front of the rearmost and below the topmost voxel of a mask; with a spacing, some more."""
    room = np.zeros(3, dtype=int) if spacing_mm is None else np.ceil(INSIDE_MM / spacing_mm).astype(int)
    back = int(np.flatnonzero(mask.any(axis=(0, 2)))[0]) - int(room[1])
    top = int(np.flatnonzero(mask.any(axis=(0, 1)))[-1]) + 1 + int(room[2])
    return slice(0, mask.shape[0]), slice(max(0, back), mask.shape[1]), slice(0, min(top, mask.shape[2]))


def _surroundings(
    mask: BoolVolume, head: BoolVolume, data: FloatVolume, spacing_mm: NDArray[np.float64], threshold: float
) -> _Surroundings:
    removed = mask & head
    # Smoothed without the edit, so that no rim of the removed skin counts as tissue.
    kept = ndimage.gaussian_filter(np.where(mask, 0, data), SMOOTH_MM / spacing_mm) > threshold
    labels, sizes = connected_pieces(kept)
    kept &= (sizes * float(np.prod(spacing_mm)) / 1000 >= SPECK_ML)[labels]
    to_kept_mm = distance_mm(~kept, spacing_mm) if kept.any() else np.full(mask.shape, np.inf, np.float32)
    # A rim of the head mask around the removed skin is thin: opening takes it away.
    inside = opened(head & ~mask) & (to_kept_mm <= INSIDE_MM)
    stays = inside | (to_kept_mm <= max(KEEP_MM, float(spacing_mm.max())))
    return _Surroundings(removed, np.asarray(stays, dtype=np.bool_), to_kept_mm)


def _has_its_air(
    mask: BoolVolume,
    head: BoolVolume,
    data: FloatVolume,
    around: _Surroundings,
    spacing_mm: NDArray[np.float64],
) -> bool:
    """Whether an edit has the air around the skin that it removes, away from skin that stays."""
    reach_mm = max(RIM_MM, RIM_VOXELS * float(spacing_mm.max()))
    rim = distance_mm(~around.removed, spacing_mm) <= reach_mm
    rim &= ~dilated(head) & ~around.stays & (around.to_kept_mm > reach_mm)
    # Voxels of 0 that a program sets to 0 do not count as changed.
    seen = rim & (data != 0)
    count = np.count_nonzero(seen)
    return bool(count > LEAST_SEEN * np.count_nonzero(rim) and np.count_nonzero(seen & mask) >= COVERED * count)


def _zeros_among(mask: BoolVolume, data: FloatVolume) -> BoolVolume:
    """Voxels of 0 that lie where the others are edited: a program that blanks a region does not change them."""
    zeros = (data == 0) & ~mask
    if not zeros.any() or not data[mask].all():  # an edit that has voxels of 0 has all that it should
        return np.zeros_like(mask)
    edited, others = (
        ndimage.uniform_filter(part.astype(np.float32), NEIGHBOURS, mode="nearest") for part in (mask, data != 0)
    )
    return np.asarray(zeros & (edited > others / 2) & (edited > 0), dtype=np.bool_)


def _drawn(air: NDArray[np.float32], count: int, seed: int, level: np.float32) -> NDArray[np.float32]:
    """Intensities for more air, alike: the level of air where most of it has that, else drawn from it."""
    if np.count_nonzero(air != level) <= air.size / 2:
        return np.full(count, level, dtype=np.float32)
    return np.random.default_rng(seed).choice(air, count).astype(np.float32)
