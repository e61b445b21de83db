"""Facial landmarks in a scan: eyes, nose, ears and mouth, found by a network, and their voxels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import Delaunay

from efface.anatomy.templates import FEATURE_LABELS
from efface.anatomy.upright import is_turned, rotation_of, upright_grid
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import box_corners
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, Grid, Volume

if TYPE_CHECKING:
    from efface.anatomy.landmark_network import LandmarkNet

EXPECTED: Mapping[str, int] = MappingProxyType({"eyes": 2, "nose": 1, "ears": 2, "mouth": 1})
"""How many of each a whole head has."""
SMALLEST_SHARE = 0.3
"""Components smaller than this share of the feature's largest are dropped."""
LEAST_VOXELS = 4
GAP_VOXELS = 4
"""A nose or a mouth in pieces that lie this near is one: metal in the teeth makes a hole in the middle of a mouth."""
HOLE_VOXELS = 10
"""A mouth on either side of a hole no wider than a mouth is one, and the hole is part of it."""
AIR_PERCENTILE = 1.0
FOREGROUND = 0.5
"""Probability of being any feature from which a voxel is one."""


@dataclass(frozen=True, eq=False)
class FacialLandmark:
    """One connected landmark, for example one eye.

    Attributes
    ----------
    name
        A key of `EXPECTED`.
    centre_mm
        Centre of mass, RAS+ mm, shape (3,).
    volume_ml
        Its volume on the network's grid.
    lead
        By how much the feature's probability leads all others', around the feature; negative outside.
    """

    name: str
    centre_mm: NDArray[np.float64]
    volume_ml: float
    lead: Volume

    def box(self, grid: Grid, grow: float = 1.0) -> tuple[slice, slice, slice]:
        """Voxels of a grid that bound the feature, the box made `grow` times as large around its centre."""
        inside = np.argwhere(self.lead.data > 0)
        half = 0.5
        low, high = inside.min(axis=0) - half, inside.max(axis=0) + half
        moved = apply_affine(invert(grid.affine) @ self.lead.affine, box_corners(low, high))
        middle = (moved.max(axis=0) + moved.min(axis=0)) / 2
        reach = (moved.max(axis=0) - moved.min(axis=0)) / 2 * grow
        tolerance = 1e-3  # rounding errors of an affine must not move a border
        first = np.clip(np.ceil(middle - reach - tolerance), 0, grid.shape).astype(int)
        last = np.clip(np.floor(middle + reach + tolerance) + 1, first, grid.shape).astype(int)
        x, y, z = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return x, y, z

    def voxels(self, grid: Grid) -> tuple[tuple[slice, slice, slice], BoolVolume]:
        """The feature on a grid: a box around it, and the voxels inside that box."""
        at = self.box(grid, 1.5)
        inside = grid.cropped(at)
        if 0 in inside.shape:
            return at, np.zeros(inside.shape, dtype=np.bool_)
        return at, np.asarray(resample(self.lead, inside, fill=-1.0) > 0)


def find_landmarks(volume: Volume, network: "LandmarkNet | None" = None) -> tuple[FacialLandmark, ...]:
    """Find the facial landmarks of a head, RAS+; `network` defaults to the one shipped with efface."""
    from efface.anatomy.landmark_network import feature_probabilities  # torch is loaded only where it is needed

    probabilities, grid = feature_probabilities(volume, network)
    features = probabilities[1:]
    present = features.sum(axis=0) - FOREGROUND
    found: list[FacialLandmark] = []
    for name, number in FEATURE_LABELS.items():
        others = np.delete(features, number - 1, axis=0).max(axis=0)
        lead = np.minimum(features[number - 1] - others, present)
        found += _components(name, lead > 0, lead, grid)
    return tuple(found)


def upright_landmarks(volume: Volume, average_to_scan: Affine) -> tuple[FacialLandmark, ...]:
    """Find the facial landmarks of a head in any pose: the network knows heads that are about upright.

    Parameters
    ----------
    volume
        A head, RAS+.
    average_to_scan
        Its pose, average head mm to scan mm.
    """
    if not is_turned(average_to_scan, volume.affine):
        return find_landmarks(volume)
    turn = rotation_of(average_to_scan)
    upright = upright_grid(volume, turn)
    air = float(np.percentile(volume.data, AIR_PERCENTILE))
    found = find_landmarks(Volume(resample(volume, upright, turn, fill=air), upright.affine))
    return tuple(
        replace(
            landmark,
            centre_mm=apply_affine(turn, landmark.centre_mm),
            lead=Volume(landmark.lead.data, turn @ landmark.lead.affine),
        )
        for landmark in found
    )


def missing(features: Iterable[FacialLandmark]) -> dict[str, int]:
    """Landmarks found too rarely or too often: name to number found."""
    names = [feature.name for feature in features]
    return {name: names.count(name) for name, number in EXPECTED.items() if names.count(name) != number}


def _components(name: str, mask: NDArray[np.bool_], lead: NDArray[np.float32], grid: Grid) -> list[FacialLandmark]:
    labels, count = _parts(mask, GAP_VOXELS) if EXPECTED[name] == 1 else ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = np.flatnonzero(sizes >= max(LEAST_VOXELS, SMALLEST_SHARE * sizes.max()))
    if name == "mouth" and len(large) > 1:
        labels, count = _whole(labels, large)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        large = np.arange(1, count + 1)
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000
    found = []
    for index in large[np.argsort(-sizes[large], kind="stable")]:
        part = labels == index
        centre = grid.affine[:3, :3] @ np.argwhere(part).mean(axis=0) + grid.affine[:3, 3]
        # Its own neighbourhood only, so that a dropped or another component cannot come in.
        others = (labels > 0) & ~part
        near = ndimage.binary_dilation(part, iterations=2) & ~others
        field = np.where(near, np.where(part, np.maximum(lead, 1e-3), np.minimum(lead, -1e-3)), -1.0)
        found.append(
            FacialLandmark(name, centre, float(sizes[index]) * voxel_ml, Volume(field.astype(np.float32), grid.affine))
        )
    return found


def _parts(mask: NDArray[np.bool_], gap: int) -> tuple[NDArray[np.int32], int]:
    """Connected components, those with at most `gap` voxels between them taken as one."""
    joined, count = ndimage.label(ndimage.binary_dilation(mask, iterations=gap // 2))
    return np.where(mask, joined, 0), count


def _whole(labels: NDArray[np.int32], large: NDArray[np.int_]) -> tuple[NDArray[np.int32], int]:
    """The large components of a mouth: those on the two sides of a hole are one, with all that is between them."""
    joined, count = _parts(np.isin(labels, large), HOLE_VOXELS)
    for index in range(1, count + 1):
        part = joined == index
        if len(np.unique(labels[part])) > 1:
            joined[_hull(part) & (joined == 0)] = index
    return joined, count


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels whose centre lies in the convex hull of a mask's voxels."""
    at = np.argwhere(mask)
    corners = (at[:, None] + np.array(list(np.ndindex(2, 2, 2))) - 0.5).reshape(-1, 3)
    inside = Delaunay(np.unique(corners, axis=0)).find_simplex(np.argwhere(np.ones_like(mask))) >= 0
    return np.asarray(inside.reshape(mask.shape))
