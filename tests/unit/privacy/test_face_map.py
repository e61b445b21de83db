"""Maps of a face: a sphere of known size, holes, specks, the border of the image, and normals."""

import numpy as np
import pytest

from efface.privacy.face_map import (
    CENTRE_MM,
    FURTHEST_MM,
    SHAPE,
    directions,
    face_map,
    face_points,
    filled,
    normals_of,
    points_of,
)
from efface.spatial.types import Volume

RADIUS_MM = 80.0


def ball(mm=2.0, centre=CENTRE_MM, side_mm=340.0):
    """A ball around the place where the rays meet, soft at its edge."""
    count = int(side_mm / mm)
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = np.array(CENTRE_MM) - side_mm / 2
    index = np.moveaxis(np.indices((count, count, count)), 0, -1)
    far = np.linalg.norm(index * mm + affine[:3, 3] - centre, axis=-1)
    return Volume(np.clip((RADIUS_MM - far) / mm + 0.5, 0, 1).astype(np.float32), affine)


def test_a_ball_has_its_radius_along_every_ray():
    radii = face_map(ball(), np.eye(4), 0.5)
    assert radii.shape == SHAPE
    assert np.abs(radii - RADIUS_MM).max() < 0.5


def test_the_pose_moves_the_rays():
    pose = np.eye(4)
    pose[:3, 3] = [3, -4, 5]
    centre = np.array(CENTRE_MM) + pose[:3, 3]
    assert np.abs(face_map(ball(centre=centre), pose, 0.5) - RADIUS_MM).max() < 0.5


def test_where_a_ray_meets_nothing_or_a_border_is_a_hole():
    whole = ball()
    cut = Volume(whole.data[:, :120], whole.affine)  # the border of the image goes through the ball
    radii = face_map(cut, np.eye(4), 0.5)
    assert np.isnan(radii[SHAPE[0] // 2]).any()
    assert np.isfinite(radii[0]).all()
    assert np.isnan(face_map(Volume(np.zeros_like(whole.data), whole.affine), np.eye(4), 0.5)).all()


def test_a_scan_that_lies_elsewhere_shows_nothing():
    pose = np.eye(4)
    pose[:3, 3] = 1000
    assert np.isnan(face_map(ball(), pose, 0.5)).all()


def test_specks_in_the_air_are_no_skin():
    volume = ball()
    volume.data[85:88, 140:143, 85:88] = 1
    assert np.nanmax(face_map(volume, np.eye(4), 0.5)) < RADIUS_MM + 0.5 < FURTHEST_MM


def test_normals_of_a_ball_go_along_the_rays():
    assert normals_of(np.full(SHAPE, RADIUS_MM)) == pytest.approx(directions(), abs=1e-9)


def test_normals_are_those_of_the_surface():
    side, high = np.meshgrid(np.linspace(-1, 1, SHAPE[0]), np.linspace(-1, 1, SHAPE[1]), indexing="ij")
    radii = 90 + 4 * np.sin(3 * side) * np.cos(2 * high)
    points = points_of(radii)
    across = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    assert (across * normals_of(radii)).sum(axis=-1)[1:-1, 1:-1].min() > 0.999


def test_points_leave_out_holes_and_come_in_one_order():
    radii = np.full(SHAPE, RADIUS_MM)
    radii[:, :20] = np.nan
    points = face_points(radii)
    assert len(points) < len(face_points(np.full(SHAPE, RADIUS_MM)))
    assert np.linalg.norm(points - CENTRE_MM, axis=1) == pytest.approx(RADIUS_MM)
    assert (points == face_points(radii)).all()
    half = points[: len(points) // 2]
    assert np.abs(half.mean(axis=0) - points.mean(axis=0)).max() < 5


def test_holes_are_filled_by_what_is_near():
    radii = np.full(SHAPE, RADIUS_MM)
    radii[10:12, 10:12] = np.nan
    assert (filled(radii) == RADIUS_MM).all()
    assert np.isnan(filled(np.full(SHAPE, np.nan))).all()
