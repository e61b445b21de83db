"""Propagate an edit to another image of the same session, for example a FLAIR."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.errors import AnatomyError, RegistrationError
from efface.io.scan import Scan
from efface.spatial import registration, resampling
from efface.spatial.affine import apply_affine, invert
from efface.spatial.outline_registration import edge_correlation, mutual_information, register_edges
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume

SAME_GRID_MM = 1e-2
MINIMUM_OVERLAP, MINIMUM_CORRELATION = 0.95, 0.4
"""Least Dice of the two heads inside both fields of view, and least correlation of their intensities.

T1w and FLAIR of the development heads reach 0.985 to 0.990 and 0.70 to 0.82.
"""
MINIMUM_SHARE = 0.6
"""Least common volume as a share of the larger head: a brain alone is less."""
AGREEMENT_MM = 6.0
"""How far apart two registrations may move a point of the head and still agree: 4.1 mm for T1w and T2w of 2 mm."""
STILL_MM = 2.5
"""A head that moved less lies where it lay: the registration of an unmoved head is off by up to 2.1 mm (T1w and T2w; T1w
and FLAIR, voxels of 2 mm)."""
OUTSIDE_WARNED = 0.02
"""Fraction of the other head outside the scan's field of view from which there is a warning."""
OVERLAP_MM = 2.0
"""About how far apart the voxels are at which heads and fields of view are compared."""
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
        The other image. The two heads are always registered, rigidly and with a local correlation, which works across
        contrasts: equal grids do not say that the person lay still. Where the grids are equal and no point of the head
        moved by more than `STILL_MM` (or a voxel), the mask is used unchanged; else it is resampled.
    protect_brain
        Where the mask is resampled: remove the resampled brain mask from the edit.

    Returns
    -------
    Edit
        On the other image's grid; the voxels become that image's own air.

    Raises
    ------
    RegistrationError
        If the other image could not be aligned.
    """
    theirs = HeadAnatomy(other)
    return carried_edit(edit, anatomy, theirs, register_to_scan(anatomy, theirs), protect_brain=protect_brain)


def carried_edit(edit: Edit, anatomy: HeadAnatomy, theirs: HeadAnatomy, to_scan: Affine, *, protect_brain: bool) -> Edit:
    """Carry an edit to another image whose place is known; see `propagate_edit`.

    Parameters
    ----------
    edit, anatomy
        Of the scan.
    theirs
        Of the other image.
    to_scan
        Rigid, the other image's mm to the scan's mm.
    protect_brain
        As in `propagate_edit`.
    """
    other, name = theirs.scan, str(theirs.scan.path or "the other image")
    moved_mm = moved_most_mm(anatomy, to_scan) if same_grid(anatomy.scan, other) else math.inf
    wraps_alone = theirs.wrap is not None and anatomy.wrap is None
    if moved_mm <= max(STILL_MM, float(anatomy.scan.spacing_mm.max())) and not wraps_alone:
        return Edit(
            edit.mask, theirs.background.air, edit.method, edit.implementation, {**edit.params, "carried": "same grid"}
        )
    mask = _moved_mask(edit.mask, anatomy, theirs, to_scan, protect_brain=protect_brain)
    warnings = _field_of_view_warnings(theirs.whole, anatomy.whole.scan, to_scan, name)
    if math.isfinite(moved_mm):
        warnings = (f"{name}: the head moved by up to {moved_mm:.0f} mm; the edit was moved with it", *warnings)
    if theirs.wrap is not None:
        warnings = (f"{name}: {theirs.wrap.warning}", *warnings)
    params = {**edit.params, "carried": "rigid registration"}
    return Edit(mask, theirs.background.air, edit.method, edit.implementation, params, warnings)


def carried_brain(anatomy: HeadAnatomy, other: HeadAnatomy, to_scan: Affine) -> BoolVolume:
    """The brain mask of the scan on the other image's grid."""
    return np.ascontiguousarray(_resample_mask(anatomy.whole.brain, anatomy.whole.scan, other.scan, to_scan) >= 0.5)


def _moved_mask(
    mask: BoolVolume, anatomy: HeadAnatomy, other: HeadAnatomy, to_scan: Affine, *, protect_brain: bool
) -> BoolVolume:
    """A mask of the scan on the other image's grid; what wraps around in either has its place."""
    scan, large = anatomy.whole.scan, other.whole.scan
    own = mask if anatomy.wrap is None else anatomy.wrap.extended(mask)
    moved = _resample_mask(own, scan, large, to_scan) > TOUCHED
    if protect_brain:
        moved &= _resample_mask(anatomy.whole.brain, scan, large, to_scan) < 0.5
    return np.ascontiguousarray(moved if other.wrap is None else other.wrap.back(moved))


def same_grid(a: Scan, b: Scan) -> bool:
    """Whether two scans have equal shapes, and affines equal within `SAME_GRID_MM`."""
    return a.shape == b.shape and bool(np.allclose(a.affine, b.affine, atol=SAME_GRID_MM))


def moved_most_mm(anatomy: HeadAnatomy, matrix: Affine) -> float:
    """How far a transform in mm moves the point of the head that it moves most."""
    points = apply_affine(anatomy.scan.affine, np.argwhere(anatomy.head)[::97])
    return float(np.linalg.norm(apply_affine(matrix, points) - points, axis=1).max())


def register_to_scan(anatomy: HeadAnatomy, other: HeadAnatomy) -> Affine:
    """Rigid transform from the other image's mm to the scan's mm, shape (4, 4).

    Parameters
    ----------
    anatomy
        Of the scan.
    other
        Of another image of the same session.

    Raises
    ------
    RegistrationError
        If the registration did not converge, or the two heads do not overlap after it.

    Notes
    -----
    The search starts from where the head lay in the scan, for images of one session share the scanner's coordinates; if
    that fails, it starts from all poses. Each time the heads are registered by intensities and by edges. Where the two
    differ, the pose with the higher mutual information counts. A head that is cut by its field of view, or whose scalp
    is dark, is smaller than that of the scan: it is accepted where it lies inside that one and both registrations agree.
    """
    score, overlap = 0.0, _Overlap(0.0, 0.0, 0.0)
    for initial in (np.eye(4), None):
        matrix, score, agree = _registered_twice(anatomy, other, initial)
        overlap = _head_overlap(anatomy.whole, other.whole, matrix)
        inside = agree and overlap.of_smaller >= MINIMUM_OVERLAP and overlap.of_larger >= MINIMUM_SHARE
        if score >= MINIMUM_CORRELATION and (overlap.dice >= MINIMUM_OVERLAP or inside):
            return invert(matrix)
    msg = (
        f"{other.scan.path or 'the other image'} could not be aligned with the scan: heads overlap by Dice "
        f"{overlap.dice:.2f} (expected at least {MINIMUM_OVERLAP:.2f}), correlation {score:.2f} (at least "
        f"{MINIMUM_CORRELATION:.2f}); check that both show the same person's whole head, or deface it separately"
    )
    raise RegistrationError(msg)


def _registered_twice(anatomy: HeadAnatomy, other: HeadAnatomy, initial: Affine | None) -> tuple[Affine, float, bool]:
    """Scan mm to the other image's mm, by intensities or by edges; the score; and whether both agree."""
    scan, moving = anatomy.whole.image, other.whole.image
    found = registration.register_affine(scan, moving, dof=6, initial=initial, minimum_score=MINIMUM_CORRELATION)
    by_edges = register_edges(scan, moving, found.matrix if initial is None else initial)
    if found.converged and moved_most_mm(anatomy, invert(found.matrix) @ by_edges) <= AGREEMENT_MM:
        return found.matrix, found.score, True
    poses = [matrix for matrix in (by_edges, found.matrix) if np.isfinite(matrix).all()] or [np.eye(4)]
    fits = [(mutual_information(scan, moving, matrix), matrix) for matrix in poses]
    best = max(fits, key=lambda fit: fit[0])[1]
    score = found.score if best is found.matrix else edge_correlation(scan, moving, best)
    return best, score, False


@dataclass(frozen=True)
class _Overlap:
    """Of two heads: Dice, and the common volume as a share of the smaller and of the larger one."""

    dice: float
    of_smaller: float
    of_larger: float


def _head_overlap(anatomy: HeadAnatomy, other: HeadAnatomy, scan_to_other: Affine) -> _Overlap:
    """Overlap of the two head masks on every `OVERLAP_MM` of the scan's grid, inside the other image's field of view."""
    try:
        head = Volume(other.head.astype(np.float32), other.scan.affine)
    except AnatomyError:
        return _Overlap(0.0, 0.0, 0.0)
    some, grid = _thinned(anatomy.scan.grid)
    inside = _in_view(other.scan, grid, scan_to_other)
    a = anatomy.head[some] & inside
    b = (resampling.resample(head, grid, scan_to_other) > 0.5) & inside
    sizes = sorted((int(a.sum()), int(b.sum())))
    if not sizes[0]:
        return _Overlap(0.0, 0.0, 0.0)
    both = int((a & b).sum())
    return _Overlap(2 * both / sum(sizes), both / sizes[0], both / sizes[1])


def _thinned(grid: Grid) -> tuple[tuple[slice, ...], Grid]:
    """Every so many voxels of a grid that they lie about `OVERLAP_MM` apart: as slices, and as a grid."""
    steps = np.maximum(1, np.round(OVERLAP_MM / grid.spacing_mm)).astype(int)
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * steps
    x, y, z = (-(-size // step) for size, step in zip(grid.shape, steps, strict=True))
    return tuple(slice(None, None, int(step)) for step in steps), Grid((x, y, z), affine)


def _in_view(scan: Scan, grid: Grid, transform: Affine) -> BoolVolume:
    """Which points of a grid lie in the field of view of a scan, through a transform from grid mm to scan mm."""
    field_of_view = Volume(np.ones(scan.shape, np.float32), scan.affine)
    return resampling.resample(field_of_view, grid, transform) > 0.5


def _resample_mask(mask: BoolVolume, scan: Scan, other: Scan, to_scan: Affine) -> NDArray[np.float32]:
    """Fraction of each voxel of the other grid inside the mask; the mask's border values continue outside its grid."""
    blur = np.maximum(0.0, other.spacing_mm / scan.spacing_mm - 1.0) / 2.355
    soft = ndimage.gaussian_filter(mask.astype(np.float32), blur, mode="nearest") if blur.any() else mask
    values: FloatVolume = np.asarray(soft, np.float32)
    if not any(values.take(side, axis).any() for axis in range(3) for side in (0, -1)):  # nothing to continue
        return resampling.resample(Volume(values, scan.affine), other.grid, to_scan)
    matrix = invert(scan.affine) @ to_scan @ other.affine
    sampled = ndimage.affine_transform(values, matrix[:3, :3], matrix[:3, 3], other.shape, order=1, mode="nearest")
    return np.asarray(sampled, dtype=np.float32)


def _field_of_view_warnings(other: HeadAnatomy, scan: Scan, to_scan: Affine, name: str) -> tuple[str, ...]:
    """Warn if part of the other image's head lies outside the scan's field of view."""
    some, grid = _thinned(other.scan.grid)
    head = other.head[some]
    fraction = 1 - float(head[_in_view(scan, grid, to_scan)].sum() / head.sum())
    if fraction < OUTSIDE_WARNED:
        return ()
    return (f"{name}: {fraction:.0%} of its head lies outside the scan's field of view; look at the result",)
