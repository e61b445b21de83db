"""What becomes of each image of a session: decided on one reference, carried to the others, checked on each itself.

An image is shared only where its edit ran, the quality check calls it a success, and no face is found in the result.
Everything else is withheld, with the reason. Two things that do not depend on each other must say so wherever an image
is shared as it is: nothing of it lies in the edit, and no face is found in it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from efface.anatomy.background import find_background
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_pose import contradiction
from efface.defacing import Edit, plan
from efface.defacing.propagation import carried_brain, carried_edit, register_to_scan, same_grid
from efface.errors import (
    AnatomyError,
    EffaceError,
    InputError,
    NothingToRemoveError,
    OutputError,
    RegistrationError,
    StrippedError,
)
from efface.privacy.singled_out import judged_among_faces
from efface.quality import Judge, QualityClass
from efface.quality.left_face import FaceAnswer, LeftFace, find_left_face
from efface.share.head_image import HeadImage, are_one_acquisition
from efface.share.records import Became
from efface.spatial.affine import invert
from efface.spatial.registration import AffineResult
from efface.spatial.types import Affine

FACELESS_ML = 2.0
"""So much of the head inside an edit is no face: what is left in a scan that was defaced before, or a border."""
REFERENCES: tuple[tuple[str, str], ...] = (
    ("T1w", ""), ("UNIT1", ""), ("MP2RAGE", "2"), ("T2w", ""), ("FLAIR", ""), ("PDw", ""), ("inplaneT1", ""),
    ("inplaneT2", ""), ("T2starw", ""), ("MP2RAGE", "1"),
)  # fmt: skip
"""Which image of a session decides the edit: the first of these that can be defaced and passes the checks; of several,
that with the smallest largest voxel side, then the largest field of view, then the first name. Suffix and inversion."""
VOTED = "a reviewer voted"


@dataclass(frozen=True, eq=False)
class Decision:
    """What becomes of one image.

    Attributes
    ----------
    outcome
        Defaced, copied or withheld.
    reason
        Why, in one line.
    verdict
        Of the quality check; empty where there was none.
    edit
        What is removed; None where nothing is.
    evidence
        Numbers and words of the checks.
    warnings
        For the user.
    """

    outcome: Became
    reason: str = ""
    verdict: str = ""
    edit: Edit | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Reference:
    """The image that decides the edit of a session."""

    image: HeadImage
    anatomy: HeadAnatomy
    decision: Decision

    @property
    def edit(self) -> Edit:
        """What is removed from it."""
        assert self.decision.edit is not None
        return self.decision.edit


@dataclass(frozen=True, eq=False)
class _Looked:
    """Both checks of one edited image."""

    verdict: str
    why_not: str
    evidence: Mapping[str, Any]
    warnings: tuple[str, ...]


def in_order(images: Sequence[HeadImage]) -> list[HeadImage]:
    """Candidates for the reference, best first; see `REFERENCES`."""

    def rank(image: HeadImage) -> tuple[int, float, float, str]:
        kind = (image.found.suffix, image.found.entities.get("inv", "") if image.found.suffix == "MP2RAGE" else "")
        sides = image.scan.spacing_mm
        volume = float(np.prod(sides * np.array(image.scan.shape)))
        return REFERENCES.index(kind), round(float(sides.max()), 2), -volume, image.found.path

    def is_candidate(image: HeadImage) -> bool:
        inversion = image.found.entities.get("inv", "") if image.found.suffix == "MP2RAGE" else ""
        is_whole = image.series is None and image.shows_magnitudes and image.found.datatype == "anat"
        return is_whole and (image.found.suffix, inversion) in REFERENCES

    return sorted(filter(is_candidate, images), key=rank)


def decide_reference(image: HeadImage, method: str, params: Mapping[str, Any]) -> tuple[HeadAnatomy, Decision]:
    """Deface an image by itself, and check it; withheld where that fails."""
    anatomy = HeadAnatomy(image.scan)
    try:
        edit = plan(anatomy, method, params)
    except (NothingToRemoveError, StrippedError) as error:
        return anatomy, _shared_as_it_is(anatomy, str(error))
    except OutputError:
        raise
    except EffaceError as error:
        return anatomy, Decision(Became.WITHHELD, str(error))
    looked = _look(image, anatomy, edit)
    outcome = Became.WITHHELD if looked.why_not else Became.DEFACED
    warnings = (*anatomy.warnings, *edit.warnings, *looked.warnings)
    return anatomy, Decision(outcome, looked.why_not, looked.verdict, edit, looked.evidence, warnings)


def decide_carried(image: HeadImage, reference: Reference) -> Decision:
    """Carry the edit of the reference to another image of the same person, and check it on that image."""
    theirs = HeadAnatomy(image.scan)
    try:
        to_scan = register_to_scan(reference.anatomy, theirs)
        edit = carried_edit(reference.edit, reference.anatomy, theirs, to_scan, protect_brain=True)
        seen = theirs.prediction  # before `_known`, which takes over what was computed
        known = _known(theirs, reference.anatomy, to_scan)
    except (RegistrationError, AnatomyError, InputError) as error:
        if theirs.shows_brain_alone:
            return _shared_as_it_is(theirs, "the image shows a brain without its head")
        return Decision(Became.WITHHELD, str(error))
    if doubt := contradiction(seen, known.average_to_scan):
        return Decision(Became.WITHHELD, f"the edit is probably in the wrong place: {doubt}", edit=edit)
    if removed_ml(theirs, edit) <= FACELESS_ML:
        decision = _shared_as_it_is(known, "no part of the head in view is inside the edit of the reference")
        if decision.outcome is Became.COPIED:
            return decision
    if not edit.mask.any():
        return Decision(Became.WITHHELD, "the edit of the reference does not reach into this image")
    looked = _look(image, known, edit)
    outcome = Became.WITHHELD if looked.why_not else Became.DEFACED
    warnings = (*theirs.warnings, *edit.warnings, *looked.warnings)
    return Decision(outcome, looked.why_not, looked.verdict, edit, looked.evidence, warnings)


def decide_with(image: HeadImage, others: Sequence[tuple[HeadImage, Decision]]) -> Decision | None:
    """Give an image the edit of another one of the same acquisition, on the same grid; None where there is none.

    Phases, real and imaginary parts show no surface that could be checked: what is checked is the magnitude image.
    """
    for other, decision in others:
        if not are_one_acquisition(image.found, other.found) or not same_grid(image.scan, other.scan):
            continue
        if decision.outcome is Became.WITHHELD:
            return Decision(Became.WITHHELD, f"{other.found.name} of the same acquisition is withheld")
        checked = f"checked on {other.found.name} of the same acquisition and grid"
        if decision.edit is None:
            return Decision(Became.COPIED, f"{decision.reason} ({checked})")
        edit = replace(decision.edit, values=find_background(image.scan).air)
        return Decision(Became.DEFACED, checked, decision.verdict, edit, {"checked_on": other.found.path})
    return None


def fingerprint(image: HeadImage, decision: Decision) -> str:
    """What is or would be shared of an image, in 64 hexadecimal digits: a vote holds as long as it stays the same."""
    total = hashlib.sha256(image.scan.sha256.encode())
    if decision.edit is not None:
        total.update(np.packbits(decision.edit.mask).tobytes())
        total.update(np.asarray(decision.edit.values, np.float32).tobytes())
    return total.hexdigest()


def removed_ml(anatomy: HeadAnatomy, edit: Edit) -> float:
    """How much of a head an edit takes, ml."""
    return float(np.count_nonzero(edit.mask & anatomy.head)) * float(np.prod(anatomy.scan.spacing_mm)) / 1000


def _known(theirs: HeadAnatomy, anatomy: HeadAnatomy, to_scan: Affine) -> HeadAnatomy:
    """The anatomy of another image with pose and brain of the reference; its own brain where that one has none."""
    brain = carried_brain(anatomy, theirs, to_scan)
    pose = AffineResult(invert(to_scan) @ anatomy.average_to_scan, 1.0, True, "", 6, 1)
    return theirs.knowing(brain if brain.any() else None, pose)


def _look(image: HeadImage, anatomy: HeadAnatomy, edit: Edit) -> _Looked:
    """The quality check, and the search for a face in the result; why it is not shared, or nothing."""
    after = image.with_edit(edit)
    evidence: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    verdict, why_not = "", ""
    try:
        judged = judged_among_faces(Judge(anatomy), after)
    except (InputError, AnatomyError, RegistrationError) as error:
        why_not = f"the quality check cannot judge it: {error}"
    else:
        verdict, warnings = judged.verdict.value, judged.warnings
        evidence["quality"] = judged.to_json()
        why_not = "" if judged.verdict is QualityClass.SUCCESS else f"{verdict}: {judged.reason}"
    pose = anatomy.registration if anatomy.registration.converged else None
    left = find_left_face(HeadAnatomy(after, registration=pose))
    evidence["left_face"] = _as_dict(left)
    if not why_not and not left.is_clean:
        why_not = f"a face is looked for in the result: {left.answer.value} ({left.reason})"
    return _Looked(verdict, why_not, evidence, warnings)


def _shared_as_it_is(anatomy: HeadAnatomy, why: str) -> Decision:
    """Copied, where no face is found in an image of which something else says that there is none."""
    left = find_left_face(anatomy)
    evidence = {"left_face": _as_dict(left)}
    if left.answer is FaceAnswer.NO_FACE:
        return Decision(Became.COPIED, f"no face: {left.reason}; {why}", evidence=evidence)
    return Decision(Became.WITHHELD, f"{why}; a face is looked for all the same: {left.answer.value} ({left.reason})",
                    evidence=evidence)  # fmt: skip


def _as_dict(left: LeftFace) -> dict[str, Any]:
    score = None if np.isnan(left.score) else round(left.score, 3)
    return {"answer": left.answer.value, "score": score, "features": list(left.features), "reason": left.reason}
