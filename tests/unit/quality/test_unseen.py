"""A part of a face that the original shows, but that cannot be judged, is never called a success."""

from types import SimpleNamespace

import numpy as np
import pytest

import average_head
from efface.anatomy.head_pose import landmark_places
from efface.anatomy.landmarks import FacialLandmark
from efface.errors import AnatomyError
from efface.quality import FACE_FEATURES, FaceEvidence, FeatureEvidence, Judge

UNSEEN = FeatureEvidence(None, None, None, 0.0, None)
GONE = FeatureEvidence(True, 1.0, 12.0, 9.0, (0.0, 0.0, 0.0))


def evidence(unseen: str) -> FaceEvidence:
    parts = {part: UNSEEN if name == unseen else GONE for name, parts in FACE_FEATURES.items() for part in parts}
    return FaceEvidence(False, 0.0, 1.0, (), parts)


def judge(*marks: FacialLandmark) -> Judge:
    one = Judge.__new__(Judge)
    one.anatomy = SimpleNamespace(whole=SimpleNamespace(landmarks=marks, average_to_scan=np.eye(4)))
    return one


def landmark(name: str, shift_mm: float) -> FacialLandmark:
    return FacialLandmark(name, landmark_places()[name][0] + [0, shift_mm, 0], 5.0, average_head.volume(4.0))


@pytest.mark.parametrize("name", ["eyes", "nose", "mouth"])
def test_a_part_that_is_there_and_cannot_be_judged_is_refused(name):
    with pytest.raises(AnatomyError, match=f"shows {name}, but too little of the skin"):
        judge(landmark(name, 2.0))._refuse_unseen(evidence(name))


def test_a_part_that_is_nowhere_or_elsewhere_is_not_missed():
    judge()._refuse_unseen(evidence("mouth"))
    judge(landmark("mouth", 80.0))._refuse_unseen(evidence("mouth"))


def test_a_part_that_was_judged_is_not_asked_for():
    judge(landmark("nose", 0.0))._refuse_unseen(evidence("mouth"))
