"""What `efface.defacing.reshape` refuses: faces that are cut, or gone already, and fits that leave the person's face."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.reshape_target import Shapes, core
from efface.errors import AnatomyError, RegistrationError
from efface.spatial.affine import apply_affine, invert
from efface.spatial.shape_registration import gradient, volume_ratio
from efface.spatial.types import Displacement, FloatVolume

AROUND_MM = 4.0
"""So much air in front of the face must be in view, too."""
MOST_CUT = 0.02
"""Share of the skin of the face that may lie outside the field of view."""
HOLE_MM, MOST_HOLE = 12.0, 0.03
"""A face lies nowhere so far behind the average one; and share of it that may."""
MOST_OFF_MM = 1.5
"""Largest 95th percentile of what the new face is off from the average one: 0.2 to 0.7 mm on the development heads."""
ADVICE = "take --method pydeface"


def refuse_unsafe(anatomy: HeadAnatomy, shapes: Shapes) -> None:
    """Refuse a scan whose face cannot be reshaped: it ends at the border of the image, or is not there.

    Raises
    ------
    AnatomyError
        In one line, with the method to take instead.
    """
    skin = np.argwhere((np.abs(shapes.own) < _half(shapes)) & core())
    beyond = apply_affine(shapes.grid.affine, skin) + AROUND_MM * _outward(shapes.own, skin)
    index = apply_affine(invert(anatomy.scan.affine) @ shapes.to_scan, beyond)
    cut = ((index < -0.5) | (index > np.array(anatomy.scan.shape) - 0.5)).any(axis=1)
    if not len(skin) or cut.mean() > MOST_CUT:
        share = float(cut.mean()) if len(skin) else 1.0
        msg = f"{share:.0%} of the face lies at the border of the image; expected at most {MOST_CUT:.0%} for reshape: "
        raise AnatomyError(msg + ADVICE)
    behind = shapes.own[(np.abs(shapes.average) < _half(shapes)) & core()] < -HOLE_MM
    if behind.mean() > MOST_HOLE:
        msg = (
            f"{behind.mean():.0%} of the face lies more than {HOLE_MM:.0f} mm behind an average one; expected at most "
            f"{MOST_HOLE:.0%} for reshape: it was defaced before, or a part of it gives no signal; {ADVICE}"
        )
        raise AnatomyError(msg)


def refuse_misfit(shapes: Shapes, displacement: Displacement) -> None:
    """Refuse a displacement that folds, or leaves the face away from where it should be.

    Raises
    ------
    RegistrationError
        In one line, with the method to take instead.
    """
    mm = float(shapes.grid.spacing_mm[0])
    least = float(volume_ratio(displacement, mm).min())
    if least <= 0:
        msg = f"the displacement of the face folds (volume ratio {least:.2f}; expected more than 0): {ADVICE}"
        raise RegistrationError(msg)
    off = np.abs(left_over(shapes, displacement))
    worst = float(np.percentile(off, 95)) if off.size else np.inf
    if worst > MOST_OFF_MM:
        msg = (
            f"the reshaped face would be {worst:.1f} mm off the average one in 5% of its skin; expected at most "
            f"{MOST_OFF_MM} mm: {ADVICE}"
        )
        raise RegistrationError(msg)


def left_over(shapes: Shapes, displacement: Displacement) -> NDArray[np.float32]:
    """How far the reshaped skin is off the wanted one, at points of the face, mm, shape (n,)."""
    at = np.argwhere((np.abs(shapes.wanted) < _half(shapes)) & core())
    where = at + displacement[tuple(at.T)] / shapes.grid.spacing_mm
    found = ndimage.map_coordinates(shapes.own, where.T, order=1, mode="nearest")
    return np.asarray(found - shapes.wanted[tuple(at.T)], dtype=np.float32)


def _half(shapes: Shapes) -> float:
    return float(shapes.grid.spacing_mm[0]) / 2


def _outward(signed: FloatVolume, at: NDArray[np.intp]) -> NDArray[np.float64]:
    """Unit vectors out of a shape at voxels, shape (n, 3)."""
    slopes = gradient(signed, 1.0)[:, *at.T].T
    return np.asarray(-slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-3))
