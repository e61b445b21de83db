"""Affine and deformable registration, by one engine (greedy).

Convention, everywhere: a transform maps *fixed* world coordinates to *moving* world coordinates, in RAS+ mm.
So resampling the moving image onto the fixed grid uses the transform as it is, and points of the fixed space
(of an atlas, for example) are carried to the moving space by applying it.

The affine search is a multi-start: rotation vectors on a lattice (so that any head up to about 90 degrees from
the fixed one has a start within its capture range), centres of the heads matched for each, ranked by correlation
at 8 mm, the best refined rigidly, the best of those with all degrees of freedom, the last at 4 mm.

References
----------
Yushkevich et al. "Fast automatic segmentation of hippocampal subfields and medial temporal lobe subregions in 3
Tesla and 7 Tesla T2-weighted MRI." Alzheimer's & Dementia 12 (2016), P126-P127 (greedy).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from efface._threads import default_threads
from efface.errors import InputError
from efface.spatial._greedy import displacement_ras, run_greedy, to_sitk
from efface.spatial.pose_search import GLOBAL_COST, REFINED, ImagePair, best_first, different, fit_of_both, initial_poses
from efface.spatial.resampling import Warp
from efface.spatial.types import Affine, BoolVolume, Volume

COARSE_MM, FINE_MM = 8.0, 4.0
NEAR_VOX = 4
"""Around a weight, when the rest of the image is left out."""
RIVALS = 3
CONVERGED_SCORE = 0.65
"""Correlation of the average head with a registered scan: 0.78 to 0.90 on the development heads."""
MAX_STRETCH = 1.5
WHOLE = 0.7
"""Share of the fixed object in view from which its stretch along each axis can be found."""


@dataclass(frozen=True)
class AffineResult:
    """Result of an affine registration, with its verdict.

    Attributes
    ----------
    matrix
        Fixed RAS+ mm to moving RAS+ mm, shape (4, 4).
    score
        Correlation of the two images over the (weighted) fixed image after registration, in [-1, 1].
    converged
        Whether the result is to be believed; `reason` says why not.
    reason
        Empty when converged, else one line with the number and its limit.
    dof
        Degrees of freedom: 6, 7 or 12.
    starts
        How many initial poses were tried.
    by
        Another program that found the matrix; empty for our own registration.
    """

    matrix: Affine
    score: float
    converged: bool
    reason: str
    dof: int
    starts: int
    by: str = ""


def register_affine(
    fixed: Volume,
    moving: Volume,
    *,
    dof: int = 12,
    weight: BoolVolume | None = None,
    discriminating_mask: BoolVolume | None = None,
    initial: Affine | None = None,
    minimum_score: float = CONVERGED_SCORE,
    finest_mm: float = FINE_MM,
) -> AffineResult:
    """Find the affine transform from `fixed` to `moving` world coordinates.

    Parameters
    ----------
    fixed, moving
        The two images, RAS+ affines; any orientation, spacing or offset.
    dof
        6 (rigid) or 12 (affine).
    weight
        Voxels of `fixed` that count in the cost, same shape (a mask: greedy's weights are 0 or 1).
    discriminating_mask
        Voxels of `fixed`, same shape, that tell rival poses apart: those that defacing never removes. Of the poses found
        by the whole image, the one that fits these voxels too wins.
    initial
        Start from this matrix (fixed mm to moving mm) and skip the search.
    minimum_score
        Correlation below which the result counts as not converged.
    finest_mm
        Below 4 mm, the fit continues at about this voxel size, near the weight only: slower and more exact.

    Returns
    -------
    AffineResult
        With the verdict: check `converged` before `matrix` is used. Found by one thread, because greedy sums its cost
        in an order that depends on the number of threads.

    Raises
    ------
    InputError
        If `dof` is neither 6 nor 12, or `weight` has another shape than `fixed`, or is empty.
    """
    _check_request(fixed, dof, weight)
    coarse = ImagePair.prepare(fixed, moving, weight, COARSE_MM)
    fine = ImagePair.prepare(fixed, moving, weight, FINE_MM)
    if initial is None:
        starts = initial_poses(coarse)
        candidates = different(best_first([coarse.fit(matrix, 6, "30") for matrix in starts], coarse), coarse)[:REFINED]
        starts_tried = len(starts)
    else:
        candidates, starts_tried = [initial], 1
    candidates = best_first([coarse.fit(matrix, dof, "50") for matrix in candidates], coarse)
    if discriminating_mask is not None:
        discriminating = fine.weighted(fixed, discriminating_mask, FINE_MM)
        candidates = _rivals_apart(candidates, dof, coarse, discriminating)
    matrix = fine.fit(candidates[0], dof, "50")
    if finest_mm < FINE_MM:
        near, weight_there = _near(fixed, weight)
        matrix = ImagePair.prepare(near, moving, weight_there, finest_mm).fit(matrix, dof, "10")
    return _judged(matrix, fine, minimum_score, dof, starts_tried)


def _check_request(fixed: Volume, dof: int, weight: BoolVolume | None) -> None:
    """Refuse degrees of freedom and weights that cannot be used."""
    if dof not in (6, 12):
        msg = f"dof must be 6 (rigid) or 12 (affine); received {dof}"
        raise InputError(msg)
    if weight is not None and weight.shape != fixed.data.shape:
        msg = f"weight must have the fixed image's shape {fixed.data.shape}; received {weight.shape}"
        raise InputError(msg)
    if weight is not None and not weight.any():
        msg = "weight must have at least one voxel set; received an empty mask"
        raise InputError(msg)


def _rivals_apart(matrices: list[Affine], dof: int, coarse: ImagePair, discriminating: ImagePair) -> list[Affine]:
    """Order the best different poses by how well they fit both the whole image and the discriminating voxels."""
    rivals = different(matrices, coarse)[:RIVALS]
    if len(rivals) < 2:
        return matrices
    return sorted(rivals, key=lambda matrix: fit_of_both(matrix, dof, coarse, discriminating), reverse=True)


def register_near(
    fixed: Volume, moving: Volume, initial: Affine, *, minimum_score: float = CONVERGED_SCORE
) -> AffineResult:
    """Register from a start within about 30 mm and 30 degrees, with as many degrees of freedom as the images hold.

    Parameters
    ----------
    fixed, moving
        The two images, RAS+ affines; `moving` may show a part of `fixed` only.
    initial
        Fixed mm to moving mm.
    minimum_score
        Correlation below which the result counts as not converged.

    Notes
    -----
    Where less than `WHOLE` of the fixed object is in view, the head keeps its proportions (7 degrees of freedom): half
    a head does not say how it is stretched.
    """
    coarse = ImagePair.prepare(fixed, moving, None, COARSE_MM)
    fine = ImagePair.prepare(fixed, moving, None, FINE_MM)
    for dof in (12, 7):
        matrix = fine.fit(coarse.fit(initial, dof, "50"), dof, "50")
        if fine.overlap(matrix) >= WHOLE:
            break
    return _judged(matrix, fine, minimum_score, dof, 1)


def judge_affine(
    fixed: Volume, moving: Volume, matrix: Affine, *, minimum_score: float = CONVERGED_SCORE
) -> AffineResult:
    """Give an affine that was found elsewhere the verdict that our own have: correlation and stretch.

    Parameters
    ----------
    fixed, moving
        The two images, RAS+ affines.
    matrix
        Fixed mm to moving mm, shape (4, 4).
    minimum_score
        Correlation below which the result counts as not converged.
    """
    return _judged(matrix, ImagePair.prepare(fixed, moving, None, FINE_MM), minimum_score, 12, 1)


def refine_affine(
    fixed: Volume, moving: Volume, initial: Affine, *, minimum_score: float = CONVERGED_SCORE
) -> AffineResult:
    """Refine an affine, all degrees of freedom, by mutual information of the whole images (normalised).

    Parameters
    ----------
    fixed, moving
        The two images, RAS+ affines.
    initial
        Fixed mm to moving mm, within a few mm of the answer: nothing is searched.
    minimum_score
        Correlation below which the result counts as not converged.

    Notes
    -----
    A cost over the whole image follows the outlines of the head, where the contrast is; the local correlation of
    `register_affine` weighs every neighbourhood alike, so it fits the brain better: use that for the brain. One
    thread, as there.
    """
    fine = ImagePair.prepare(fixed, moving, None, FINE_MM)
    return _judged(fine.fit(initial, 12, "50", GLOBAL_COST), fine, minimum_score, 12, 1)


def register_deformable(
    fixed: Volume,
    moving: Volume,
    affine: Affine,
    *,
    mask: BoolVolume | None = None,
    iterations: str = "60x40x20",
    radius: int = 2,
    smoothing_vox: tuple[float, float] = (2.0, 1.0),
    threads: int | None = None,
) -> Warp:
    """Find the deformable transform from `fixed` to `moving`, starting from an affine.

    Parameters
    ----------
    fixed, moving
        The two images; the displacement is found on the fixed grid.
    affine
        Fixed mm to moving mm, shape (4, 4), applied after the displacement.
    mask
        Fixed voxels whose similarity drives the deformation, same shape as `fixed`.
    iterations
        Per level, coarse to fine, separated by ``x``.
    radius
        Half width of the local correlation window, in voxels.
    smoothing_vox
        Standard deviations in voxels: of each update, and of the whole displacement.
    threads
        None for all cores, or ``OMP_NUM_THREADS``; the result does not depend on it.
    """
    images: dict[str, Any] = {"fixed": to_sitk(fixed), "moving": to_sitk(moving), "warp": None}
    gate = ""
    if mask is not None:
        images["gate"] = to_sitk(Volume(mask.astype(np.float32), fixed.affine))
        gate = "-gm gate"
    update, total = smoothing_vox
    field = run_greedy(
        f"-i fixed moving {gate} -it {{matrix}} -m NCC {radius}x{radius}x{radius} -n {iterations} "
        f"-s {update}vox {total}vox -wp 0 -noise 0 -o warp -threads {threads or default_threads()}",
        images,
        "warp",
        affine,
    )
    displacement = displacement_ras(field)
    return Warp(displacement, fixed.grid, np.asarray(affine, dtype=np.float64))


def _near(fixed: Volume, weight: BoolVolume | None) -> tuple[Volume, BoolVolume | None]:
    """The part of an image that its weight is in, and some voxels more for the window of the cost."""
    if weight is None:
        return fixed, None
    found = ndimage.find_objects(weight.astype(np.uint8))[0]
    box = tuple(slice(max(0, part.start - NEAR_VOX), part.stop + NEAR_VOX) for part in found)
    return Volume(np.ascontiguousarray(fixed.data[box]), fixed.grid.cropped(box).affine), weight[box]


def _judged(matrix: Affine, pair: ImagePair, minimum_score: float, dof: int, starts: int) -> AffineResult:
    score = pair.correlation(matrix)
    reason = _why_not(matrix, score, minimum_score)
    return AffineResult(matrix, score, not reason, reason, dof, starts)


def _why_not(matrix: Affine, score: float, minimum: float) -> str:
    """One line when the result cannot be believed, else an empty string."""
    if not np.isfinite(matrix).all():
        return "registration returned a matrix that is not finite"
    stretch = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if stretch.max() > MAX_STRETCH or stretch.min() < 1 / MAX_STRETCH or np.linalg.det(matrix[:3, :3]) < 0:
        return (
            f"registration stretched the head by {stretch.min():.2f} to {stretch.max():.2f}; "
            f"expected {1 / MAX_STRETCH:.2f} to {MAX_STRETCH:.2f}"
        )
    if score < minimum:
        return f"correlation with the registered image is {score:.2f}; expected at least {minimum:.2f}"
    return ""
