"""The outer surface of a head as points with normals, seen by parallel rays from five sides.

Points are in upright mm: the pose of the average head without its scales, so that a small head stays small. Where a ray
meets tissue as soon as it enters the field of view there is no skin but a cut by the border, and no point.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.skin import SPECK_ML, smoothed
from efface.spatial.affine import apply_affine, invert
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume

STEP_MM = 1.5
"""Of the rays, and along them."""
LOW_MM, HIGH_MM = (-105.0, -140.0, -135.0), (105.0, 145.0, 125.0)
"""What is looked at, upright mm."""
BORDER_MM = 3.0
"""Tissue this near to where a ray enters the field of view is cut by the border."""
GRAZING = 0.3
"""Cosine between ray and normal below which a point is left to the rays from another side."""
CELL_MM = 3.0
"""One point in each cube of this size."""
CELLS = tuple(round((high - low) / CELL_MM) + 1 for low, high in zip(LOW_MM, HIGH_MM, strict=True))
"""Cubes along each axis of what is looked at; the first is centred on `LOW_MM`."""

Points = NDArray[np.float64]
"""Shape (n, 3)."""


@dataclass(frozen=True, eq=False)
class SkinPoints:
    """Points of a surface.

    Attributes
    ----------
    points
        Upright mm, shape (n, 3).
    normals
        Unit vectors out of the tissue, shape (n, 3).
    from_front
        Which points were met by rays from the front, shape (n,).
    in_view
        Which cells of what is looked at are in the scan's field of view, more than `BORDER_MM` from its border, shape
        `CELLS`: elsewhere the scan does not say whether there is skin.
    """

    points: Points
    normals: Points
    from_front: NDArray[np.bool_]
    in_view: BoolVolume

    def __len__(self) -> int:
        return len(self.points)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "SkinPoints":
        """Some of the points; `chosen` says which of all, shape (n,), or their numbers."""
        return SkinPoints(self.points[chosen], self.normals[chosen], self.from_front[chosen], self.in_view)


def cells_of(points: Points) -> NDArray[np.intp]:
    """Cell of each point, shape (n, 3); the outermost cells for those outside."""
    return np.clip(np.rint((points - LOW_MM) / CELL_MM), 0, np.array(CELLS) - 1).astype(np.intp)


def find_skin(volume: Volume, upright_to_scan: Affine, threshold: float) -> SkinPoints:
    """Find the outer surface of a head.

    Parameters
    ----------
    volume
        With dark air at 0.
    upright_to_scan
        Rigid pose, upright mm to scan mm, shape (4, 4).
    threshold
        Intensity at the skin.

    Returns
    -------
    SkinPoints
        One point in each cube of `CELL_MM`, in an order that depends on the surface alone.
    """
    grid = _upright_grid(STEP_MM)
    fine = smoothed(volume, STEP_MM)
    head = resample(fine, grid, upright_to_scan)
    head = np.where(_without_specks(head, threshold), head, np.float32(0))
    seen = _in_view(volume, grid, upright_to_scan)
    found = [_from_side(head, seen, axis, forward, threshold) for axis, forward in _SIDES]
    index, normals = (np.concatenate(parts) for parts in zip(*found, strict=True))
    front = np.zeros(len(index), dtype=np.bool_)
    front[: len(found[0][0])] = True
    points = apply_affine(grid.affine, index)
    in_view = _in_view(volume, _upright_grid(CELL_MM), upright_to_scan, BORDER_MM)
    return _thinned(SkinPoints(points, normals, front, in_view))


_SIDES = ((1, False), (1, True), (0, False), (0, True), (2, False))
"""Axis of the rays, and whether they go along it: from the front, the back, both sides and the top."""


def _upright_grid(step_mm: float) -> Grid:
    low, high = np.array(LOW_MM), np.array(HIGH_MM)
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = low
    x, y, z = (round(n) + 1 for n in (high - low) / step_mm)
    return Grid((x, y, z), affine)


def _in_view(volume: Volume, grid: Grid, upright_to_scan: Affine, border_mm: float = 0.0) -> BoolVolume:
    """Which voxels of the grid are inside the field of view, and so far from its border."""
    matrix = invert(volume.affine) @ upright_to_scan @ grid.affine
    seen = np.ones(grid.shape, dtype=np.bool_)
    borders = border_mm / volume.grid.spacing_mm
    for row, count, border in zip(matrix[:3], volume.data.shape, borders, strict=True):
        x, y, z = (row[a] * np.arange(n) for a, n in enumerate(grid.shape))
        at = x[:, None, None] + y[:, None] + z + row[3]
        seen &= (at > border - 0.5) & (at < count - 0.5 - border)
    return seen


def _without_specks(data: FloatVolume, threshold: float) -> BoolVolume:
    """Where tissue is, and one voxel around it; small pieces in the air are noise."""
    labels, _ = ndimage.label(data >= threshold, np.ones((3, 3, 3)))
    large = np.bincount(labels.ravel()) * STEP_MM**3 / 1000 >= SPECK_ML
    large[0] = False
    return np.asarray(ndimage.binary_dilation(large[labels], np.ones((3, 3, 3))), dtype=np.bool_)


def _from_side(head: FloatVolume, seen: BoolVolume, axis: int, forward: bool, threshold: float) -> tuple[Points, Points]:
    """Where rays along an axis first meet tissue, in voxels of the grid, and the normals there; both shape (n, 3)."""
    turn = slice(None) if forward else slice(None, None, -1)
    values = np.moveaxis(head, axis, 2)[:, :, turn]
    view = np.moveaxis(seen, axis, 2)[:, :, turn]
    above = values >= threshold
    at, entered = above.argmax(axis=2), view.argmax(axis=2)
    hit = above.any(axis=2) & ((at - entered) * STEP_MM > BORDER_MM)
    i, j = np.nonzero(hit)
    k = at[i, j]
    here, before = values[i, j, k].astype(np.float64), values[i, j, k - 1].astype(np.float64)
    depth = k - 1 + (threshold - before) / np.maximum(here - before, 1e-9)
    if not forward:
        depth = head.shape[axis] - 1 - depth
    index = np.insert(np.column_stack([i, j]).astype(np.float64), axis, depth, axis=1)
    normals = _normals(head, np.rint(index).astype(np.intp))
    steep = np.abs(normals[:, axis]) > GRAZING
    return index[steep], normals[steep]


def _normals(head: FloatVolume, voxels: NDArray[np.intp]) -> Points:
    """Unit vectors out of the tissue, by differences of the neighbours, shape (n, 3)."""
    last = np.array(head.shape) - 1
    slope = np.empty(voxels.shape)
    for axis in range(3):
        step = np.eye(3, dtype=np.intp)[axis]
        before, behind = (tuple(np.clip(voxels + way * step, 0, last).T) for way in (-1, 1))
        slope[:, axis] = head[before].astype(np.float64) - head[behind]
    slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
    return slope


def _thinned(skin: SkinPoints) -> SkinPoints:
    """One point in each cube; those from the front come first, and stay."""
    _, first = np.unique(np.floor(skin.points / CELL_MM).astype(np.intp), axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(np.sort(first))
    return skin.where(order)
