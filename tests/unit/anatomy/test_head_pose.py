"""The pose of a head: found whatever the field of view, and refused where nobody could lie like that."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import average_head
from efface.anatomy import head_pose, landmarks, pose_network, templates, upright
from efface.spatial import pose_search
from efface.spatial.affine import apply_affine, invert
from efface.spatial.registration import AffineResult
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, Grid, Volume

RIGHT_MM = 6.0
ROOM_MM = 140.0
NO_BRAIN = Volume(np.zeros((1, 1, 1), np.float32), np.eye(4))


def turned(degrees: float, axis: tuple[float, float, float]) -> Affine:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis) / np.linalg.norm(axis)).as_matrix()
    return pose


def cut_below_vertex(volume: Volume, mm: float) -> Volume:
    """Only what is within so many mm of the top of the average head (z = 88 mm)."""
    first = round(apply_affine(invert(volume.affine), np.array([0.0, 0.0, 88.0 - mm]))[2])
    box = (slice(None), slice(None), slice(first, None))
    return Volume(np.ascontiguousarray(volume.data[box]), volume.grid.cropped(box).affine)


def head_points() -> np.ndarray:
    average = templates.average_head()
    return apply_affine(average.affine, np.argwhere(templates.cranium() & (average.data > 20))[::997])


@functools.cache
def head() -> Volume:
    return average_head.volume(2.0)


def turned_in_its_array(pose: Affine) -> Volume:
    """The average head in a pose, in an array along the world's axes."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -ROOM_MM
    grid = Grid((int(ROOM_MM) + 1,) * 3, affine)
    return Volume(resample(head(), grid, invert(pose)), affine)


@pytest.mark.parametrize("mm", [105.0, 130.0, 155.0])
@pytest.mark.parametrize("degrees", [0.0, 30.0])
def test_a_head_is_found_in_a_field_of_view_that_ends_below_the_brain(mm, degrees):
    pose = turned(degrees, (1.0, 0.4, 0.2))
    seen = cut_below_vertex(head(), mm)
    found = head_pose.find_pose(Volume(seen.data, pose @ seen.affine))
    assert found.converged, found.reason
    assert pose_search.rms_distance_mm(found.matrix, pose, head_points()) < RIGHT_MM


@pytest.mark.parametrize("degrees", [90.0, -90.0])
def test_a_head_that_lies_on_its_side_is_found(degrees):
    pose = turned(degrees, (0.0, 0.0, 1.0))
    found = head_pose.find_pose(Volume(head().data, pose @ head().affine))
    assert found.converged, found.reason
    assert pose_search.rms_distance_mm(found.matrix, pose, head_points()) < RIGHT_MM


@pytest.mark.parametrize(
    "change",
    [
        np.diag([1.0, -1.0, 1.0, 1.0]),
        np.diag([1.0, 1.0, -1.0, 1.0]),
        np.diag([-1.0, -1.0, 1.0, 1.0]),
        np.eye(4)[[0, 2, 1, 3]],
        np.eye(4)[[2, 1, 0, 3]],
    ],
    ids=["y flipped", "z flipped", "x and y flipped", "y and z swapped", "x and z swapped"],
)
def test_a_header_that_lies_is_refused(change):
    found = head_pose.find_pose(Volume(head().data, change @ head().affine))
    assert not found.converged
    assert "header" in found.reason
    assert "correct the header first" in found.reason


def test_a_cylinder_is_no_head():
    grid = np.stack(np.meshgrid(*[np.arange(100) * 2.0 - 100] * 3, indexing="ij"))
    inside = (np.hypot(grid[0], grid[1]) < 75) & (np.abs(grid[2]) < 80)
    noise = np.random.default_rng(0).normal(scale=5, size=inside.shape)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    found = head_pose.find_pose(Volume((inside * 100 + np.abs(noise)).astype(np.float32), affine))
    assert not found.converged
    assert "expected" in found.reason


def test_landmarks_that_are_elsewhere_contradict_a_pose(monkeypatch):
    eye = landmarks.FacialLandmark("eyes", np.array([0.0, -90.0, 40.0]), 6.0, head())
    monkeypatch.setattr(head_pose, "SURE_MM", 0.01)
    found = head_pose.find_pose(head(), lambda _volume, _pose: (eye,))
    assert not found.converged
    assert "eyes" in found.reason


def test_the_network_and_the_registration_must_agree_where_no_landmark_is_in_view(monkeypatch):
    seen = cut_below_vertex(head(), 105.0)
    agreed = head_pose.find_pose(seen, lambda _volume, _pose: ())
    assert agreed.converged, agreed.reason
    off = turned(0.0, (0, 0, 1))
    off[:3, 3] = 60.0
    monkeypatch.setattr(head_pose, "register_near", lambda fixed, moving, _start: agreed)
    monkeypatch.setattr(head_pose, "register_affine", lambda *_args, **_options: agreed)
    found = head_pose.find_pose(seen, lambda _volume, _pose: (), functools.partial(_moved, off))
    assert not found.converged
    assert "apart" in found.reason


@pytest.mark.parametrize(
    ("off_mm", "consistent", "accepted"), [(15.0, 0.9, True), (30.0, 0.9, False), (30.0, 0.6, True)]
)
def test_two_eyes_do_not_overrule_a_network_that_is_sure(monkeypatch, off_mm, consistent, accepted):
    """As in a head that was cut above its eyes: two were seen where a pose 26 mm off has them."""
    in_place = AffineResult(np.eye(4), 0.9, converged=True, reason="", dof=12, starts=1)
    eyes = [landmarks.FacialLandmark("eyes", place, 6.0, head()) for place in head_pose.landmark_places()["eyes"]]
    off = np.eye(4)
    off[0, 3] = off_mm
    monkeypatch.setattr(head_pose, "register_near", lambda *_: in_place)
    monkeypatch.setattr(head_pose, "register_affine", lambda *_args, **_options: in_place)
    monkeypatch.setattr(head_pose, "_consistent_share", lambda *_: consistent)
    look = functools.partial(_moved, off)
    found = head_pose.find_pose(head(), lambda *_: tuple(eyes), look, lambda _: None)
    assert found.converged is accepted
    assert ("apart; expected at most 25 mm" in found.reason) is not accepted


def _moved(off: Affine, volume: Volume) -> pose_network.PosePrediction:
    seen = pose_network.predict(volume)
    return pose_network.PosePrediction(seen.points_mm, apply_affine(off, seen.average_mm), seen.spread_mm, seen.brain)


def test_similarity_is_exact_where_the_coordinates_are_and_ignores_outliers():
    rng = np.random.default_rng(1)
    average = rng.normal(scale=60, size=(500, 3))
    pose = turned(50.0, (0.2, 1.0, 0.3))
    pose[:3, :3] *= 0.9
    pose[:3, 3] = (10, -30, 5)
    points = apply_affine(pose, average)
    points[:80] += rng.normal(scale=100, size=(80, 3))
    seen = pose_network.PosePrediction(points, average, np.full(500, 5.0), NO_BRAIN)
    assert pose_search.rms_distance_mm(head_pose.similarity(seen), pose, average) < 0.5


SIMILARITY_OF_MANY_POINTS = """
import numpy as np
from efface.anatomy import head_pose, pose_network
rng = np.random.default_rng(3)
average = rng.normal(scale=60, size=(40_000, 3))
points = average * 1.1 + rng.normal(scale=3, size=average.shape)
seen = pose_network.PosePrediction(points, average, rng.uniform(1, 9, len(points)), None)
print(head_pose.similarity(seen).tobytes().hex())
"""


def test_the_number_of_threads_does_not_matter():
    found = {
        subprocess.run(
            [sys.executable, "-c", SIMILARITY_OF_MANY_POINTS],
            env={**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1


def test_a_mirror_is_never_fitted():
    rng = np.random.default_rng(2)
    average = rng.normal(scale=60, size=(500, 3))
    seen = pose_network.PosePrediction(average * [-1, 1, 1], average, np.full(500, 5.0), NO_BRAIN)
    assert np.linalg.det(head_pose.similarity(seen)[:3, :3]) > 0


@pytest.mark.parametrize("degrees", [0.0, 70.0])
def test_landmarks_of_a_turned_head_are_found_in_its_own_place(degrees):
    pose = turned(degrees, (0.0, 0.3, 1.0))
    seen = turned_in_its_array(pose)
    found = landmarks.upright_landmarks(seen, pose)
    assert not landmarks.missing(found)
    for eye in (landmark for landmark in found if landmark.name == "eyes"):
        places = head_pose.landmark_places()["eyes"]
        assert min(np.linalg.norm(apply_affine(pose, place) - eye.centre_mm) for place in places) < 10
        _, inside = eye.voxels(seen.grid)
        assert inside.any()


def test_landmarks_do_not_depend_on_how_an_oblique_scan_is_stored():
    """Networks see the array: an oblique affine alone turns nothing in it."""
    pose = turned(40.0, (1.0, 0.3, 0.2))
    straight = landmarks.upright_landmarks(head(), np.eye(4))
    oblique = landmarks.upright_landmarks(Volume(head().data, pose @ head().affine), pose)
    assert [one.name for one in oblique] == [one.name for one in straight]
    for one, other in zip(straight, oblique, strict=True):
        np.testing.assert_allclose(apply_affine(pose, one.centre_mm), other.centre_mm, atol=0.01)
        assert np.array_equal(one.lead.data > 0, other.lead.data > 0)


@pytest.mark.parametrize(
    ("head_deg", "array_deg", "expected"), [(0, 0, False), (10, 0, False), (40, 0, True), (0, 40, True), (40, 40, False)]
)
def test_a_head_is_turned_where_it_is_turned_in_its_array(head_deg, array_deg, expected):
    axis = (1.0, 0.2, 0.1)
    scaled = turned(head_deg, axis) @ np.diag([1.1, 0.9, 1.2, 1.0])
    assert upright.is_turned(scaled, turned(array_deg, axis) @ np.diag([0.9, 1.0, 3.0, 1.0])) is expected


def test_the_upright_grid_holds_the_head_and_leaves_the_empty_corners_out():
    turn = turned(35.0, (1.0, 1.0, 0.0))
    seen = turned_in_its_array(turn)
    around = upright.upright_grid(seen, turn)
    tissue = apply_affine(invert(turn @ around.affine) @ seen.affine, np.argwhere(seen.data > 60))
    assert (tissue > 0).all()
    assert (tissue < np.array(around.shape) - 1).all()
    assert np.prod(around.shape) < 0.6 * np.prod(seen.data.shape)


def test_the_upright_grid_of_an_image_without_a_head_is_that_of_its_field_of_view():
    turn = turned(35.0, (1.0, 1.0, 0.0))
    volume = Volume(np.ones((40, 50, 60), np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    around = upright.upright_grid(volume, turn)
    last = np.array([[0, 0, 0], [39, 49, 59], [39, 0, 59]])
    corners = apply_affine(invert(turn @ around.affine) @ volume.affine, last)
    assert (corners > -1e-6).all()
    assert (corners < np.array(around.shape) - 1 + 1e-6).all()


def test_the_network_says_the_same_twice():
    first, second = (pose_network.predict(head()) for _ in range(2))
    assert np.array_equal(first.average_mm, second.average_mm)


def test_air_below_zero_changes_nothing():
    low = pose_network.predict(Volume(head().data * 3 - 1000, head().affine))
    assert np.allclose(low.points_mm, pose_network.predict(head()).points_mm)
