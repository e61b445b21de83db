"""Failure II: edited brain, beyond the uncertain edge of the brain mask."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.quality.grid_matching import REAL_CHANGE
from efface.quality.verdict import BrainEvidence, Point
from efface.spatial.affine import apply_affine, invert
from efface.spatial.masks import box_of, connected_pieces, distance_mm, largest_component
from efface.spatial.types import BoolVolume, FloatVolume

EDGE_MM = 1.0
"""How far inside its edge a brain mask may hold no brain: not counted; of thick voxels at least the outermost layer."""
LAYER = 0.6
"""Of a voxel: deeper than the centres of the outermost layer, less deep than those of the next."""
TOLERANCE_ML = 0.2
"""Volume of changed voxels below the edge from which the brain is damaged."""
PIECE_ML = 0.05
"""Smaller pieces of changed voxels are noise."""
FEW = 10_000
"""Up to so many changed voxels, asking for each one's depth takes less time than finding that of all of the brain's."""


@dataclass(frozen=True, eq=False)
class BrainReference:
    """The brain of the undefaced scan; what is derived from it is computed once for all defaced scans.

    Attributes
    ----------
    anatomy
        Of the undefaced scan; its brain mask is used, and with it the brain that the mask misses: what defaced and what
        judges may share one mask, and then a hole in it would hide the damage.
    """

    anatomy: HeadAnatomy

    @functools.cached_property
    def brain(self) -> BoolVolume:
        """The brain mask, with what it misses."""
        return np.asarray(self.anatomy.brain | self.anatomy.missed_brain)

    def depth_mm(self, chosen: BoolVolume) -> NDArray[np.float32]:
        """How deep in the brain mask chosen voxels of its box are, shape (n,); from the face of the edge's voxels."""
        spacing = self.anatomy.scan.spacing_mm
        if chosen.sum() > FEW:
            depth = self._all_depths_mm[chosen]
        else:
            depth, _ = self._around.query(np.argwhere(chosen) * spacing)
        return np.asarray(depth - spacing.min() / 2, dtype=np.float32)

    @functools.cached_property
    def _padded(self) -> BoolVolume:
        return np.pad(self.brain[box_of(self.brain)], 1)

    @functools.cached_property
    def _all_depths_mm(self) -> FloatVolume:
        """Distance of each voxel of the brain's box from the nearest voxel outside the brain."""
        depth = distance_mm(self._padded, self.anatomy.scan.spacing_mm)
        return np.asarray(depth[1:-1, 1:-1, 1:-1])

    @functools.cached_property
    def _around(self) -> cKDTree:
        """Voxels that touch the brain from outside, mm: the nearest one of any voxel inside is among them."""
        outside = ndimage.binary_dilation(self._padded) & ~self._padded
        return cKDTree((np.argwhere(outside) - 1) * self.anatomy.scan.spacing_mm)


def brain_evidence(reference: BrainReference, after: FloatVolume, level: float, tolerance: float) -> BrainEvidence:
    """Look for edits in the brain.

    Parameters
    ----------
    reference
        The brain of the undefaced scan.
    after
        The defaced scan on the original's grid, in its intensities above its air.
    level
        Median intensity of the original's brain above its air.
    tolerance
        Largest difference that storing again explains; what differs by no more is not edited.
    """
    anatomy = reference.anatomy
    scan, brain = anatomy.scan, reference.brain
    at = box_of(brain)
    inside, change = brain[at], np.abs(after[at] - anatomy.signal[at])
    edited = inside & (change > tolerance)
    really = inside & (change > REAL_CHANGE * level)
    ml = float(np.prod(scan.spacing_mm)) / 1000
    if not really.any():
        count = int(edited.sum())
        return BrainEvidence(False, 0.0, 0.0, 0, count * ml, count, 0.0, "", None, None)
    depth = reference.depth_mm(really)
    deep = np.zeros_like(really)
    deep[really] = depth > max(EDGE_MM, LAYER * float(scan.spacing_mm.max()))
    damaged = _pieces(deep, ml)
    volume_ml = float(damaged.sum()) * ml
    where, centre, box = "", None, None
    if damaged.any():
        index = np.argwhere(largest_component(np.asarray(damaged))) + [s.start for s in at]
        mm = apply_affine(scan.affine, index)
        centre, box = _point(mm.mean(axis=0)), (_point(mm.min(axis=0)), _point(mm.max(axis=0)))
        where = _words(anatomy, mm.mean(axis=0))
    return BrainEvidence(
        volume_ml >= TOLERANCE_ML,
        volume_ml / (volume_ml + TOLERANCE_ML),
        volume_ml,
        int(damaged.sum()),
        float(edited.sum()) * ml,
        int(edited.sum()),
        float(depth.max()),
        where,
        centre,
        box,
    )


def _pieces(mask: BoolVolume, voxel_ml: float) -> BoolVolume:
    """Connected pieces of at least `PIECE_ML`."""
    labels, sizes = connected_pieces(mask)
    return np.asarray((sizes * voxel_ml >= PIECE_ML)[labels], dtype=np.bool_)


def _point(mm: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Point:
    x, y, z = (round(float(value), 1) for value in mm)
    return x, y, z


def _words(anatomy: HeadAnatomy, centre_mm: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> str:
    """Part of the brain around a point, by where it is in the brain's box, in the average head's directions."""
    back = invert(anatomy.average_to_scan)
    upright = apply_affine(back, apply_affine(anatomy.scan.affine, np.argwhere(anatomy.brain)[::17]))
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y, z = (apply_affine(back, centre_mm) - low) / (high - low)
    side = "left" if x < 0.45 else "right" if x > 0.55 else "midline"
    if z < 0.35 and y < 0.5:
        part = "cerebellum and brain stem"
    elif y > 0.72:
        part = "frontal lobe"
    elif z < 0.45:
        part = "temporal lobe"
    elif y < 0.25:
        part = "occipital lobe"
    else:
        part = "middle and top"
    return f"{part}, {side}"
