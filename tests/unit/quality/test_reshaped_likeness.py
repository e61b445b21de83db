"""The face that reshape gives is known again, by its shape alone; other faces and half a way to it are not."""

import numpy as np
import pytest
from scipy import ndimage

import average_head
from efface.anatomy import templates
from efface.defacing import reshape_target
from efface.quality import Judge, QualityClass, left_face, reshaped_likeness
from efface.quality.left_face import FaceAnswer
from efface.quality.reshaped_likeness import ReshapedLikeness
from efface.spatial.types import Volume

BRIGHT = 100.0


def head(signed_mm):
    """A head of one intensity, with the skin where a signed distance is 0, and half the intensity there."""
    shape = templates.prior("face_shape")
    return Volume((BRIGHT * np.clip(0.5 + signed_mm / 4, 0, 1)).astype(np.float32), shape.affine)


def bumpy(mm):
    """The average skin, moved in and out by a smooth random field of so many mm."""
    shape = templates.prior("face_shape").data
    field = ndimage.gaussian_filter(np.random.default_rng(4).standard_normal(shape.shape), 7.0)
    return shape + (mm * field / field.std()).astype(np.float32)


def likeness(signed_mm, pose=None):
    return reshaped_likeness.of(head(signed_mm), np.eye(4) if pose is None else pose, BRIGHT / 2)


def test_a_face_that_is_cut_is_not_known_again_by_what_is_in_view():
    whole = head(templates.prior("face_shape").data)
    z_mm = whole.affine[2, 3] + whole.affine[2, 2] * np.arange(whole.data.shape[2])
    first = int(np.searchsorted(z_mm, -70.0))  # mouth and chin are not in view
    affine = whole.affine.copy()
    affine[2, 3] = z_mm[first]
    found = reshaped_likeness.of(Volume(whole.data[:, :, first:], affine), np.eye(4), BRIGHT / 2)
    assert np.isnan(found.median_mm)
    assert not found.is_average


def test_the_average_shape_is_known_again():
    found = likeness(templates.prior("face_shape").data)
    assert found.is_average
    assert found.median_mm < 0.3
    assert "reshape" in found.reason


def test_it_is_known_from_a_pose_that_is_a_little_off():
    off = np.eye(4)
    off[:3, 3] = (2.0, -2.0, 3.0)
    assert likeness(templates.prior("face_shape").data, off).is_average


def test_another_face_is_not_taken_for_it():
    found = likeness(bumpy(3.0))
    assert not found.is_average
    assert found.median_mm > 0.8


def test_half_the_way_is_not_enough():
    assert not likeness(bumpy(1.5)).is_average


def test_what_could_not_be_measured_is_not_the_average():
    assert not ReshapedLikeness(np.nan, np.nan).is_average


@pytest.mark.parametrize(("off_mm", "answer"), [(0.2, FaceAnswer.AVERAGE_FACE), (1.5, FaceAnswer.FACE)])
def test_an_audit_calls_it_an_average_face(monkeypatch, off_mm, answer):
    anatomy = average_head.anatomy(average_head.person(2).data)
    monkeypatch.setattr(left_face, "part_scores", lambda _: dict.fromkeys(left_face.PARTS, 0.9))
    monkeypatch.setattr(reshaped_likeness, "of", lambda *_: ReshapedLikeness(off_mm, 2 * off_mm))
    monkeypatch.setattr(left_face, "HeadAnatomy", lambda _scan: anatomy)
    found = left_face.find_left_face(anatomy)
    assert found.answer is answer
    assert found.is_clean == (answer is FaceAnswer.AVERAGE_FACE)


@pytest.mark.parametrize(("off_mm", "verdict"), [(0.2, QualityClass.SUCCESS), (1.5, QualityClass.FAILURE_I)])
def test_the_quality_check_takes_it_for_nobodys_face(monkeypatch, off_mm, verdict):
    anatomy = average_head.anatomy(average_head.person(2).data)
    monkeypatch.setattr(reshaped_likeness, "of", lambda *_: ReshapedLikeness(off_mm, 2 * off_mm))
    found = Judge(anatomy).verdict(anatomy.scan)
    assert found.verdict is verdict
    assert (found.score < 0.5) == (verdict is QualityClass.SUCCESS)
    assert ("average shape" in found.reason) == (verdict is QualityClass.SUCCESS)


def test_the_frame_is_that_of_the_method():
    assert reshape_target.FRAME.spacing_mm.tolist() == [2.0, 2.0, 2.0]
