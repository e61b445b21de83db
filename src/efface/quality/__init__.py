"""Quality control: Success, Failure I (face left) or Failure II (brain damaged), with the evidence.

References
----------
Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022), section 3.2.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace

from efface.anatomy import background, skin, wraparound
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_pose import is_in_place
from efface.defacing import reshape_target
from efface.errors import AnatomyError
from efface.io.quantisation import rounding
from efface.io.scan import Scan
from efface.quality import brain, face, grid_matching, reshaped_likeness, verdict
from efface.quality.brain import BrainReference, brain_evidence
from efface.quality.face import FaceSkin, face_evidence, recognised_by, sample_skin
from efface.quality.grid_matching import comparable, on_original_grid
from efface.quality.verdict import (
    FACE_FEATURES,
    BrainEvidence,
    FaceEvidence,
    FeatureEvidence,
    QualityClass,
    SingledOut,
    Verdict,
)
from efface.spatial.types import FloatVolume, Volume

__all__ = [
    "FACE_FEATURES",
    "BrainEvidence",
    "FaceEvidence",
    "FeatureEvidence",
    "Judge",
    "QualityClass",
    "SingledOut",
    "Verdict",
    "judge",
    "settings",
]

DECIDING_MODULES = (
    background,
    brain,
    face,
    grid_matching,
    reshape_target,
    reshaped_likeness,
    verdict,
    skin,
    wraparound,
)
"""Modules whose constants decide a verdict."""
AVERAGE_SCORE = 0.25
"""Highest score of a face that is the average one: nobody is recognised by it, though little of it may have moved."""
NO_FACE = "the original shows no eyes, nose or mouth: only its brain was judged"


class Judge:
    """Judges the defaced scans of one undefaced scan; what is derived from it is computed once.

    Parameters
    ----------
    anatomy
        Of the undefaced scan: brain mask and the registration of the average head are used; where the head wraps around
        the border of the image, those of the whole head.
    """

    def __init__(self, anatomy: HeadAnatomy) -> None:
        self.anatomy = anatomy

    @functools.cached_property
    def _brain(self) -> BrainReference:
        return BrainReference(self.anatomy.whole)

    @functools.cached_property
    def _skin(self) -> FaceSkin:
        return sample_skin(self.anatomy.whole)

    def verdict(self, defaced: Scan) -> Verdict:
        """Judge a defaced scan.

        Parameters
        ----------
        defaced
            By any program, on the undefaced scan's grid or a part of it.

        Raises
        ------
        InputError
            If the two do not lie over each other, or are not the same scan.
        AnatomyError, RegistrationError
            If brain or head were not found in the undefaced scan, or it shows a part of the face that cannot be judged.
        """
        whole = self.anatomy.whole
        own = whole.background
        placed, moved = self._placed(defaced)
        after, level, slope, scaled = comparable(whole, own.signal(placed))
        tolerance = rounding(self.anatomy.scan, defaced, slope)
        brain = brain_evidence(self._brain, after, level, tolerance)
        face, average = self._face(Volume(own.image(after), whole.scan.affine))
        verdict = (
            QualityClass.FAILURE_II if brain.failed else QualityClass.FAILURE_I if face.failed else QualityClass.SUCCESS
        )
        if verdict is QualityClass.SUCCESS:
            self._refuse_unseen(face)
        none = () if face.changed is not None else (NO_FACE,)
        return Verdict(
            verdict,
            max(brain.score, face.score),
            average if average and not brain.failed else _sentence(brain, face),
            brain,
            face,
            whole.average_to_scan,
            self._skin.threshold,
            (*self.anatomy.warnings, *defaced.warnings, *whole.brain_doubts, *whole.pose_doubts, *moved, *scaled, *none),
        )

    def comparable_to_original(self, defaced: Scan) -> Volume:
        """The defaced scan over the original, `anatomy.whole.image`: its grid, its scale, dark air at 0.

        Raises
        ------
        InputError
            If the two do not lie over each other, or are not the same scan.
        AnatomyError, RegistrationError
            If brain or head were not found in the undefaced scan.
        """
        whole = self.anatomy.whole
        placed, _ = self._placed(defaced)
        after, _, _, _ = comparable(whole, whole.background.signal(placed))
        return Volume(whole.background.image(after), whole.scan.affine)

    def _placed(self, defaced: Scan) -> tuple[FloatVolume, tuple[str, ...]]:
        """The defaced scan on the grid of the whole head, and what to know of that."""
        wrap = self.anatomy.wrap
        placed, moved = on_original_grid(self.anatomy.scan, defaced, self.anatomy.whole.background.air)
        if wrap is not None:  # a nose behind the head is judged in its place
            return wrap.whole(placed), (*moved, wrap.warning)
        return placed, moved

    def _face(self, after: Volume) -> tuple[FaceEvidence, str]:
        """What is left of the face; and a sentence where that is the face that reshape gives to everybody."""
        face = face_evidence(self._skin, after)
        if not face.failed:
            return face, ""
        likeness = reshaped_likeness.of(after, self.anatomy.whole.average_to_scan, self._skin.threshold)
        if not likeness.is_average:
            return face, ""
        unknown = replace(face, failed=False, score=min(face.score, AVERAGE_SCORE))
        return unknown, f"the brain is whole; {likeness.reason}"

    def _refuse_unseen(self, face: FaceEvidence) -> None:
        """Refuse to call a success what could not be seen: a part of a face without enough skin to follow.

        Raises
        ------
        AnatomyError
            If the landmark network finds such a part in its place in the undefaced scan.
        """
        unjudged = [name for name in recognised_by() if face.share(name) is None]
        if not unjudged:
            return
        whole = self.anatomy.whole
        shown = {mark.name for mark in whole.landmarks if is_in_place(mark, whole.average_to_scan)}
        unseen = [name for name in unjudged if name in shown]
        if unseen:
            msg = (
                f"the original shows {' and '.join(unseen)}, but too little of the skin around it to judge: the "
                "field of view probably ends there; look at the result"
            )
            raise AnatomyError(msg)


def judge(anatomy: HeadAnatomy, defaced: Scan) -> Verdict:
    """Judge one defaced scan, see `Judge.verdict`; for several of one undefaced scan, keep a `Judge`."""
    return Judge(anatomy).verdict(defaced)


def settings() -> Mapping[str, float]:
    """Every constant that decides a verdict besides the scans, by module and name: where one changes, judge again."""
    return {
        f"{module.__name__.removeprefix('efface.')}.{name.lower()}": number
        for module in DECIDING_MODULES
        for name, value in sorted(vars(module).items())
        if name.isupper()
        for name, number in _numbers(name, value)
    }


def _numbers(name: str, value: object) -> list[tuple[str, float]]:
    """A constant as numbers: itself, or its parts numbered."""
    if isinstance(value, bool | int | float):
        return [(name, float(value))]
    if isinstance(value, tuple):
        return [pair for i, part in enumerate(value) for pair in _numbers(f"{name}_{i}", part)]
    return []


def _sentence(brain: BrainEvidence, face: FaceEvidence) -> str:
    """What was found, in one sentence."""
    names = " and ".join(filter(None, [", ".join(face.left[:-1]), *face.left[-1:]]))
    verb = "are" if len(face.left) > 1 or face.left == ("eyes",) else "is"
    left = f"{names} {verb} left" if names else "neither eyes, nose nor mouth are left"
    if face.by:
        left = f"by {face.by} ({left})"
    around = "" if face.changed is None else f" ({face.changed:.0%} of the face's surface moved or vanished)"
    if brain.failed:
        cut = f"{brain.damaged_ml:.2g} ml of brain changed, up to {brain.deepest_mm:.0f} mm deep ({brain.where})"
        return f"{cut}; and the face can be recognised: {left}{around}" if face.failed else cut
    if face.failed:
        return f"the face can be recognised: {left}{around}"
    if face.changed is None:
        return "the brain is whole; the original shows no face"
    return (
        f"the brain is whole and {left}{around}"
        if not face.left
        else f"the brain is whole; {left}, which is not enough to recognise the face{around}"
    )
