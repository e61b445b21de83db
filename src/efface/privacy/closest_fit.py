"""How well one surface fits on another after the best rigid move: trimmed, robust, point to plane.

References
----------
Chen, Medioni. "Object modelling by registration of multiple range images." Image and Vision Computing 10 (1992),
145-155 (point to plane).
Chetverikov, Stepanov, Krsek. "Robust Euclidean alignment of 3D point sets: the trimmed iterative closest point
algorithm." Image and Vision Computing 23 (2005), 299-309.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from efface.privacy.skin_points import CELLS, Points, SkinPoints, cells_of
from efface.spatial.types import BoolVolume

KEPT = 0.85
"""Share of the points that count: those nearest to the other surface."""
ROBUST_MM = 2.0
"""Residual from which a point counts for less."""
FURTHEST_MM = 6.0
"""A residual counts as at most this: how far away a cut surface is says nothing."""
LEAST_SHOWN = 0.5
"""Share of the points that a target's field of view must show: a fit of a smaller part says nothing of a person."""
COARSE_POINTS, COARSE_STEPS = 600, 20
FINE_POINTS, FINE_STEPS = 2500, 10
STILL_MM = 0.01
"""No point moves by more in a step: the fit has ended."""
LARGEST_MOVE_MM, LARGEST_TURN_DEG = 25.0, 20.0
"""Poses are known to a few mm and degrees; a fit that is further away than this is none."""


@dataclass(frozen=True, eq=False)
class Target:
    """A surface to fit on.

    Attributes
    ----------
    points, normals
        Shape (n, 3), mm and unit vectors.
    tree
        Of the points.
    nearest
        For each cell of `CELL_MM` of what `efface.privacy.skin_points` looks at, a point about nearest to it: all steps
        but the last look points up here, a hundred times faster than in the tree.
    in_view
        Which cells the scan shows; points that come to lie in others do not count.
    """

    points: Points
    normals: Points
    tree: cKDTree
    nearest: NDArray[np.int32]
    in_view: BoolVolume

    @classmethod
    def of(cls, skin: SkinPoints) -> "Target":
        """Prepare a surface."""
        cells = np.full(CELLS, -1, dtype=np.int32)
        cells[tuple(cells_of(skin.points).T)] = np.arange(len(skin), dtype=np.int32)
        _, filled = ndimage.distance_transform_edt(cells < 0, return_indices=True)
        return cls(skin.points, skin.normals, cKDTree(skin.points), cells[tuple(filled)], skin.in_view)

    def near(self, points: Points) -> NDArray[np.int32]:
        """About the nearest point of the surface for each of these, shape (n,)."""
        return np.asarray(self.nearest[tuple(cells_of(points).T)])

    def shows(self, points: Points) -> NDArray[np.bool_]:
        """Which of these the target's scan shows, skin or not, shape (n,)."""
        return np.asarray(self.in_view[tuple(cells_of(points).T)])


def misfit_mm(points: Points, target: Target) -> float:
    """Mean distance of points from a surface after the best rigid move, mm.

    Parameters
    ----------
    points
        In about the pose of `target`, shape (n, 3), in random order: the first ones stand for all.
    target
        Where they are fitted.

    Returns
    -------
    float
        Mean over the `KEPT` points that are nearest, each at most `FURTHEST_MM`; of those that the target's field of
        view shows, and `FURTHEST_MM` if it shows less than `LEAST_SHOWN` of them.
    """
    turn, shift = np.eye(3), np.zeros(3)
    for count, steps in ((COARSE_POINTS, COARSE_STEPS), (FINE_POINTS, FINE_STEPS)):
        some = points[:count]
        for _ in range(steps):
            moved = some @ turn.T + shift
            shown = np.flatnonzero(target.shows(moved))
            if len(shown) < LEAST_SHOWN * len(moved):
                break
            nearest = target.near(moved)
            kept = shown[_nearest(np.linalg.norm(moved[shown] - target.points[nearest[shown]], axis=1))]
            step_turn, step_shift = _step(moved[kept], target.points[nearest[kept]], target.normals[nearest[kept]])
            new_turn, new_shift = step_turn @ turn, step_turn @ shift + step_shift
            if _is_far(new_turn, new_shift, some):
                break
            went = np.abs(some @ (new_turn - turn).T + new_shift - shift).max()
            turn, shift = new_turn, new_shift
            if went < STILL_MM:
                break
    return _misfit(points[:FINE_POINTS] @ turn.T + shift, target)


def _misfit(points: Points, target: Target) -> float:
    """Mean residual where the points are, with their exact neighbours."""
    shown = points[target.shows(points)]
    if len(shown) < LEAST_SHOWN * len(points):
        return FURTHEST_MM
    return _residual_where_shown(shown, target)


def _residual_where_shown(points: Points, target: Target) -> float:
    distance, nearest = target.tree.query(points, distance_upper_bound=2 * FURTHEST_MM)
    kept = _nearest(distance)
    near = kept[np.isfinite(distance[kept])]
    residual = np.full(len(kept), FURTHEST_MM)
    found = np.abs(_residuals(points[near], target.points[nearest[near]], target.normals[nearest[near]]))
    residual[: len(near)] = np.minimum(found, FURTHEST_MM)
    return float(residual.mean())


def _nearest(distance: NDArray[np.float64]) -> NDArray[np.intp]:
    count = max(6, int(np.ceil(KEPT * len(distance))))
    return np.argpartition(distance, count - 1)[:count]


def _residuals(points: Points, near: Points, normals: Points) -> NDArray[np.float64]:
    return np.asarray(((points - near) * normals).sum(axis=1))


def _step(points: Points, near: Points, normals: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The small rotation and shift that bring points nearest to the planes, with the weights of Cauchy's estimator."""
    residual = _residuals(points, near, normals)
    weight = 1 / (1 + (residual / ROBUST_MM) ** 2)
    centre = points.mean(axis=0)
    system = np.column_stack([np.cross(points - centre, normals), normals])
    weighted = system * weight[:, None]
    # A flat or round surface leaves directions free: a little of the identity keeps it where it is.
    normal_matrix = weighted.T @ system + 1e-3 * len(points) * np.eye(6)
    answer = np.linalg.solve(normal_matrix, -weighted.T @ residual)
    turn = Rotation.from_rotvec(answer[:3]).as_matrix()
    return turn, centre + answer[3:] - turn @ centre


def _is_far(turn: NDArray[np.float64], shift: NDArray[np.float64], points: Points) -> bool:
    centre = points.mean(axis=0)
    moved = np.linalg.norm(turn @ centre + shift - centre)
    angle = np.rad2deg(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return bool(moved > LARGEST_MOVE_MM or angle > LARGEST_TURN_DEG)
