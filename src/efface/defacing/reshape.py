"""reshape: give everybody the same, average face by a smooth displacement, and take what is inside along.

A method of our own. The skin of face and ears moves to the average one's; tongue, jaw, airway, sinuses and orbits move
with it, the less the deeper they are. Then the outermost millimetres of the face are made new. Near the brain nothing
moves.
"""

from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.method import DefacingMethod
from efface.defacing.reshape_checks import refuse_misfit, refuse_unsafe
from efface.defacing.reshape_skin import drawn_air, renewed
from efface.defacing.reshape_target import Shapes, find_shapes
from efface.defacing.reshape_tissue import free, held
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import covering_box
from efface.spatial.kept_volumes import keep_volumes
from efface.spatial.shape_registration import register_shapes, unfolded
from efface.spatial.types import BoolVolume, Displacement, FloatVolume

TAPER_MM = 8.0
"""From the margin around the brain, displacements grow to their full size over this distance."""
SIGMAS_MM = (6.0,) * 8 + (4.0,) * 6 + (3.0,) * 4 + (2.0,) * 3
"""Gaussians of the steps of the registration: stiff first. Wider ones move, and so resize, more of tongue and airway."""
STILL_MM = 0.01
"""Less than this is no displacement."""
OUTSIDE_MM = 1.5
"""So far outside of the new skin, what is as bright as tissue becomes air."""


@dataclass(frozen=True)
class Params:
    """Parameters of reshape.

    Attributes
    ----------
    strength
        How far the face goes to the average one.
    margin_mm
        Nothing within this distance of the brain moves.
    """

    strength: float = field(
        default=1.0,
        metadata={
            "help": "how far the face goes: 0 stays, 1 to the average face; share no scan below 1",
            "minimum": 0.0,
            "maximum": 1.0,
        },
    )
    margin_mm: float = field(
        default=3.0,
        metadata={
            "help": "distance to the brain within which nothing moves",
            "unit": "mm",
            "minimum": 0.0,
            "maximum": 20.0,
        },
    )


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide where the voxels of face and ears come from.

    Parameters
    ----------
    anatomy
        Of the scan; brain mask and registration to the average head are used.
    params
        See `Params`.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan, or the face cannot be moved to the average one.
    AnatomyError
        If the face is cut by the border of the image, or was removed before.
    """
    shapes = find_shapes(anatomy, params.strength, (params.margin_mm, params.margin_mm + TAPER_MM))
    refuse_unsafe(anatomy, shapes)
    if params.strength == 0:
        return _unchanged(anatomy, params)
    displacement = fitted(shapes)
    refuse_misfit(shapes, displacement)
    after = anatomy.scan.data.copy()
    moved, values = pulled_back(anatomy, shapes, displacement, params.margin_mm)
    after[moved] = values
    skin, values = renewed(anatomy, shapes, after, params.margin_mm)
    after[skin] = values
    mask = moved | skin
    said = f"the strength is {params.strength:g}: a part of the person's face is left; only 1 is for sharing"
    leaves = params.strength < 1
    warnings = (said,) if leaves else ()
    return Edit(mask, after[mask], "reshape", params=asdict(params), warnings=warnings, leaves_face=leaves)


def fitted(shapes: Shapes) -> Displacement:
    """The displacement by which the scan is pulled back, from the wanted skin to the person's; frame axes, mm."""
    mm = float(shapes.grid.spacing_mm[0])
    found = register_shapes(shapes.wanted, shapes.own, mm, allowed=shapes.allowed, sigmas_mm=SIGMAS_MM)
    return unfolded(keep_volumes(found, held(shapes), free(shapes), mm), mm, shapes.allowed)


def _unchanged(anatomy: HeadAnatomy, params: Params) -> Edit:
    """An edit that leaves everything as it is: one voxel of air with its own value."""
    mask = np.zeros(anatomy.scan.shape, dtype=np.bool_)
    mask.flat[np.argmax(np.where(anatomy.head, -1, anatomy.brain_distance_mm))] = True
    warnings = ("the strength is 0: nothing was changed, the face is all there",)
    return Edit(mask, anatomy.scan.data[mask], "reshape", params=asdict(params), warnings=warnings, leaves_face=True)


def pulled_back(
    anatomy: HeadAnatomy, shapes: Shapes, displacement: Displacement, margin_mm: float
) -> tuple[BoolVolume, FloatVolume]:
    """The voxels of the scan that move, shape of the scan, and their new values, in the order of the mask."""
    scan = anatomy.scan
    at = shapes.box_in(np.abs(displacement).max(axis=-1) > STILL_MM, scan.grid)
    to_frame = invert(shapes.grid.affine) @ invert(shapes.to_scan) @ scan.grid.cropped(at).affine
    shape = scan.grid.cropped(at).shape
    own = [
        ndimage.affine_transform(displacement[..., a], to_frame[:3, :3], to_frame[:3, 3], shape, order=1)
        for a in range(3)
    ]
    moving = np.sqrt(sum(np.square(part) for part in own)) > STILL_MM
    moving &= anatomy.brain_distance_mm[at] > margin_mm
    index = np.argwhere(moving)
    shift = np.stack([part[moving] for part in own], axis=1)
    rotate = invert(scan.affine)[:3, :3] @ shapes.to_scan[:3, :3]
    source = index + [part.start for part in at] + shift @ rotate.T
    values = _sampled(scan.data, source)
    origin = apply_affine(to_frame, index) + shift / shapes.grid.spacing_mm
    inside = ndimage.map_coordinates(shapes.own, origin.T, order=1, mode="nearest")  # the skin where it came to lie
    signal = values - np.float32(anatomy.background.air)
    last = np.array(scan.shape) - 0.5
    unseen = ((source < -0.5) | (source > last)).any(axis=1)
    ghost = (inside < -OUTSIDE_MM) & ((signal > shapes.threshold) | unseen)
    values[ghost] = drawn_air(anatomy, shapes.threshold, int(ghost.sum()))
    mask = np.zeros(scan.shape, dtype=np.bool_)
    mask[at] = moving
    return mask, values


def _sampled(data: FloatVolume, source: NDArray[np.float64]) -> NDArray[np.float32]:
    """Intensities at voxel coordinates, shape (n, 3), by cubic splines, within the range of the scan."""
    low, high = (f(source, axis=0) for f in (np.min, np.max))
    at = covering_box(np.array([low, high]), data.shape, room_vox=12, at_least=1)
    part = data[at]
    index = (source - [s.start for s in at]).T
    values = ndimage.map_coordinates(part, index, order=3, mode="nearest")
    return np.asarray(values.clip(part.min(), part.max()), dtype=np.float32)


METHOD = DefacingMethod(
    name="reshape",
    title="reshape",
    summary="moves face and ears to the average ones, and keeps what is inside",
    citation="efface",
    reference="a method of our own, not published",
    colour="#6A3D9A",
    params=Params,
    plan=plan,
    external_note="is a method of our own: there is no other program",
    carries_over=False,
    most_wrapped_ml=30.0,
)
