"""An edit decided on one image, carried to another image of the same person (a FLAIR, say)."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_mask import head_mask
from efface.defacing.edit import Edit
from efface.errors import AnatomyError, RegistrationError
from efface.io.scan import Scan
from efface.spatial import registration, resampling
from efface.spatial.types import Affine, BoolVolume, Volume

SAME_GRID_MM = 1e-2
MINIMUM_OVERLAP, MINIMUM_CORRELATION = 0.95, 0.4
"""Least Dice of the two heads inside both fields of view, and least correlation of their intensities.

T1w and FLAIR of the development heads reach 0.985 to 0.990 and 0.70 to 0.82.
"""
TOUCHED = 0.05
"""Share of a voxel inside the edit from which the whole voxel is removed: rather a rim too much than a face."""


def carry_edit(edit: Edit, anatomy: HeadAnatomy, other: Scan, *, protect_brain: bool) -> Edit:
    """Decide what to remove from another image of the same person and session.

    Parameters
    ----------
    edit
        Decided on the scan of `anatomy`.
    anatomy
        Of the scan the edit was decided on.
    other
        Where the edit should go. On the same grid it is used as it is; on another, it is carried through a rigid
        registration (local correlation, so that T1 and FLAIR find each other).
    protect_brain
        Keep the scan's brain, carried likewise, out of the edit.

    Returns
    -------
    Edit
        On the other image's grid; its voxels become 0.

    Raises
    ------
    RegistrationError
        If the other image is on another grid and could not be aligned.
    """
    if same_grid(anatomy.scan, other):
        return Edit(edit.mask, 0.0, edit.method, edit.implementation, {**edit.params, "carried": "same grid"})
    to_scan = align(anatomy, other)
    mask = _sample(edit.mask, anatomy.scan, other, to_scan) > TOUCHED
    if protect_brain:
        mask &= _sample(anatomy.brain, anatomy.scan, other, to_scan) < 0.5
    warnings = _outside(other, anatomy.scan, to_scan)
    params = {**edit.params, "carried": "rigid registration"}
    return Edit(np.ascontiguousarray(mask), 0.0, edit.method, edit.implementation, params, warnings)


def same_grid(a: Scan, b: Scan) -> bool:
    """Whether two scans have the same voxels in the same places."""
    return a.shape == b.shape and bool(np.allclose(a.affine, b.affine, atol=SAME_GRID_MM))


def align(anatomy: HeadAnatomy, other: Scan) -> Affine:
    """Rigid transform from the other image's mm to the scan's mm.

    Raises
    ------
    RegistrationError
        If the two heads do not overlap after registration.
    """
    found = registration.register_affine(anatomy.scan.volume, other.volume, dof=6, minimum_score=MINIMUM_CORRELATION)
    overlap = _head_overlap(anatomy, other, found.matrix)
    if not found.converged or overlap < MINIMUM_OVERLAP:
        msg = (
            f"{other.path or 'the other image'} could not be aligned with the scan: heads overlap by Dice {overlap:.2f} "
            f"(expected at least {MINIMUM_OVERLAP:.2f}), correlation {found.score:.2f} (at least "
            f"{MINIMUM_CORRELATION:.2f}); check that both show the same person's whole head"
        )
        raise RegistrationError(msg)
    return np.asarray(np.linalg.inv(found.matrix), dtype=np.float64)


def _head_overlap(anatomy: HeadAnatomy, other: Scan, scan_to_other: Affine) -> float:
    """Dice of the two head masks on the scan's grid, where the other image has voxels."""
    try:
        head = Volume(head_mask(other.volume).astype(np.float32), other.affine)
    except AnatomyError:
        return 0.0
    seen = Volume(np.ones(other.shape, np.float32), other.affine)
    grid = anatomy.scan.grid
    inside = resampling.resample(seen, grid, scan_to_other) > 0.5
    a = anatomy.head & inside
    b = (resampling.resample(head, grid, scan_to_other) > 0.5) & inside
    total = int(a.sum()) + int(b.sum())
    return 2.0 * float((a & b).sum()) / total if total else 0.0


def _sample(mask: BoolVolume, scan: Scan, other: Scan, to_scan: Affine) -> NDArray[np.float32]:
    """Share of the mask in every voxel of the other grid; beyond the scan's field of view its border goes on."""
    blur = np.maximum(0.0, other.spacing_mm / scan.spacing_mm - 1.0) / 2.355
    soft = ndimage.gaussian_filter(mask.astype(np.float32), blur, mode="nearest") if blur.any() else mask
    matrix = np.linalg.inv(scan.affine) @ to_scan @ other.affine
    sampled = ndimage.affine_transform(
        np.asarray(soft, np.float32), matrix[:3, :3], matrix[:3, 3], other.shape, order=1, mode="nearest"
    )
    return np.asarray(sampled, dtype=np.float32)


def _outside(other: Scan, scan: Scan, to_scan: Affine) -> tuple[str, ...]:
    """Warn when part of the other image's head lies beyond the scan's field of view."""
    seen = Volume(np.ones(scan.shape, np.float32), scan.affine)
    try:
        head = head_mask(other.volume)
    except AnatomyError:
        return ()
    beyond = head & (resampling.resample(seen, other.grid, to_scan) < 0.5)
    share = float(beyond.sum() / head.sum())
    if share < 0.02:
        return ()
    name = other.path or "the other image"
    return (f"{name}: {share:.0%} of its head lies outside the scan's field of view; look at the result",)
