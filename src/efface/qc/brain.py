"""Failure II: brain that was edited, beyond what a brain mask can be wrong by at its edge."""

import functools

import numpy as np
from scipy import ndimage

from efface.anatomy import Anatomy
from efface.arrays import BoolVolume, FloatVolume
from efface.masks import largest_component
from efface.qc.pair import REAL_CHANGE
from efface.qc.verdict import BrainEvidence, Point

EDGE_MM = 1.0
"""How far inside its edge a brain mask may hold no brain: not counted; of thick voxels at least the outermost layer."""
LAYER = 0.6
"""Of a voxel: deeper than the centres of the outermost layer, less deep than those of the next."""
TOLERANCE_ML = 0.2
"""Volume of changed voxels below the edge from which the brain is damaged."""
PIECE_ML = 0.05
"""Smaller pieces of changed voxels are noise."""


def brain_evidence(anatomy: Anatomy, after: FloatVolume, level: float) -> BrainEvidence:
    """Look for edits in the brain.

    Parameters
    ----------
    anatomy
        Of the original; its brain mask is used.
    after
        The defaced scan on the original's grid, in its intensities.
    level
        Median intensity of the original's brain.
    """
    scan, brain = anatomy.scan, anatomy.brain
    at = _box(brain)
    inside, change = brain[at], np.abs(after[at] - scan.data[at])
    edited = inside & (change > 0)
    really = inside & (change > REAL_CHANGE * level)
    ml = float(np.prod(scan.spacing_mm)) / 1000
    if not really.any():
        count = int(edited.sum())
        return BrainEvidence(False, 0.0, 0.0, 0, count * ml, count, 0.0, "", None, None)
    depth = _depth_mm(anatomy)
    damaged = _pieces(np.asarray(really & (depth > max(EDGE_MM, LAYER * float(scan.spacing_mm.max())))), ml)
    volume_ml = float(damaged.sum()) * ml
    where, centre, box = "", None, None
    if damaged.any():
        index = np.argwhere(largest_component(np.asarray(damaged))) + [s.start for s in at]
        mm = index @ scan.affine[:3, :3].T + scan.affine[:3, 3]
        centre, box = _point(mm.mean(axis=0)), (_point(mm.min(axis=0)), _point(mm.max(axis=0)))
        where = _words(anatomy, mm.mean(axis=0))
    return BrainEvidence(
        volume_ml >= TOLERANCE_ML,
        volume_ml / (volume_ml + TOLERANCE_ML),
        volume_ml,
        int(damaged.sum()),
        float(edited.sum()) * ml,
        int(edited.sum()),
        float(depth[really].max()),
        where,
        centre,
        box,
    )


def _pieces(mask: BoolVolume, voxel_ml: float) -> BoolVolume:
    """Connected pieces of at least `PIECE_ML`."""
    labels, count = ndimage.label(mask)
    large = np.bincount(labels.ravel(), minlength=count + 1) * voxel_ml >= PIECE_ML
    large[0] = False
    return np.asarray(large[labels], dtype=np.bool_)


@functools.lru_cache(maxsize=1)
def _depth_mm(anatomy: Anatomy) -> FloatVolume:
    """How deep in the brain mask each voxel of its box is; from the face of the edge's voxels, not the next centre."""
    spacing = anatomy.scan.spacing_mm
    inside = np.pad(anatomy.brain[_box(anatomy.brain)], 1)
    depth = ndimage.distance_transform_edt(inside, sampling=spacing)[1:-1, 1:-1, 1:-1] - spacing.min() / 2
    return np.asarray(depth, dtype=np.float32)


def _box(mask: BoolVolume) -> tuple[slice, ...]:
    return tuple(ndimage.find_objects(mask.astype(np.uint8))[0])


def _point(mm: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Point:
    x, y, z = (round(float(value), 1) for value in mm)
    return x, y, z


def _words(anatomy: Anatomy, centre_mm: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> str:
    """Part of the brain around a point, by where it is in the brain's box, in the average head's directions."""
    back = np.linalg.inv(anatomy.from_average)
    sample = np.argwhere(anatomy.brain)[::17] @ anatomy.scan.affine[:3, :3].T + anatomy.scan.affine[:3, 3]
    upright = sample @ back[:3, :3].T + back[:3, 3]
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y, z = (back[:3, :3] @ centre_mm + back[:3, 3] - low) / (high - low)
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
