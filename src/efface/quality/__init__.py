"""Quality control: Success, Failure I (face left) or Failure II (brain damaged), with the evidence.

References
----------
Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022), section 3.2.
"""

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.io.scan import Scan
from efface.quality.brain import brain_evidence
from efface.quality.face import face_evidence
from efface.quality.grid_matching import comparable, on_original_grid
from efface.quality.verdict import FACE_FEATURES, BrainEvidence, FaceEvidence, FeatureEvidence, QcClass, Verdict

__all__ = [
    "FACE_FEATURES",
    "BrainEvidence",
    "FaceEvidence",
    "FeatureEvidence",
    "QcClass",
    "Verdict",
    "judge",
]


def judge(anatomy: HeadAnatomy, defaced: Scan) -> Verdict:
    """Judge a defaced scan against its original.

    Parameters
    ----------
    anatomy
        Of the original: brain mask and position of the average head are used.
    defaced
        By any program, on the original's grid or a part of it.

    Raises
    ------
    InputError
        If the two do not lie over each other, or are not the same scan.
    AnatomyError, RegistrationError
        If brain or head were not found in the original.
    """
    after, moved = on_original_grid(anatomy.scan, defaced)
    after, level, scaled = comparable(anatomy, after)
    brain = brain_evidence(anatomy, after, level)
    face, threshold = face_evidence(anatomy, after)
    verdict = QcClass.FAILURE_II if brain.failed else QcClass.FAILURE_I if face.failed else QcClass.SUCCESS
    none = () if face.changed is not None else ("the original shows no eyes, nose or mouth: only its brain was judged",)
    return Verdict(
        verdict,
        max(brain.score, face.score),
        _sentence(brain, face),
        brain,
        face,
        anatomy.average_to_scan,
        threshold,
        (*moved, *scaled, *none),
    )


def _sentence(brain: BrainEvidence, face: FaceEvidence) -> str:
    """What was found, in one sentence."""
    names = " and ".join(filter(None, [", ".join(face.left[:-1]), *face.left[-1:]]))
    verb = "are" if len(face.left) > 1 or face.left == ("eyes",) else "is"
    left = f"{names} {verb} left" if names else "neither eyes, nose nor mouth are left"
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
