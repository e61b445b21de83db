"""Affine, weighted affine and deformable registration, and resampling; one engine (greedy) behind it.

Convention, everywhere: a transform maps *fixed* world coordinates to *moving* world coordinates, in RAS+ mm.
So resampling the moving image onto the fixed grid uses the transform as it is, and points of the fixed space
(an atlas, say) are carried to the moving space by applying it.

The affine search is a multi-start: rotation vectors on a lattice (so that any head up to about 90 degrees from
the fixed one has a start within its capture range), centres of the heads matched for each, ranked by correlation
at 8 mm, the best refined rigidly, the best of those with all degrees of freedom, the last at 4 mm.

References
----------
Yushkevich et al. "Fast automatic segmentation of hippocampal subfields and medial temporal lobe subregions in 3
Tesla and 7 Tesla T2-weighted MRI." Alzheimer's & Dementia 12 (2016), P126-P127 (greedy).
"""

import contextlib
import io
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.errors import InputError
from efface.spatial.masks import largest_component, otsu_threshold
from efface.spatial.types import Affine, BoolVolume, Displacement, FloatVolume, Grid, Volume

COARSE_MM, FINE_MM = 8.0, 4.0
LOCAL_COST, GLOBAL_COST = "NCC 2x2x2", "NMI"
LATTICE_DEG, SEARCH_DEG = 35.0, 95.0
HEAD_HEIGHT_MM = 170.0
"""From the top of the head down: what is compared to find the first centre (necks differ in length)."""

POSES, REFINED = 12, 5
"""How many poses are refined rigidly, and how many *different* ones of those with all degrees of freedom.

A head without a face can look more like the average head when it lies on its back than upright, as long as only
rotations are tried; so the best few would often be one wrong pose, found several times.
"""
NEAR_VOX = 4
"""Around a weight, when the rest of the image is left out."""
RIVALS = 3
DIFFERENT_MM = 20.0
"""Root mean square distance over the head between poses that count as different."""

CONVERGED_SCORE = 0.65
"""Correlation of the average head with a registered scan: 0.78 to 0.90 on the development heads."""
MAX_STRETCH = 1.5
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class AffineResult:
    """What an affine registration found, and how far it can be trusted.

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
        Degrees of freedom: 6 or 12.
    starts
        How many initial poses were tried.
    """

    matrix: Affine
    score: float
    converged: bool
    reason: str
    dof: int
    starts: int


@dataclass(frozen=True)
class Warp:
    """A deformable transform: fixed point x goes to ``affine @ (x + displacement(x))`` in moving space.

    Attributes
    ----------
    displacement
        On `grid`, shape (x, y, z, 3), RAS+ mm, float32.
    grid
        The fixed grid.
    affine
        Fixed mm to moving mm, applied after the displacement, shape (4, 4).
    """

    displacement: Displacement
    grid: Grid
    affine: Affine


Transform = Affine | Warp


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
        Voxels of `fixed`, same shape, that tell rival poses apart: of those found by the whole image, the one wins
        that fits these voxels too. Where part of the moving image may have been removed, they are what stays.
    initial
        Start from this matrix (fixed mm to moving mm) and skip the search.
    minimum_score
        Correlation below which the result counts as not converged.
    finest_mm
        Where below 4 mm, the fit goes on at about this voxel size, near the weight only: slower, and several times
        more exact (of two scans of one person, 0.01 to 0.03 mm instead of 0.3 mm).

    Returns
    -------
    AffineResult
        With the verdict: look at `converged` before using `matrix`.

    Raises
    ------
    InputError
        If `dof` is neither 6 nor 12, or `weight` has another shape than `fixed`, or is empty.

    Notes
    -----
    One thread, no jitter and no noise: greedy adds up its cost in an order that depends on the number of threads,
    and the same command must give the same file.
    """
    if dof not in (6, 12):
        msg = f"dof must be 6 (rigid) or 12 (affine); received {dof}"
        raise InputError(msg)
    if weight is not None and weight.shape != fixed.data.shape:
        msg = f"weight must have the fixed image's shape {fixed.data.shape}; received {weight.shape}"
        raise InputError(msg)
    if weight is not None and not weight.any():
        msg = "weight must have at least one voxel set; received an empty mask"
        raise InputError(msg)
    coarse = _Pair.prepare(fixed, moving, weight, COARSE_MM)
    fine = _Pair.prepare(fixed, moving, weight, FINE_MM)
    if initial is None:
        starts = _initial_poses(coarse)
        candidates = _different(_best([coarse.fit(matrix, 6, "30") for matrix in starts], coarse), coarse)[:REFINED]
        starts_tried = len(starts)
    else:
        candidates, starts_tried = [initial], 1
    candidates = _best([coarse.fit(matrix, dof, "50") for matrix in candidates], coarse)
    if discriminating_mask is not None:
        sure = fine.weighted(fixed, discriminating_mask, FINE_MM)
        rivals = _different(candidates, coarse)[:RIVALS]
        if len(rivals) > 1:
            candidates = sorted(rivals, key=lambda m: _fit_of_both(m, dof, coarse, sure), reverse=True)
    matrix = fine.fit(candidates[0], dof, "50")
    if finest_mm < FINE_MM:
        near, weight_there = _near(fixed, weight)
        matrix = _Pair.prepare(near, moving, weight_there, finest_mm).fit(matrix, dof, "10")
    return _judged(matrix, fine, minimum_score, dof, starts_tried)


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
    fine = _Pair.prepare(fixed, moving, None, FINE_MM)
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
    images: dict[str, Any] = {"fixed": _to_sitk(fixed), "moving": _to_sitk(moving), "warp": None}
    gate = ""
    if mask is not None:
        images["gate"] = _to_sitk(Volume(mask.astype(np.float32), fixed.affine))
        gate = "-gm gate"
    update, total = smoothing_vox
    field = _greedy(
        f"-i fixed moving {gate} -it {{matrix}} -m NCC {radius}x{radius}x{radius} -n {iterations} "
        f"-s {update}vox {total}vox -wp 0 -noise 0 -o warp -threads {threads or default_threads()}",
        images,
        "warp",
        affine,
    )
    displacement = _displacement_ras(field)
    return Warp(displacement, fixed.grid, np.asarray(affine, dtype=np.float64))


def resample(
    moving: Volume,
    grid: Grid,
    transform: Transform | None = None,
    *,
    order: int = 1,
    fill: float = 0.0,
) -> FloatVolume:
    """Sample `moving` on `grid` through a transform from grid mm to moving mm.

    Parameters
    ----------
    moving
        The image to sample.
    grid
        Where to sample it.
    transform
        A 4x4 matrix, a `Warp` on this grid, or None for identity.
    order
        Spline order: 0 nearest, 1 linear, 3 cubic.
    fill
        Value outside the moving image.
    """
    to_voxel = np.linalg.inv(moving.affine)
    if isinstance(transform, Warp):
        points = warp_points(transform, grid)
        index = points @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        out = ndimage.map_coordinates(
            moving.data, np.moveaxis(index, -1, 0), order=order, mode="grid-constant", cval=fill
        )
    else:
        matrix = to_voxel @ (np.eye(4) if transform is None else transform) @ grid.affine
        out = ndimage.affine_transform(
            moving.data, matrix[:3, :3], matrix[:3, 3], grid.shape, order=order, mode="grid-constant", cval=fill
        )
    result: FloatVolume = np.asarray(out, dtype=np.float32)
    return result


def warp_points(warp: Warp, grid: Grid) -> NDArray[np.float64]:
    """Where every voxel of the warp's grid goes, moving RAS+ mm, shape (x, y, z, 3).

    Raises
    ------
    InputError
        If `grid` is not the grid the warp was found on.
    """
    if grid.shape != warp.grid.shape or not np.allclose(grid.affine, warp.grid.affine, atol=1e-4):
        msg = f"a warp can be sampled on its own grid only {warp.grid.shape}; received {grid.shape}"
        raise InputError(msg)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    points = index @ grid.affine[:3, :3].T + grid.affine[:3, 3] + warp.displacement
    moved: NDArray[np.float64] = points @ warp.affine[:3, :3].T + warp.affine[:3, 3]
    return moved


def rms_distance_mm(a: Affine, b: Affine, points_mm: NDArray[np.float64]) -> float:
    """Root mean square distance between two affines over points, shape (n, 3), in mm."""
    difference = points_mm @ (a - b)[:3, :3].T + (a - b)[:3, 3]
    return float(np.sqrt((difference**2).sum(axis=1).mean()))


@dataclass(frozen=True)
class _Pair:
    """Both images at one resolution, clipped to comparable intensities, as arrays and as greedy wants them."""

    fixed: Volume
    moving: Volume
    weight: FloatVolume

    @classmethod
    def prepare(cls, fixed: Volume, moving: Volume, weight: BoolVolume | None, mm: float) -> "_Pair":
        small = _normalised(block_mean(fixed, mm))
        whole = cls(small, _normalised(block_mean(moving, mm)), np.ones(small.data.shape, np.float32))
        return whole if weight is None else whole.weighted(fixed, weight, mm)

    def weighted(self, fixed: Volume, weight: BoolVolume, mm: float) -> "_Pair":
        """The same images, of which other voxels count."""
        mean = block_mean(Volume(weight.astype(np.float32), fixed.affine), mm).data
        return replace(self, weight=(mean >= min(0.5, float(mean.max()))).astype(np.float32))

    def fit(self, initial: Affine, dof: int, iterations: str, cost: str = LOCAL_COST) -> Affine:
        images: dict[str, Any] = {
            "fixed": _to_sitk(self.fixed),
            "moving": _to_sitk(self.moving),
            "gate": _to_sitk(Volume(self.weight, self.fixed.affine)),
            "found": None,
        }
        command = (
            f"-i fixed moving -gm gate -a -dof {dof} -m {cost} -n {iterations} -ia {{matrix}} -o found "
            "-jitter 0 -noise 0 -threads 1"
        )
        return np.asarray(_greedy(command, images, "found", initial), dtype=np.float64)

    def correlation(self, matrix: Affine) -> float:
        moved = resample(self.moving, self.fixed.grid, matrix)
        weight = self.weight / self.weight.sum()
        a = self.fixed.data - float((self.fixed.data * weight).sum())
        b = moved - float((moved * weight).sum())
        spread = float(np.sqrt((weight * a * a).sum() * (weight * b * b).sum()))
        return float((weight * a * b).sum()) / spread if spread > 0 else 0.0


def _near(fixed: Volume, weight: BoolVolume | None) -> tuple[Volume, BoolVolume | None]:
    """The part of an image that its weight is in, and some voxels more for the window of the cost."""
    if weight is None:
        return fixed, None
    found = ndimage.find_objects(weight.astype(np.uint8))[0]
    box = tuple(slice(max(0, part.start - NEAR_VOX), part.stop + NEAR_VOX) for part in found)
    return Volume(np.ascontiguousarray(fixed.data[box]), fixed.grid.cropped(box).affine), weight[box]


def block_mean(volume: Volume, mm: float) -> Volume:
    """Average blocks of whole voxels so that the spacing is about `mm`; the affine follows."""
    # Just under the half, so that the rounding errors of an oblique affine do not change the step (5 mm of 2 mm).
    step = np.maximum(1, np.round(mm / volume.grid.spacing_mm - 1e-4)).astype(int)
    padded = np.pad(volume.data, [(0, int(-n % s)) for n, s in zip(volume.data.shape, step, strict=True)], mode="edge")
    x, y, z = (n // s for n, s in zip(padded.shape, step, strict=True))
    blocks = padded.reshape(x, step[0], y, step[1], z, step[2])
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, :3] * step
    affine[:3, 3] = volume.affine[:3, :3] @ ((step - 1) / 2) + volume.affine[:3, 3]
    return Volume(blocks.mean(axis=(1, 3, 5), dtype=np.float32), affine)


def _normalised(volume: Volume) -> Volume:
    low, high = np.percentile(volume.data, (1.0, 99.0))
    scaled = (volume.data - low) / max(float(high - low), 1e-6)
    return Volume(np.clip(scaled, 0.0, 1.2).astype(np.float32), volume.affine)


def _initial_poses(pair: _Pair) -> list[Affine]:
    """Poses on the rotation lattice with the heads' centres matched, the most similar first."""
    fixed_points, moving_points = _head_points(pair.fixed), _head_points(pair.moving)
    fixed_centre = _upper_centre(fixed_points, np.eye(3))
    poses = []
    for vector in _rotation_lattice():
        rotation = Rotation.from_rotvec(vector).as_matrix()
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = _upper_centre(moving_points, rotation) - rotation @ fixed_centre
        poses.append(pose)
    return _best(poses, pair)[:POSES]


def _rotation_lattice() -> NDArray[np.float64]:
    """Rotation vectors in radians on a cubic lattice inside a ball, shape (n, 3)."""
    reach = int(SEARCH_DEG // LATTICE_DEG) + 1
    lattice = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3))) * LATTICE_DEG
    inside: NDArray[np.float64] = np.deg2rad(lattice[np.linalg.norm(lattice, axis=1) <= SEARCH_DEG])
    return inside


def _head_points(volume: Volume) -> NDArray[np.float64]:
    """RAS+ mm of the voxels of the largest bright object, shape (n, 3)."""
    bright = largest_component(ndimage.binary_opening(volume.data > 0.7 * otsu_threshold(volume.data)))
    if not bright.any():
        bright = volume.data > float(volume.data.mean())
    points: NDArray[np.float64] = np.argwhere(bright) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return points


def _upper_centre(points: NDArray[np.float64], rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of the points within `HEAD_HEIGHT_MM` of the top, where `rotation` says which way is up."""
    height = points @ rotation[:, 2]
    upper = points[height > np.percentile(height, 99.5) - HEAD_HEIGHT_MM]
    centre: NDArray[np.float64] = upper.mean(axis=0)
    return centre


def _best(matrices: Sequence[Affine], pair: _Pair) -> list[Affine]:
    return sorted(matrices, key=pair.correlation, reverse=True)


def _fit_of_both(matrix: Affine, dof: int, whole: _Pair, sure: _Pair) -> float:
    """Correlation over the whole image, plus that over the telling voxels after fitting them."""
    return whole.correlation(matrix) + sure.correlation(sure.fit(matrix, dof, "30"))


def _different(matrices: Sequence[Affine], pair: _Pair) -> list[Affine]:
    """Drop every pose that nearly repeats an earlier one."""
    points = _head_points(pair.fixed)[::20]
    kept: list[Affine] = []
    for matrix in matrices:
        if all(rms_distance_mm(matrix, other, points) > DIFFERENT_MM for other in kept):
            kept.append(matrix)
    return kept


def default_threads() -> int:
    """Threads to use: what ``OMP_NUM_THREADS`` says, as for every other library here, else all cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else os.cpu_count() or 1


def _judged(matrix: Affine, pair: _Pair, minimum_score: float, dof: int, starts: int) -> AffineResult:
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


def _greedy(command: str, images: dict[str, Any], output: str, matrix: Affine) -> Any:
    """Run one greedy command in this process; `{matrix}` stands for a file holding `matrix`.

    This build of greedy does not take matrices from memory, and its optimiser prints harmless line-search
    messages past Python's streams; both are dealt with here and nowhere else.
    """
    from picsl_greedy import Greedy3D

    greedy = Greedy3D()
    log = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="efface-") as folder, _quiet_stdout():
        path = Path(folder) / "initial.mat"
        np.savetxt(path, matrix, fmt="%.17g")
        greedy.execute(command.format(matrix=path) + " -V 0 -seed 1", out=log, err=log, **images)
    return greedy[output]


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Send file descriptor 1 to the null device meanwhile (C code writes to it directly)."""
    sys.stdout.flush()
    saved = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(null)


def _to_sitk(volume: Volume) -> Any:
    """A SimpleITK image (LPS mm) of a RAS+ volume; shear in the affine is refused by ITK, and never occurs here."""
    affine = RAS_TO_LPS @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.data.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _displacement_ras(field: Any) -> Displacement:
    """RAS+ mm displacement (x, y, z, 3) of an ITK vector image (LPS mm, stored z, y, x)."""
    array = SimpleITK.GetArrayFromImage(field).transpose(2, 1, 0, 3)
    displacement: Displacement = (array * np.array([-1.0, -1.0, 1.0], array.dtype)).astype(np.float32)
    return displacement
