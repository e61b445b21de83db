"""One scan alone, on virtual people: who is left is number 1, who is gone is not compared, another is somewhere."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import average_head
from efface.anatomy.skin import skin_threshold
from efface.errors import InputError
from efface.privacy import face_model as models
from efface.privacy import singled_out as one
from efface.privacy.face_map import CENTRE_MM, SHAPE, face_map, face_points, points_of
from efface.privacy.face_model import FaceModel, as_file_content, face_model, read_model
from efface.privacy.map_fit import MapSurfaces, misfits_mm
from efface.quality import Judge
from efface.spatial.types import Volume


@pytest.fixture(scope="module")
def head():
    return average_head.anatomy()


@pytest.fixture(scope="module")
def faces():
    """Faces that are not in the gallery."""
    return face_model().drawn(6, seed=1)


def rank(left, face):
    found = one.rank_of(np.asarray(left, np.float64), np.asarray(face, np.float64))
    assert found.rank is not None
    assert found.among == 1001
    return found.rank


def test_the_model_ships_and_is_small():
    path = models.Path(models.__file__).parents[1] / "data" / models.FILE
    assert path.stat().st_size < 1.5e6
    assert face_model().mean.shape == SHAPE
    assert face_model().relief.min() > 0


def test_faces_are_the_same_every_time():
    some = face_model().drawn(5)
    assert (some == face_model().drawn(5)).all()
    assert np.abs(some - face_model().drawn(9)[:5]).max() < 1e-3
    assert np.abs(some - face_model().drawn(5, seed=1)).max() > 1


def test_faces_differ_as_people_do():
    some = face_model().drawn(12)
    apart = np.array([misfits_mm(face_points(face), MapSurfaces.of(some)) for face in some])
    assert np.diag(apart).max() < 0.01
    others = apart[~np.eye(len(some), dtype=bool)]
    assert others.min() > 0.7
    assert 1.2 < np.median(others) < 2.5


def test_a_whole_face_is_number_one(faces):
    assert all(rank(face, face) < 1.5 for face in faces)


def test_another_face_is_somewhere(faces):
    ranks = [rank(faces[i], faces[i - 1]) for i in range(len(faces))]
    assert 150 < np.mean(ranks) < 850
    assert min(ranks) > 5


def test_the_mean_face_singles_nobody_out(faces):
    ranks = [rank(face_model().mean, face) for face in faces]
    assert 150 < np.mean(ranks) < 850


def test_half_a_face_is_enough(faces):
    half = faces[0].astype(np.float64)
    half[: SHAPE[0] // 2] = np.nan
    assert rank(half, faces[0]) < 20


def test_a_cut_far_below_every_face_is_nothing_left(faces):
    found = one.rank_of(faces[0] - 40.0, faces[0])
    assert found.rank is None
    assert found.among is None
    assert "nothing is left" in found.sentence


def test_a_fit_undoes_a_move():
    face = face_model().mean
    points = face_points(face)
    turned = (points - CENTRE_MM) @ Rotation.from_rotvec([0.05, -0.05, 0.03]).as_matrix().T + CENTRE_MM + [2, -3, 2]
    apart, together = (misfits_mm(some, MapSurfaces.of(face[None]))[0] for some in (turned, points))
    assert together < 1e-3
    assert apart < 0.25
    assert points_of(face).shape == (*SHAPE, 3)


def test_a_scan_before_and_after(head):
    verdict = one.judged_among_faces(Judge(head), head.scan)
    assert verdict.singled_out is not None
    assert verdict.singled_out.rank == pytest.approx(1, abs=0.5)
    assert "number 1 of 1,001" in verdict.lines()[-1]
    assert verdict.to_json()["singled_out"] == {"rank": 1.0, "among": 1001, "reason": ""}


def test_a_scan_without_its_front(head):
    threshold = skin_threshold(head.image)
    index = np.indices(head.scan.shape)
    y = np.tensordot(head.scan.affine[1, :3], index, 1) + head.scan.affine[1, 3]
    cut = Volume(np.where(y > 40, np.float32(0), head.image.data), head.scan.affine)
    assert one.singled_out(head.image, cut, np.eye(4), threshold).rank is None


def test_an_original_without_a_face_is_not_ranked(head):
    threshold = skin_threshold(head.image)
    top = Volume(head.image.data[:, :, 60:], head.image.grid.cropped((slice(None), slice(None), slice(60, None))).affine)
    found = one.singled_out(top, top, np.eye(4), threshold)
    assert found.rank is None
    assert "original" in found.sentence


def test_the_verdict_does_not_depend_on_the_rank(head):
    judge = Judge(head)
    plain, ranked = judge.verdict(head.scan), one.judged_among_faces(judge, head.scan)
    assert (plain.verdict, plain.score, plain.reason) == (ranked.verdict, ranked.score, ranked.reason)
    assert plain.singled_out is None
    assert "singled_out" not in plain.to_json()


def test_a_model_is_read_as_it_was_written(tmp_path):
    drawn = np.random.default_rng(0).normal(90, 2, (4, *SHAPE))
    model = FaceModel(drawn[0], drawn[1:3] - 90, drawn[3] - 80)
    np.savez_compressed(tmp_path / "model.npz", **as_file_content(model))
    again = read_model(tmp_path / "model.npz")
    assert all(np.abs(getattr(again, name) - getattr(model, name)).max() <= 0.005 for name in models.ARRAYS)


def test_a_file_of_other_shapes_is_refused(tmp_path):
    content = {name: np.zeros((3, 4, 5), np.int16) for name in models.ARRAYS}
    np.savez_compressed(tmp_path / "model.npz", **content)
    with pytest.raises(InputError, match="must hold maps of"):
        read_model(tmp_path / "model.npz")


def test_the_face_of_a_virtual_person_is_complete():
    person = average_head.person(1, mm=3.0)
    radii = face_map(person, np.eye(4), skin_threshold(person))
    assert len(face_points(radii)) > 0.95 * len(face_points(np.full(SHAPE, 90.0)))
