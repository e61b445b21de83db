"""One scan alone: whether what is left of a face singles its person out among a thousand people who do not exist.

What the skin of the defaced scan shows of the face region is laid over the original's face and over each of
`SAMPLES` faces of nobody (`efface.privacy.face_model`), and all are ranked by how well it fits. Skin that a method left
is the original's to the bit, and would always win; whoever attacks without the very scan has another one of the person.
So every face in the gallery, the original's too, is changed as another scan of the same person would be.
"""

import functools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from efface.anatomy.upright import rigid_of
from efface.io.scan import Scan
from efface.privacy.face_map import CENTRE_MM, SHAPE, Map, face_map, face_points, filled
from efface.privacy.face_model import SEED, face_model, smooth_root, woven
from efface.privacy.map_fit import MapSurfaces, best_moves, misfits_mm
from efface.quality import Judge, SingledOut, Verdict
from efface.spatial.affine import invert
from efface.spatial.types import Affine, Volume

SAMPLES = 1000
"""Faces of nobody."""
AGAIN = 8
"""So many times the original is scanned again; the ranks are averaged."""
RESCAN_MM, RESCAN_DEG = 0.8, 3.0
"""How the skin of two scans of one person differs, standard deviation along a ray and length of the bumps: as that of
the T1w and the T2w of one session, whose faces fit each other to 0.4 to 0.6 mm where those of two people do to 1.7."""
PLACED_MM, PLACED_DEG = (1.5, 2.0, -2.0), (-2.0, 1.5, 1.5)
"""Where the fits begin, along and around each axis: nobody who lacks the original knows its place to the bit."""
PLAUSIBLE = 2.6
"""So many standard deviations from the mean a surface can be a face's; what is deeper is a cut, and is not compared."""
LEAST_FACE = 500
"""Of an original that shows less of its face nothing is said."""
LEAST_POINTS = 150
"""With fewer points there is nothing to compare: a tenth of the face region."""


def judged_among_faces(judge: Judge, defaced: Scan) -> Verdict:
    """The verdict on a defaced scan, with the rank of its original among faces of nobody.

    Parameters
    ----------
    judge
        Of the undefaced scan.
    defaced
        By any program, on the undefaced scan's grid or a part of it.

    Raises
    ------
    InputError, AnatomyError, RegistrationError
        As `efface.quality.Judge.verdict`.
    """
    verdict = judge.verdict(defaced)
    after = judge.comparable_to_original(defaced)
    found = singled_out(judge.anatomy.whole.image, after, verdict.average_to_scan, verdict.surface_threshold)
    return replace(verdict, singled_out=found)


def singled_out(original: Volume, defaced: Volume, average_to_scan: Affine, threshold: float) -> SingledOut:
    """Rank the original among faces of nobody by what is left of it.

    Parameters
    ----------
    original, defaced
        The scan before and after, on one grid and in one scale, with dark air at 0.
    average_to_scan
        Pose of the head, average-head mm to scan mm, shape (4, 4).
    threshold
        Intensity at the original's skin.
    """
    pose = rigid_of(average_to_scan)
    face = face_map(original, pose, threshold)
    if len(face_points(face)) < LEAST_FACE:
        return SingledOut(None, None, "the original shows too little of a face to compare it")
    pose = pose @ onto_mean(face)
    face = face_map(original, pose, threshold)
    left = np.where(np.isfinite(face), face_map(defaced, pose, threshold), np.nan)
    return rank_of(left, face)


def rank_of(left: Map, face: Map) -> SingledOut:
    """Rank a face among faces of nobody by what is left of it.

    Parameters
    ----------
    left, face
        Maps of the defaced scan and of the original, in the pose of the model's mean, NaN in holes.

    Notes
    -----
    Some faces are like everybody's, and fit on anything. What follows, over the faces of nobody, from how well the mean
    face fits on each at the same places is taken from the distances.
    """
    model = face_model()
    seen = np.abs(left - model.mean) <= PLAUSIBLE * model.spread
    points, usual = (_placed(face_points(np.where(seen, some, np.nan))) for some in (left, model.mean))
    if len(points) < LEAST_POINTS:
        return SingledOut(None, None, "nothing is left of the face that could be compared")
    own = MapSurfaces.of(_again(face))
    others = _gallery()
    fits = [(misfits_mm(points, some), misfits_mm(usual, some)) for some in (others, own)]
    slope = np.polyfit(fits[0][1], fits[0][0], 1)[0]
    far, own_far = (np.round(fit - slope * expected, 3) for fit, expected in fits)
    ahead = (far < own_far[:, None]).sum(axis=1) + 0.5 * (far == own_far[:, None]).sum(axis=1)
    return SingledOut(1 + round(float(ahead.mean())), SAMPLES + 1, "")


def _placed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points where somebody who does not have the original takes them to be."""
    turn = Rotation.from_rotvec(np.deg2rad(PLACED_DEG)).as_matrix()
    return np.asarray((points - CENTRE_MM) @ turn.T + CENTRE_MM + PLACED_MM, dtype=np.float64)


def onto_mean(face: Map) -> Affine:
    """Mm in which a face lies over the model's mean to mm in which it was found, rigid, shape (4, 4)."""
    turn, shift = best_moves(face_points(face).astype(np.float32), MapSurfaces.of(face_model().mean[None]))
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = turn[0], shift[0, 0]
    return invert(move)


def _again(face: Map) -> NDArray[np.float32]:
    """The face as other scans of the person show it, shape (AGAIN, *SHAPE)."""
    return np.asarray(filled(face).astype(np.float32) + _rescan(AGAIN, SEED + 2), dtype=np.float32)


def _rescan(count: int, seed: int) -> NDArray[np.float32]:
    """By what other scans differ, mm, shape (count, *SHAPE)."""
    roots = [smooth_root(n, RESCAN_DEG) for n in SHAPE]
    draws = np.random.default_rng(seed).standard_normal((count, roots[0].shape[1] * roots[1].shape[1]), dtype=np.float32)
    return np.asarray(RESCAN_MM * woven(draws, roots), dtype=np.float32)


@functools.cache
def _gallery() -> MapSurfaces:
    """The faces of nobody, once a process."""
    return MapSurfaces.of(face_model().drawn(SAMPLES) + _rescan(SAMPLES, SEED + 1))
