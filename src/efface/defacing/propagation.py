"""Propagate an edit to another image of the same session, for example a FLAIR."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_mask import head_mask
from efface.defacing.edit import Edit
from efface.errors import AnatomyError, RegistrationError
from efface.io.scan import Scan
from efface.spatial import registration, resampling
from efface.spatial.affine import invert
from efface.spatial.types import Affine, BoolVolume, Volume

SAME_GRID_MM = 1e-2
MINIMUM_OVERLAP, MINIMUM_CORRELATION = 0.95, 0.4
"""Least Dice of the two heads inside both fields of view, and least correlation of their intensities.

T1w and FLAIR of the development heads reach 0.985 to 0.990 and 0.70 to 0.82.
"""
OUTSIDE_WARNED = 0.02
"""Fraction of the other head outside the scan's field of view from which there is a warning."""
TOUCHED = 0.05
"""Fraction of a voxel inside the edit above which the voxel is removed. It is small because voxels of a face that are
left are worse than removed voxels around it."""


def propagate_edit(edit: Edit, anatomy: HeadAnatomy, other: Scan, *, protect_brain: bool) -> Edit:
    """Propagate an edit to another image of the same session.

    Parameters
    ----------
    edit
        Of the scan of `anatomy`.
    anatomy
        Of the scan that the edit was planned on.
    other
        The other image. On the same grid the mask is used unchanged. On another grid it is resampled after a rigid
        registration with a local correlation, which works across contrasts.
    protect_brain
        On another grid: remove the resampled brain mask from the edit.

    Returns
    -------
    Edit
        On the other image's grid; the voxels become 0.

    Raises
    ------
    RegistrationError
        If the other image is on another grid and could not be aligned.
    """
    if same_grid(anatomy.scan, other):
        return Edit(edit.mask, 0.0, edit.method, edit.implementation, {**edit.params, "carried": "same grid"})
    to_scan = register_to_scan(anatomy, other)
    mask = _resample_mask(edit.mask, anatomy.scan, other, to_scan) > TOUCHED
    if protect_brain:
        mask &= _resample_mask(anatomy.brain, anatomy.scan, other, to_scan) < 0.5
    warnings = _field_of_view_warnings(other, anatomy.scan, to_scan)
    params = {**edit.params, "carried": "rigid registration"}
    return Edit(np.ascontiguousarray(mask), 0.0, edit.method, edit.implementation, params, warnings)


def same_grid(a: Scan, b: Scan) -> bool:
    """Whether two scans have equal shapes, and affines equal within `SAME_GRID_MM`."""
    return a.shape == b.shape and bool(np.allclose(a.affine, b.affine, atol=SAME_GRID_MM))


def register_to_scan(anatomy: HeadAnatomy, other: Scan) -> Affine:
    """Rigid transform from the other image's mm to the scan's mm, shape (4, 4).

    Parameters
    ----------
    anatomy
        Of the scan.
    other
        Another image of the same session.

    Raises
    ------
    RegistrationError
        If the registration did not converge, or the two heads do not overlap after it.
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
    return invert(found.matrix)


def _head_overlap(anatomy: HeadAnatomy, other: Scan, scan_to_other: Affine) -> float:
    """Dice of the two head masks on the scan's grid, inside the other image's field of view."""
    try:
        head = Volume(head_mask(other.volume).astype(np.float32), other.affine)
    except AnatomyError:
        return 0.0
    field_of_view = Volume(np.ones(other.shape, np.float32), other.affine)
    grid = anatomy.scan.grid
    inside = resampling.resample(field_of_view, grid, scan_to_other) > 0.5
    a = anatomy.head & inside
    b = (resampling.resample(head, grid, scan_to_other) > 0.5) & inside
    total = int(a.sum()) + int(b.sum())
    return 2.0 * float((a & b).sum()) / total if total else 0.0


def _resample_mask(mask: BoolVolume, scan: Scan, other: Scan, to_scan: Affine) -> NDArray[np.float32]:
    """Fraction of each voxel of the other grid inside the mask; the mask's border values continue outside its grid."""
    blur = np.maximum(0.0, other.spacing_mm / scan.spacing_mm - 1.0) / 2.355
    soft = ndimage.gaussian_filter(mask.astype(np.float32), blur, mode="nearest") if blur.any() else mask
    matrix = invert(scan.affine) @ to_scan @ other.affine
    sampled = ndimage.affine_transform(
        np.asarray(soft, np.float32), matrix[:3, :3], matrix[:3, 3], other.shape, order=1, mode="nearest"
    )
    return np.asarray(sampled, dtype=np.float32)


def _field_of_view_warnings(other: Scan, scan: Scan, to_scan: Affine) -> tuple[str, ...]:
    """Warn if part of the other image's head lies outside the scan's field of view."""
    field_of_view = Volume(np.ones(scan.shape, np.float32), scan.affine)
    try:
        head = head_mask(other.volume)
    except AnatomyError:
        return ()
    beyond = head & (resampling.resample(field_of_view, other.grid, to_scan) < 0.5)
    fraction = float(beyond.sum() / head.sum())
    if fraction < OUTSIDE_WARNED:
        return ()
    name = other.path or "the other image"
    return (f"{name}: {fraction:.0%} of its head lies outside the scan's field of view; look at the result",)
