"""The pose of a head: where the average head is in a scan, found by a network, refined by registration, and checked.

The network and the registration see different things: the network recognises tissue, whatever the field of view, and is
coarse; registration compares intensities, is exact, and can be led astray where much of the head is outside. A pose is
believed where both agree, where the intensities agree too, and where a person could lie like that in a scanner.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from efface.anatomy import templates
from efface.anatomy.landmarks import FacialLandmark, upright_landmarks
from efface.anatomy.pose_prediction import GRID_MM, PosePrediction, predict
from efface.anatomy.second_registration import second_registration
from efface.anatomy.upright import rotation_of
from efface.spatial.affine import apply_affine
from efface.spatial.registration import AffineResult, register_affine, register_near
from efface.spatial.types import Affine, Volume

LEAST_HEAD_ML = 400.0
"""Less tissue than this that the network takes for a head is no head."""
OUTLIER_MM = 8.0
ROUNDS = 12
AGREE_MM, SURE_MM = 20.0, 15.0
"""Root mean square distance, over the head in view, between the poses of network and registration: at most, and where
the facial landmarks contradict."""
CONSISTENT_MM, CONSISTENT_SHARE = 20.0, 0.5
"""So much of the head must lie this near to where the pose that fits the network's coordinates best puts it."""
CONFIRMED_MM: Mapping[str, float] = MappingProxyType({"eyes": 15.0, "nose": 20.0, "mouth": 25.0})
"""A landmark this near to where a pose has it confirms the pose: up to 8, 13 and 21 mm on the development heads."""
CONFIRMING = 2
OVERRULED_MM, OVERRULED_SHARE = 25.0, 0.7
"""Landmarks do not confirm a pose that is further from the network's, where so much of the head hangs together: in one
head that was cut above its eyes, two eyes were seen where a pose 26 mm off has them. Right poses were up to 22 mm from
the network's there, and up to 34 mm where less hung together (366 cut heads)."""
TIPPED_DEG, TURNED_DEG = 60.0, 120.0
"""How far the top of the head can be from the scanner's axis, and how far a head can be turned around that axis."""

FindLandmarks = Callable[[Volume, Affine], tuple[FacialLandmark, ...]]
Look = Callable[[Volume], PosePrediction]
Second = Callable[[Volume], AffineResult | None]


def find_pose(
    volume: Volume,
    landmarks: FindLandmarks = upright_landmarks,
    look: Look = predict,
    second: Second = second_registration,
) -> AffineResult:
    """Find the average head in a scan, and check it.

    Parameters
    ----------
    volume
        A head, RAS+, of any contrast; parts of it may be outside the field of view.
    landmarks
        Finds the facial landmarks of a head whose pose is known.
    look
        Asks the pose network.
    second
        Another registration, asked where ours is refused for another reason than a header that lies; it may give None.

    Returns
    -------
    AffineResult
        Average head mm to scan mm; `reason` says why it is not to be believed.
    """
    seen = look(volume)
    head_ml = len(seen.points_mm) * GRID_MM**3 / 1000
    if head_ml < LEAST_HEAD_ML:
        reason = f"{head_ml:.0f} ml of the image look like a head; expected at least {LEAST_HEAD_ML:.0f} ml"
        return AffineResult(np.eye(4), 0.0, False, reason, 12, 0)
    expected = similarity(seen)
    found = _checked(register_near(templates.average_head(), volume, expected), seen, expected, volume, landmarks)
    if found.converged or found.reason == implausible(found.matrix):
        return found  # network and registration agree; where nobody can lie like that, no search finds another pose
    searched = register_affine(templates.average_head(), volume, discriminating_mask=templates.cranium())
    again = _checked(searched, seen, expected, volume, landmarks)
    if again.converged:
        return again
    header_lies = bool(implausible(expected)) or again.reason == implausible(again.matrix)
    other = None if header_lies else second(volume)
    if other is not None:
        other = _checked(other, seen, expected, volume, landmarks)
    return other if other is not None and other.converged else found


def contradiction(seen: PosePrediction, average_to_scan: Affine) -> str:
    """Why a pose found elsewhere contradicts what the pose network sees in an image; empty where it does not.

    Parameters
    ----------
    seen
        What the network sees.
    average_to_scan
        The pose, average head mm to scan mm.

    Returns
    -------
    str
        Empty as well where the network has no opinion: where it sees no head, or none that hangs together.
    """
    if len(seen.points_mm) * GRID_MM**3 / 1000 < LEAST_HEAD_ML:
        return ""
    expected = similarity(seen)
    return "" if _inconsistent(seen, expected) else _disagreement(seen, average_to_scan, expected, AGREE_MM)


def similarity(seen: PosePrediction) -> Affine:
    """The rotation, scale and shift from the average head to the scan that fit the network's coordinates best."""
    certain = 1 / seen.spread_mm**2
    weight = certain
    matrix = np.eye(4)
    for _ in range(ROUNDS):
        matrix = _weighted_similarity(seen.average_mm, seen.points_mm, weight)
        weight = certain / (1 + (residuals_mm(seen, matrix) / OUTLIER_MM) ** 2) ** 2
    return matrix


def _weighted_similarity(
    source: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> Affine:
    """Umeyama's closed form.

    The registration starts from it, and carries a difference in the last bit on: no sum is left to BLAS, whose sums
    depend on the number of threads.
    """
    weight = weight / weight.sum()
    source_centre, target_centre = (np.einsum("n,ni->i", weight, points) for points in (source, target))
    around = source - source_centre
    u, scales, vt = np.linalg.svd(np.einsum("n,ni,nj->ij", weight, around, target - target_centre))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = float((scales * signs).sum() / np.einsum("n,ni,ni->", weight, around, around))
    matrix = np.eye(4)
    matrix[:3, :3] = scale * (vt.T * signs) @ u.T
    matrix[:3, 3] = target_centre - matrix[:3, :3] @ source_centre
    return matrix


def residuals_mm(seen: PosePrediction, matrix: Affine) -> NDArray[np.float64]:
    """How far each point of the head is from where a pose (average head mm to scan mm) puts it, shape (n,)."""
    return np.asarray(np.linalg.norm(apply_affine(matrix, seen.average_mm) - seen.points_mm, axis=1))


def _checked(
    found: AffineResult, seen: PosePrediction, expected: Affine, volume: Volume, landmarks: FindLandmarks
) -> AffineResult:
    """The result with the verdict of the checks that do not compare intensities.

    The facial landmarks or the network's pose must confirm the registered pose.
    """
    if not found.converged:
        return found
    near, far = _landmarks_off(landmarks(volume, found.matrix), found.matrix)
    if len(near) >= CONFIRMING:
        overrules = _consistent_share(seen, expected) >= OVERRULED_SHARE
        reason = _disagreement(seen, found.matrix, expected, OVERRULED_MM) if overrules else ""
    else:
        # The landmark network sees eyes and mouths in heads without a face, too; then the other witness must be sure.
        most_mm = SURE_MM if far and not near else AGREE_MM
        reason = _inconsistent(seen, expected) or _disagreement(seen, found.matrix, expected, most_mm)
        if reason and far and not near:
            reason += f"; and the landmark network finds {far[0]}"
    reason = reason or implausible(found.matrix)
    return replace(found, converged=not reason, reason=reason)


@functools.cache
def landmark_places() -> Mapping[str, tuple[NDArray[np.float64], ...]]:
    """Where the average head has the landmarks of `CONFIRMED_MM`, RAS+ mm: centres, one for each eye."""
    prior = templates.prior("features")
    places = {}
    for name in CONFIRMED_MM:
        points = apply_affine(prior.affine, np.argwhere(prior.data == templates.FEATURE_LABELS[name]))
        sides = (points[:, 0] < 0, points[:, 0] >= 0) if name == "eyes" else (np.ones(len(points), np.bool_),)
        places[name] = tuple(points[side].mean(axis=0) for side in sides)
    return places


def off_mm(landmark: FacialLandmark, pose: Affine) -> float:
    """How far the centre of an eye, a nose or a mouth is from where a pose (average head mm to scan mm) has it, mm."""
    places = landmark_places()[landmark.name]
    return min(float(np.linalg.norm(apply_affine(pose, place) - landmark.centre_mm)) for place in places)


def is_in_place(landmark: FacialLandmark, pose: Affine) -> bool:
    """Whether a landmark of `CONFIRMED_MM` is near enough to its place."""
    return landmark.name in CONFIRMED_MM and off_mm(landmark, pose) <= CONFIRMED_MM[landmark.name]


def _landmarks_off(found: Iterable[FacialLandmark], pose: Affine) -> tuple[list[str], list[str]]:
    """Landmarks that are near to where a pose has them, and those that are far, in words."""
    near: list[str] = []
    far: list[str] = []
    for landmark in found:
        if landmark.name not in CONFIRMED_MM:
            continue
        off = off_mm(landmark, pose)
        (near if off <= CONFIRMED_MM[landmark.name] else far).append(f"{landmark.name} {off:.0f} mm off")
    return near, far


def _consistent_share(seen: PosePrediction, expected: Affine) -> float:
    """How much of what looks like a head lies where a head would have it, 0 to 1."""
    return float((residuals_mm(seen, expected) < CONSISTENT_MM).mean())


def _inconsistent(seen: PosePrediction, expected: Affine) -> str:
    near = _consistent_share(seen, expected)
    if near >= CONSISTENT_SHARE:
        return ""
    return (
        f"only {near:.0%} of what looks like a head lies where a head would have it; expected at least "
        f"{CONSISTENT_SHARE:.0%}"
    )


def _disagreement(seen: PosePrediction, registered: Affine, expected: Affine, most_mm: float) -> str:
    off = apply_affine(registered - expected, seen.average_mm[::5])
    rms = float(np.sqrt((off**2).sum(axis=1).mean()))
    if rms <= most_mm:
        return ""
    return (
        f"the pose by registration and the pose by what the tissue looks like are {rms:.0f} mm apart; expected at most "
        f"{most_mm:.0f} mm"
    )


def implausible(average_to_scan: Affine) -> str:
    """Why nobody lies in a scanner like that, and what the header seems to be; empty if somebody could."""
    rotation = rotation_of(average_to_scan)[:3, :3]
    top, front = rotation[:, 2], rotation[:, 1]
    tipped = np.rad2deg(np.arccos(np.clip(top[2], -1, 1)))
    turned = np.rad2deg(np.arccos(np.clip(front[1] / max(float(np.hypot(front[0], front[1])), 1e-6), -1, 1)))
    if tipped <= TIPPED_DEG and turned <= TURNED_DEG:
        return ""
    return (
        f"by the header the top of the head points to {_direction(top)} and its face to {_direction(front)}: "
        "the header's directions seem to be wrong (axes flipped or swapped); expected top to superior and face to "
        "anterior: correct the header first"
    )


def _direction(vector: NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(vector)))
    names = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
    return names[axis][int(vector[axis] > 0)]
