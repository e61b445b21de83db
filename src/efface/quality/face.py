"""Failure I: a face that is left and could be recognised.

The skin of the original is sampled where the average head has its face. Along each sample's normal, the nearest skin
of the defaced scan is looked for: what is further off than `MOVED_MM` has moved, what is not found within `VANISHED_MM`
has vanished. A voxel that no method touched gives exactly 0.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import SPECK_ML, skin_threshold, smoothed
from efface.anatomy.templates import FEATURE_LABELS
from efface.quality.verdict import FACE_FEATURES, VANISHED_MM, FaceEvidence, FeatureEvidence, Point
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import Box, box_corners, covering_box
from efface.spatial.masks import box_of, connected_pieces, dilated, distance_mm, largest_component
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Volume

STEP_MM = 1.5
"""Grid on which the skin is looked at."""
MOVED_MM = 1.0
"""Noise and a light blur move skin by less; another person's face, laid over it, is off by more."""
SEARCH_MM = 0.75
HALF = 0.5
"""Share of a feature that must have moved or vanished for it to be gone."""
LEFT_FACE = 2 / 3
"""One feature alone, or the eye of a half, is recognised only where so much of the face around it is left too."""
WHOLE_EYE = 0.8
"""Share of an eye's skin that is left where it is seen as an eye: lids above a cut leave half of it."""
LAYER_MM, EVEN = 5.0, 0.75
"""A layer up to so thick that was taken off evenly, within `MOVED_MM` on so much of a feature's skin, leaves its relief.
Another person's face lies unevenly over the first."""
NEAR_MM, AHEAD_MM = 3.0, 12.0
"""How far from the average head's label its skin lies: around, and (not of ears) in front, where it sticks out more."""
FACE_PRIOR = 0.25
FRONT_MM = 40.0
"""Average head y in front of which the face is frontal."""
LEAST_CM2 = 1.0
"""A feature with less skin is not in the field of view."""
PLACE_MM = 5.0
"""To what the place of a feature is rounded: exact places and sizes are measures of the face."""
SIGHT_MM = 45.0
LOOKS = ((0.0, 1.0, 0.0), (0.7, 0.7, 0.0), (-0.7, 0.7, 0.0), (0.0, 0.8, -0.6), (1.0, 0.2, 0.0), (-1.0, 0.2, 0.0))
"""Directions in the average head, one of which must be free of head up to `SIGHT_MM`: what is inside is no skin."""
MARGIN_MM = 18.0
EDGE_MM = 6.0
"""Skin this near the border of the box is the box's, not the head's."""


@dataclass(frozen=True, eq=False)
class FaceSkin:
    """Samples of the original's outer surface in and around the face.

    Attributes
    ----------
    box
        Part of the scan's voxels that it was taken from.
    threshold
        Intensity at the skin.
    grid
        Smoothed intensities in the box.
    points, normals
        Voxels of `grid`, shape (n, 3); unit vectors out of the head.
    members
        For each part of a face, which samples are its.
    front
        Which samples are of the frontal face.
    halves
        Which of these are right and left of the average head's midline.
    """

    box: tuple[slice, ...]
    threshold: float
    grid: Volume
    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    members: dict[str, BoolVolume]
    front: BoolVolume
    halves: dict[str, BoolVolume]


def recognised_by() -> tuple[str, ...]:
    """The features of a face that it can be recognised by; ears are reported, and decide nothing."""
    return tuple(name for name in FACE_FEATURES if name != "ears")


def face_evidence(skin: FaceSkin, after: Volume) -> FaceEvidence:
    """Look for what is left of the face.

    Parameters
    ----------
    skin
        Of the undefaced scan.
    after
        The defaced scan on the undefaced scan's grid, in its intensities, with dark air at 0.
    """
    moved = _moved_mm(skin, smoothed(_cropped(after, skin.box), STEP_MM).data)
    features = {part: _feature(skin, moved, member) for part, member in skin.members.items()}
    changed = _changed(moved[skin.front])
    sides = {side: _changed(moved[half]) for side, half in skin.halves.items()}
    return _decide(features, changed, sides, _layers(skin, moved))


def _changed(moved: NDArray[np.float64]) -> float | None:
    """Share of skin that moved or vanished; None where there is none."""
    return float((moved > MOVED_MM).mean()) if moved.size else None


def _layers(skin: FaceSkin, moved: NDArray[np.float64]) -> dict[str, float]:
    """Of each feature, the share of its skin that moved by the same distance, of at most `LAYER_MM`, as most of it."""
    layers = {}
    for name in recognised_by():
        here = moved[np.any([skin.members[part] for part in FACE_FEATURES[name]], axis=0)]
        off = float(np.median(here)) if here.size else VANISHED_MM
        layers[name] = float((np.abs(here - off) <= MOVED_MM).mean()) if off <= LAYER_MM else 0.0
    return layers


def _decide(
    features: dict[str, FeatureEvidence],
    changed: float | None,
    sides: dict[str, float | None],
    layers: dict[str, float],
) -> FaceEvidence:
    """Whether what is left can be recognised, by whichever of five rules says so most.

    Two of eyes, nose and mouth are left; or one is, with most of the face around it; or one eye, with most of its half
    of the face; or both eyes; or two features below a layer that was taken off evenly.
    """
    unsure = FaceEvidence(False, 0.0, changed, (), features)
    shares = {name: unsure.share(name) for name in recognised_by()}
    kept = {name: 1 - share for name, share in shares.items() if share is not None}
    if not kept:
        return unsure
    left = tuple(name for name, share in kept.items() if share > HALF)
    ranked = sorted(kept.values(), reverse=True)
    below = sorted((max(share, _part(1 - layers[name], EVEN)) for name, share in kept.items()), reverse=True)
    eyes = {side: _part(features[f"{side} eye"].changed, WHOLE_EYE) for side in sides}
    scores = {
        "": max(ranked[1] if len(ranked) > 1 else ranked[0], min(ranked[0], _part(changed, LEFT_FACE))),
        **{f"its {side} half": min(eyes[side], _part(sides[side], LEFT_FACE)) for side in sides},
        "both eyes": min(eyes.values()),
        "its relief, from which a layer was taken off": below[1] if len(below) > 1 else 0.0,
    }
    by = "" if scores[""] > HALF else max(scores, key=lambda rule: scores[rule])
    score = max(scores.values())
    return FaceEvidence(score > HALF, float(score), changed, left, features, by if score > HALF else "")


def _part(changed: float | None, least: float) -> float:
    """What is left of something as a score: `HALF` where the share that is left is `least`; 0 where it is not shown."""
    return 0.0 if changed is None else float(np.interp(1 - changed, (0, least, 1), (0, HALF, 1)))


def _feature(skin: FaceSkin, moved: NDArray[np.float64], member: BoolVolume) -> FeatureEvidence:
    area_cm2 = float(member.sum()) * STEP_MM**2 / 100
    if area_cm2 < LEAST_CM2:
        return FeatureEvidence(None, None, None, area_cm2, None)
    here = moved[member]
    changed = float((here > MOVED_MM).mean())
    centre = apply_affine(skin.grid.affine, skin.points[member].mean(axis=0))
    x, y, z = (PLACE_MM * round(float(value) / PLACE_MM) for value in centre)
    place: Point = (x, y, z)
    return FeatureEvidence(changed < HALF, changed, float(np.median(here)), float(round(area_cm2)), place)


def _box(volume: Volume, average_to_scan: Affine) -> Box:
    """The part of a scan around the face and the ears."""
    prior = templates.prior("features")
    low, high = (f(np.argwhere(prior.data > 0), axis=0) for f in (np.min, np.max))
    corners = apply_affine(invert(volume.affine) @ average_to_scan @ prior.affine, box_corners(low, high))
    room = (MARGIN_MM + EDGE_MM) / volume.grid.spacing_mm
    return covering_box(corners, volume.data.shape, room_vox=room, at_least=2)


def _cropped(volume: Volume, box: tuple[slice, ...]) -> Volume:
    return Volume(volume.data[box], volume.grid.cropped(box).affine)


def sample_skin(anatomy: HeadAnatomy) -> FaceSkin:
    """Sample the skin of the undefaced scan in and around the face.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan.
    """
    whole, average_to_scan = anatomy.image, anatomy.average_to_scan
    threshold = skin_threshold(whole)
    box = _box(whole, average_to_scan)
    volume = _cropped(whole, box)
    grid = smoothed(volume, STEP_MM)
    head = grid.data >= threshold
    labels, sizes = connected_pieces(head, corners=True)
    head &= sizes[labels] * STEP_MM**3 / 1000 >= SPECK_ML
    air = largest_component(np.asarray(~head))
    points = np.argwhere(head & dilated(air)).astype(np.float64)
    points = points[_away_from_border(grid, volume, points)]
    upright = invert(average_to_scan) @ grid.affine
    points = points[_seen(np.asarray(head), points, np.asarray(np.linalg.inv(upright[:3, :3]), dtype=np.float64))]
    mm = apply_affine(upright, points)
    distances = _distances()
    members = {part: _near(distances[part], mm) for parts in FACE_FEATURES.values() for part in parts}
    front = _near(distances["face"], mm) & (mm[:, 1] > FRONT_MM)
    halves = {"right": front & (mm[:, 0] > 0), "left": front & (mm[:, 0] < 0)}
    return FaceSkin(box, threshold, grid, points, _normals(grid.data, points), members, front, halves)


def _away_from_border(grid: Volume, volume: Volume, points: NDArray[np.float64]) -> BoolVolume:
    """Whether points are further than `EDGE_MM` inside the box that was cut out."""
    voxels = apply_affine(invert(volume.affine) @ grid.affine, points)
    room = np.minimum(voxels, np.array(volume.data.shape) - 1 - voxels) * volume.grid.spacing_mm
    return np.asarray((room > EDGE_MM).all(axis=1), dtype=np.bool_)


def _seen(head: BoolVolume, points: NDArray[np.float64], to_voxels: NDArray[np.float64]) -> BoolVolume:
    """Whether points can be seen from one of `LOOKS`; eyes are dark, so the back of an orbit can look like skin."""
    seen = np.zeros(len(points), dtype=np.bool_)
    last = np.array(head.shape) - 1
    for look in LOOKS:
        step = to_voxels @ np.array(look)
        step /= np.linalg.norm(step)
        free = np.flatnonzero(~seen)
        for far in range(3, int(SIGHT_MM / STEP_MM)):
            at = np.rint(points[free] + far * step).astype(np.intp)
            outside = ((at < 0) | (at > last)).any(axis=1)
            i, j, k = np.clip(at, 0, last).T
            free = free[outside | ~head[i, j, k]]
        seen[free] = True
    return seen


@functools.cache
def _distances() -> dict[str, Volume]:
    """How far the voxels around each part of a face, and around the face, are from it, mm; average-head space."""
    labels, face = templates.prior("features"), templates.prior("face")
    x = (np.arange(labels.data.shape[0]) * labels.affine[0, 0] + labels.affine[0, 3])[:, None, None]
    masks = {"face": face.data > FACE_PRIOR}
    for name, parts in FACE_FEATURES.items():
        mask = labels.data == FEATURE_LABELS[name]
        if name != "ears":
            mask = _drawn_out(mask, round(AHEAD_MM / float(labels.affine[1, 1])))
        sides = {"right": mask & (x > 0), "left": mask & (x < 0)}
        masks.update({part: sides.get(part.split()[0], mask) for part in parts})
    room = round(2 * NEAR_MM / float(labels.grid.spacing_mm.min())) + 1  # further away no one asks
    near = {}
    for part, mask in masks.items():
        box = box_of(mask, room)
        near[part] = Volume(distance_mm(~mask[box], labels.grid.spacing_mm), labels.grid.cropped(box).affine)
    return near


def _drawn_out(mask: BoolVolume, voxels: int) -> BoolVolume:
    """A mask and the voxels in front of it."""
    out = mask.copy()
    for step in range(1, voxels + 1):
        out[:, step:] |= mask[:, :-step]
    return out


def _near(distance: Volume, mm: NDArray[np.float64]) -> BoolVolume:
    """Whether average head mm, shape (n, 3), are at most `NEAR_MM` away."""
    index = (mm - distance.affine[:3, 3]) / np.diag(distance.affine)[:3]
    found = ndimage.map_coordinates(distance.data, index.T, order=1, mode="nearest")
    return np.asarray(found <= NEAR_MM, dtype=np.bool_)


def _normals(data: FloatVolume, points: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = (ndimage.map_coordinates(data, (points + step).T, order=1) for step in np.vstack([np.eye(3), -np.eye(3)]))
    values = np.stack(list(sides))
    down = (values[3:] - values[:3]).T.astype(np.float64)
    down /= np.maximum(np.linalg.norm(down, axis=1, keepdims=True), 1e-9)
    return np.asarray(down)


def _moved_mm(skin: FaceSkin, after: FloatVolume) -> NDArray[np.float64]:
    """How far the nearest skin of the defaced scan is along each normal, mm; `VANISHED_MM` where there is none."""
    chosen = skin.front | np.any(list(skin.members.values()), axis=0)
    moved = np.zeros(len(skin.points))
    before = _crossing_mm(skin, chosen, skin.grid.data)
    now = _crossing_mm(skin, chosen, after)
    found = np.isfinite(before)
    moved[chosen] = np.minimum(np.abs(now - np.where(found, before, 0.0)), VANISHED_MM)
    moved[np.flatnonzero(chosen)[~found & ~np.isfinite(now)]] = 0.0
    return moved


def _crossing_mm(skin: FaceSkin, chosen: BoolVolume, data: FloatVolume) -> NDArray[np.float64]:
    """Where, outwards from each sample, the nearest change from tissue to air is; infinite where there is none."""
    steps = np.arange(-VANISHED_MM, VANISHED_MM + SEARCH_MM, SEARCH_MM)
    nearest = np.full(int(chosen.sum()), np.inf)
    inner: NDArray[np.float64] | None = None
    for step in steps:
        at = skin.points[chosen] + skin.normals[chosen] * (step / STEP_MM)
        outer = np.asarray(ndimage.map_coordinates(data, at.T, order=1), dtype=np.float64) - skin.threshold
        if inner is not None:
            crosses = (inner >= 0) & (outer < 0)
            part = np.where(crosses, inner / np.where(crosses, inner - outer, 1), 0)
            place = np.where(crosses, step - SEARCH_MM + part * SEARCH_MM, np.inf)
            nearest = np.where(np.abs(place) < np.abs(nearest), place, nearest)
        inner = outer
    return nearest
