"""How well a few points fit on each of many face maps after the best rigid move: all maps at once.

As `efface.privacy.closest_fit`, trimmed, robust, point to plane; the neighbour of a point is what its ray meets.

References
----------
Blais, Levine. "Registering multiview range data to create 3D computer objects." IEEE PAMI 17 (1995), 820-824.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.privacy.closest_fit import FURTHEST_MM, KEPT, ROBUST_MM
from efface.privacy.face_map import CENTRE_MM, LOW_DEG, SHAPE, SIDE_DEG, STEP_DEG, Map, normals_of, points_of

Planes = NDArray[np.float32]
"""Normal and offset of the plane that each ray meets, shape (maps, rays, 4)."""

COARSE_POINTS, COARSE_STEPS = 120, 8
FINE_POINTS, FINE_STEPS = 360, 3
AT_ONCE = 20
STIFF = 1e-3
"""A flat or round surface leaves directions free: so much of the identity keeps it where it is."""


@dataclass(frozen=True, eq=False)
class MapSurfaces:
    """Many surfaces to fit on.

    Attributes
    ----------
    planes
        Of each surface.
    """

    planes: Planes

    @classmethod
    def of(cls, radii: Map) -> "MapSurfaces":
        """Prepare maps without holes, shape (n, *SHAPE)."""
        planes = np.empty((len(radii), SHAPE[0] * SHAPE[1], 4), dtype=np.float32)
        for first in range(0, len(radii), AT_ONCE):  # as much as fits in a processor's memory
            some = radii[first : first + AT_ONCE]
            normals, points = normals_of(some), points_of(some)
            here = planes[first : first + AT_ONCE].reshape(*some.shape, 4)
            here[..., :3] = normals
            here[..., 3] = (normals * points).sum(axis=-1)
        return cls(planes)

    def __len__(self) -> int:
        return len(self.planes)


def misfits_mm(points: NDArray[np.float64], surfaces: MapSurfaces) -> NDArray[np.float64]:
    """Mean distance of points from each surface after the best rigid move, mm, shape (n,).

    Parameters
    ----------
    points
        Upright mm, in about the pose of the surfaces, shape (m, 3), in random order: the first ones stand for all.
    surfaces
        Where they are fitted.

    Returns
    -------
    numpy.ndarray
        Mean over the `KEPT` points that are nearest, each at most `FURTHEST_MM`.
    """
    whole = np.asarray(points, dtype=np.float32)
    turn, shift = best_moves(whole, surfaces)
    residual, _ = _residuals(whole[:FINE_POINTS] @ turn.transpose(0, 2, 1) + shift, surfaces)
    far = np.minimum(np.abs(residual), FURTHEST_MM)
    kept = _kept(far.shape[1])
    return np.asarray(np.partition(far, kept - 1, axis=1)[:, :kept].mean(axis=1), dtype=np.float64)


def best_moves(points: NDArray[np.float32], surfaces: MapSurfaces) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rigid moves that bring points nearest to each surface: rotations (n, 3, 3), shifts (n, 1, 3), mm."""
    turn = np.tile(np.eye(3, dtype=np.float32), (len(surfaces), 1, 1))
    shift = np.zeros((len(surfaces), 1, 3), dtype=np.float32)
    for most, steps in ((COARSE_POINTS, COARSE_STEPS), (FINE_POINTS, FINE_STEPS)):
        some = points[:most]
        for _ in range(steps):
            moved = some @ turn.transpose(0, 2, 1) + shift
            step_turn, step_shift = _step(moved, *_residuals(moved, surfaces))
            turn, shift = step_turn @ turn, shift @ step_turn.transpose(0, 2, 1) + step_shift
    return turn, shift


def _kept(count: int) -> int:
    return max(6, int(np.ceil(KEPT * count)))


def rays_of(points: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which ray of a map is nearest to each point, shape (...,); the outermost ones for points beyond."""
    x, y, z = np.moveaxis(points - np.array(CENTRE_MM, dtype=np.float32), -1, 0)
    side = np.rint((np.rad2deg(np.arctan2(x, y)) + SIDE_DEG) / STEP_DEG)
    high = np.rint((np.rad2deg(np.arctan2(z, np.hypot(x, y))) - LOW_DEG) / STEP_DEG)
    rows, columns = np.clip(side, 0, SHAPE[0] - 1), np.clip(high, 0, SHAPE[1] - 1)
    return np.asarray(rows * SHAPE[1] + columns, dtype=np.intp)


def _residuals(moved: NDArray[np.float32], surfaces: MapSurfaces) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance of each point from the plane that its ray meets, shape (n, m), and that plane's normal, (n, m, 3)."""
    planes = np.take_along_axis(surfaces.planes, rays_of(moved)[..., None], axis=1)
    normals = planes[..., :3]
    return (moved * normals).sum(axis=-1) - planes[..., 3], normals


def _step(
    moved: NDArray[np.float32], residual: NDArray[np.float32], normals: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The small rotations and shifts that bring points nearest to the planes, with the weights of Cauchy's estimator."""
    kept = _kept(residual.shape[1])
    far = np.abs(residual)
    weight = (far <= np.partition(far, kept - 1, axis=1)[:, kept - 1 : kept]) / (1 + (residual / ROBUST_MM) ** 2)
    centre = moved.mean(axis=1, keepdims=True)
    system = np.concatenate([np.cross(moved - centre, normals), normals], axis=-1)
    weighted = (system * weight[..., None]).transpose(0, 2, 1)
    matrix = weighted @ system + STIFF * moved.shape[1] * np.eye(6, dtype=np.float32)
    answer = np.linalg.solve(matrix.astype(np.float64), -(weighted @ residual[..., None]).astype(np.float64))[..., 0]
    turn = _rotations(answer[:, :3])
    shift = centre + answer[:, None, 3:] - centre @ turn.transpose(0, 2, 1)
    return turn.astype(np.float32), shift.astype(np.float32)


def _rotations(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vectors).as_matrix(), dtype=np.float64)
