"""Is a face left in an image? Asked of the image alone, by whatever program it was defaced, and without its original.

The head's pose is found, the relief of its front is laid over the average head's, and each part of a face - the eyes,
the nose, the mouth - is looked for by a small network (`efface.quality.relief_network`). A face of which one part is
left is a face. A face like the average one in shape, too smooth to be anybody's, is what mri_reface leaves; one that
lies on the average shape with real tissue is what reshape leaves. What cannot be judged is said to be so: it is never
called clean.

References
----------
Schwarz et al. "Changing the face of neuroimaging research: Comparing a new MRI de-facing technique with popular
alternatives." NeuroImage 231 (2021) 117845 (mri_reface).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import skin_threshold
from efface.errors import AnatomyError, InputError, RegistrationError
from efface.quality import average_likeness, reshaped_likeness
from efface.quality.face_parts import IN_VIEW, PARTS, in_view
from efface.quality.relief import Relief, find_relief
from efface.quality.scan_pose import ScanPose, pose_of
from efface.spatial.types import BoolVolume, Volume

FOUND = 0.5
"""Score of a part from which it counts as left."""
LEFT_LOGIT = 0.0
"""The network's logit that is this score."""
HALF = 0.5
"""Where the surface of a mask is."""
CLEAR, CLEAR_PARTS = 0.9, 2
"""Where the pose is not sure, a face is one only with so many parts of such a score."""


class FaceAnswer(StrEnum):
    """What an image was found to show."""

    FACE = "face"
    NO_FACE = "no face"
    AVERAGE_FACE = "average face"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class LeftFace:
    """The answer for one image, with what led to it.

    Attributes
    ----------
    answer
        Anything but `FaceAnswer.NO_FACE` and `FaceAnswer.AVERAGE_FACE` needs a look.
    score
        How surely the part of a face that stands out most is left, 0 to 1; a face from 0.5 on. NaN where nothing could
        be measured.
    features
        The parts that are left, of ``right eye``, ``left eye``, ``nose``, ``mouth``; empty unless a face was found.
    reason
        One plain sentence.
    """

    answer: FaceAnswer
    score: float
    features: tuple[str, ...]
    reason: str

    @property
    def is_clean(self) -> bool:
        """Whether nobody can be recognised by the face in this image."""
        return self.answer in (FaceAnswer.NO_FACE, FaceAnswer.AVERAGE_FACE)


def find_left_face(anatomy: HeadAnatomy) -> LeftFace:
    """Look for a face in one image.

    Parameters
    ----------
    anatomy
        Of the image that is judged. A given registration is used; without one the pose is found anew.

    Returns
    -------
    LeftFace
        ``cannot tell`` where no head stands out, its pose cannot be confirmed, or too little of it is in view.
    """
    try:
        if anatomy.shows_brain_alone:
            return LeftFace(FaceAnswer.NO_FACE, 0.0, (), "the image shows a brain without its head")
        found = _judged(anatomy.whole, pose_of(anatomy))
        if found.answer is FaceAnswer.FACE and anatomy.was_registered:
            # An average face fits the average head best in the pose of the image itself, not in its original's.
            again = HeadAnatomy(anatomy.scan)
            other = _judged(again.whole, pose_of(again))
            return other if other.answer is FaceAnswer.AVERAGE_FACE else found
        return found
    except (AnatomyError, RegistrationError, InputError) as error:
        return _cannot_tell(str(error))


def find_face_in_mask(mask: BoolVolume, anatomy: HeadAnatomy) -> LeftFace:
    """Look for a face in the surface of a mask: of what it marks, and of what it leaves.

    Parameters
    ----------
    mask
        Shape (x, y, z), on the grid of the image.
    anatomy
        Of the defaced image that the mask goes with; its pose is used.

    Returns
    -------
    LeftFace
        ``cannot tell`` where the pose of the image is not certain.
    """
    try:
        pose = pose_of(anatomy)
    except (AnatomyError, RegistrationError, InputError) as error:
        return _cannot_tell(f"the image that this mask goes with cannot be judged: {error}")
    if pose.doubt:
        return _cannot_tell(f"it is not certain how the head lies in the image that this mask goes with: {pose.doubt}")
    best = 0.0
    left: tuple[str, ...] = ()
    for region in (mask, ~mask):
        solid = Volume(region.astype(np.float32), anatomy.scan.affine)
        scores = part_scores(find_relief(solid, pose.average_to_scan, HALF))
        best = max([best, *scores.values()])
        left = left or tuple(part for part, score in scores.items() if score >= FOUND)
    if left:
        return LeftFace(FaceAnswer.FACE, best, left, f"the mask follows the skin: {_listed(left)} left in its surface")
    return LeftFace(FaceAnswer.NO_FACE, best, (), "a mask, in whose surface neither eyes, nose nor mouth are seen")


def part_scores(relief: Relief) -> dict[str, float]:
    """How surely each part of a face that is in view is left, 0 to 1; 0.5 from `LEFT_LOGIT` on."""
    from efface.quality.relief_network import part_logits  # torch is loaded only where it is needed

    logits = part_logits(relief.depth[None])[0]
    scores = 1 / (1 + np.exp(LEFT_LOGIT - logits))
    seen = [in_view(relief, part) >= IN_VIEW for part in PARTS]
    return {part: float(score) for part, score, is_seen in zip(PARTS, scores, seen, strict=True) if is_seen}


def _judged(whole: HeadAnatomy, pose: ScanPose) -> LeftFace:
    threshold = skin_threshold(whole.image)
    relief = find_relief(whole.image, pose.average_to_scan, threshold)
    scores = part_scores(relief)
    left = tuple(part for part, score in scores.items() if score >= FOUND)
    unseen = tuple(part for part in PARTS if part not in scores)
    best = max(scores.values(), default=0.0)
    if pose.doubt:
        clear = [part for part in left if scores[part] >= CLEAR]
        if len(clear) >= CLEAR_PARTS:
            return LeftFace(FaceAnswer.FACE, best, left, f"{_listed(left)} left, though {pose.doubt}")
        return LeftFace(FaceAnswer.CANNOT_TELL, best, (), f"it is not certain how the head lies: {pose.doubt}")
    if left:
        likeness = average_likeness.of(relief, whole.image, pose.average_to_scan, threshold)
        if likeness.is_average:
            return LeftFace(FaceAnswer.AVERAGE_FACE, best, left, likeness.reason)
        reshaped = reshaped_likeness.of(whole.image, pose.average_to_scan, threshold)
        if reshaped.is_average:
            return LeftFace(FaceAnswer.AVERAGE_FACE, best, left, reshaped.reason)
        return LeftFace(FaceAnswer.FACE, best, left, f"{_listed(left)} left")
    if not unseen:
        return LeftFace(FaceAnswer.NO_FACE, best, (), "neither eyes, nose nor mouth are left")
    return _unseen(relief, best, unseen)


def _unseen(relief: Relief, best: float, unseen: tuple[str, ...]) -> LeftFace:
    """No part was found among those in view, and some are out of view."""
    partly = [part for part in unseen if in_view(relief, part) > 1 - IN_VIEW]
    if partly:
        reason = f"{_listed(tuple(partly))} cut by the border of the image: too little to judge"
        return LeftFace(FaceAnswer.CANNOT_TELL, best, (), reason)
    reason = f"{_listed(unseen)} outside the field of view, and no other part of a face is left"
    return LeftFace(FaceAnswer.NO_FACE, best, (), reason)


def _cannot_tell(reason: str) -> LeftFace:
    return LeftFace(FaceAnswer.CANNOT_TELL, float("nan"), (), reason)


def _listed(parts: tuple[str, ...]) -> str:
    """Parts in words, with their verb."""
    words = " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
    return f"{words} {'are' if len(parts) > 1 else 'is'}"
