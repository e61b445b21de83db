"""A surface is fitted back after a known move, whatever was cut off; another surface is not."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from efface.privacy.closest_fit import FURTHEST_MM, Target, misfit_mm
from efface.privacy.skin_points import CELLS, SkinPoints, cells_of


def ball(radii, count=9000):
    """An ellipsoid, points in random order."""
    directions = np.random.default_rng(99).standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    normals = directions / radii
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return SkinPoints(directions * radii, normals, np.ones(count, bool), np.ones(CELLS, bool))


ONE, OTHER = ball((60.0, 85.0, 72.0)), ball((66.0, 80.0, 70.0))


def moved(points, deg=8.0, mm=6.0):
    turn = Rotation.from_rotvec(np.deg2rad(deg) * np.array([1, 2, 3]) / np.sqrt(14)).as_matrix()
    return points @ turn.T + [mm, -mm / 2, mm / 3]


@pytest.fixture(scope="module")
def target():
    return Target.of(ONE)


def test_a_moved_surface_is_fitted_back(target):
    assert misfit_mm(moved(ONE.points[::2]), target) < 0.15


def test_another_surface_is_not(target):
    assert misfit_mm(OTHER.points[::2], target) > 0.8


def test_a_cut_that_takes_a_tenth_of_the_points_costs_nothing(target):
    points = moved(ONE.points[::2])
    points[points[:, 1] > 50, 1] = 50 - 15.0
    assert misfit_mm(points, target) < 0.3


def test_a_residual_counts_up_to_a_limit(target):
    far = ONE.points[:3000] * [0.3, 0.3, 0.3]
    assert misfit_mm(far, target) <= FURTHEST_MM


def test_the_same_points_give_the_same_number(target):
    points = moved(OTHER.points[::2])
    assert misfit_mm(points, target) == misfit_mm(points, target)


def cut(skin, lowest):
    """What a scan shows whose field of view begins at a height, mm."""
    in_view = skin.in_view.copy()
    in_view[:, :, : cells_of(np.array([[0.0, 0.0, lowest]]))[0, 2]] = False
    shown = skin.points[:, 2] >= lowest
    return SkinPoints(skin.points[shown], skin.normals[shown], skin.from_front[shown], in_view)


def test_what_the_other_scan_does_not_show_is_no_misfit():
    target = Target.of(cut(ONE, -30.0))
    assert misfit_mm(moved(ONE.points[::2]), target) < 0.15
    assert misfit_mm(OTHER.points[::2], target) > 0.6


def test_what_it_shows_as_air_is_a_misfit():
    cut_off = cut(ONE, -30.0)
    shown_air = SkinPoints(cut_off.points, cut_off.normals, cut_off.from_front, ONE.in_view)
    assert misfit_mm(moved(ONE.points[::2]), Target.of(shown_air)) > 0.6


def test_a_scan_that_shows_less_than_half_of_the_points_fits_not_at_all():
    assert misfit_mm(ONE.points[::2], Target.of(cut(ONE, 10.0))) == FURTHEST_MM
