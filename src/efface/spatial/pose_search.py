"""Search for the pose of a head: many starts, ranked by correlation, refined by the engine.

The search is a multi-start: rotation vectors on a lattice (so that any head up to about 90 degrees from the fixed one
has a start within its capture range), centres of the heads matched for each, ranked by correlation at 8 mm.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.spatial._greedy import run_greedy, to_sitk
from efface.spatial.affine import apply_affine
from efface.spatial.masks import largest_component, otsu_threshold
from efface.spatial.resampling import block_mean, resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Volume

LOCAL_COST, GLOBAL_COST = "NCC 2x2x2", "NMI"
LATTICE_DEG, SEARCH_DEG = 35.0, 95.0
HEAD_HEIGHT_MM = 170.0
"""From the top of the head down: what is compared to find the first centre (necks differ in length)."""

POSES, REFINED = 12, 5
"""How many poses are refined rigidly, and how many *different* ones of those with all degrees of freedom.

A head without a face can look more like the average head when it lies on its back than upright, as long as only
rotations are tried; so the best few would often be one wrong pose, found several times.
"""
IN_VIEW = 0.99
DARK = 0.1
"""Normalised intensity below which a voxel is air."""
MINIMUM_OVERLAP = 0.25
"""Share of the fixed object that must be in view: a correlation over less says nothing."""
DIFFERENT_MM = 20.0
"""Root mean square distance over the head between poses that count as different."""


def rms_distance_mm(a: Affine, b: Affine, points_mm: NDArray[np.float64]) -> float:
    """Root mean square distance between two affines over points, shape (n, 3), in mm."""
    difference = apply_affine(a - b, points_mm)
    return float(np.sqrt((difference**2).sum(axis=1).mean()))


@dataclass(frozen=True)
class ImagePair:
    """Fixed and moving image at one resolution, with normalised intensities, and the weight of the fixed voxels.

    Only places that both images show are compared: what is outside the moving image's field of view is unknown.
    """

    fixed: Volume
    moving: Volume
    weight: FloatVolume

    @classmethod
    def prepare(cls, fixed: Volume, moving: Volume, weight: BoolVolume | None, mm: float) -> "ImagePair":
        """Average both images to blocks of about `mm`, and normalise their intensities."""
        small = _normalised(block_mean(fixed, mm))
        whole = cls(small, _normalised(block_mean(moving, mm)), np.ones(small.data.shape, np.float32))
        return whole if weight is None else whole.weighted(fixed, weight, mm)

    def weighted(self, fixed: Volume, weight: BoolVolume, mm: float) -> "ImagePair":
        """The same images, with other voxels that count."""
        mean = block_mean(Volume(weight.astype(np.float32), fixed.affine), mm).data
        return replace(self, weight=(mean >= min(0.5, float(mean.max()))).astype(np.float32))

    def fit(self, initial: Affine, dof: int, iterations: str, cost: str = LOCAL_COST) -> Affine:
        """Optimise an affine of 6 or 12 degrees of freedom from an initial one."""
        images: dict[str, Any] = {
            "fixed": to_sitk(self.fixed),
            "moving": to_sitk(self.moving),
            "gate": to_sitk(Volume(self.weight, self.fixed.affine)),
            "view": to_sitk(self.view),
            "found": None,
        }
        command = (
            f"-i fixed moving -gm gate -mm view -a -dof {dof} -m {cost} -n {iterations} -ia {{matrix}} -o found "
            "-jitter 0 -noise 0 -threads 1"
        )
        return np.asarray(run_greedy(command, images, "found", initial), dtype=np.float64)

    @property
    def view(self) -> Volume:
        """The moving image's field of view: ones."""
        return Volume(np.ones(self.moving.data.shape, np.float32), self.moving.affine)

    def shown(self, matrix: Affine) -> FloatVolume:
        """Weight of the fixed voxels that are in the moving image's field of view."""
        return np.where(resample(self.view, self.fixed.grid, matrix) > IN_VIEW, self.weight, np.float32(0))

    def overlap(self, matrix: Affine) -> float:
        """Share of the fixed object, by weight, that is in the moving image's field of view."""
        object_weight = self.weight * (self.fixed.data > DARK)
        return float((self.shown(matrix) * (self.fixed.data > DARK)).sum() / max(float(object_weight.sum()), 1.0))

    def correlation(self, matrix: Affine) -> float:
        """Weighted correlation of the two images through an affine, where both have voxels; -1 where few have."""
        weight = self.shown(matrix)
        if self.overlap(matrix) < MINIMUM_OVERLAP:
            return -1.0
        moved = resample(self.moving, self.fixed.grid, matrix)
        weight = weight / weight.sum()
        a = self.fixed.data - float((self.fixed.data * weight).sum())
        b = moved - float((moved * weight).sum())
        spread = float(np.sqrt((weight * a * a).sum() * (weight * b * b).sum()))
        return float((weight * a * b).sum()) / spread if spread > 0 else 0.0


def _normalised(volume: Volume) -> Volume:
    low, high = np.percentile(volume.data, (1.0, 99.0))
    scaled = (volume.data - low) / max(float(high - low), 1e-6)
    return Volume(np.clip(scaled, 0.0, 1.2).astype(np.float32), volume.affine)


def initial_poses(pair: ImagePair) -> list[Affine]:
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
    return best_first(poses, pair)[:POSES]


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
    return apply_affine(volume.affine, np.argwhere(bright))


def _upper_centre(points: NDArray[np.float64], rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre of the points within `HEAD_HEIGHT_MM` of the top, where `rotation` says which way is up."""
    height = points @ rotation[:, 2]
    upper = points[height > np.percentile(height, 99.5) - HEAD_HEIGHT_MM]
    centre: NDArray[np.float64] = upper.mean(axis=0)
    return centre


def best_first(matrices: Sequence[Affine], pair: ImagePair) -> list[Affine]:
    """Order affines by correlation, the highest first."""
    return sorted(matrices, key=pair.correlation, reverse=True)


def fit_of_both(matrix: Affine, dof: int, whole: ImagePair, discriminating: ImagePair) -> float:
    """Correlation over the whole image, plus that over the discriminating voxels after fitting them."""
    return whole.correlation(matrix) + discriminating.correlation(discriminating.fit(matrix, dof, "30"))


def different(matrices: Sequence[Affine], pair: ImagePair) -> list[Affine]:
    """Drop every pose that nearly repeats an earlier one."""
    points = _head_points(pair.fixed)[::20]
    kept: list[Affine] = []
    for matrix in matrices:
        if all(rms_distance_mm(matrix, other, points) > DIFFERENT_MM for other in kept):
            kept.append(matrix)
    return kept
