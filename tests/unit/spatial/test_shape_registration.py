"""Registration of surfaces by signed distances, on spheres and boxes whose distances are known."""

import numpy as np
import pytest
from scipy import ndimage

from efface.spatial.shape_registration import LEAST_RATIO, register_shapes, unfolded, volume_ratio

SHAPE, MM = (40, 44, 48), 2.0
SIGMAS = (16.0, 16.0, 16.0, 8.0, 8.0, 8.0, 4.0, 4.0, 4.0)


def ball(radius_mm, centre_mm=(38.0, 42.0, 46.0)):
    """Signed distance to a sphere, positive inside."""
    mm = MM * np.indices(SHAPE, dtype=np.float32)
    off = np.sqrt(sum(np.square(axis - c) for axis, c in zip(mm, centre_mm, strict=True)))
    return (radius_mm - off).astype(np.float32)


def moved(moving, displacement):
    index = np.indices(SHAPE) + np.moveaxis(displacement, -1, 0) / MM
    return ndimage.map_coordinates(moving, index, order=1, mode="nearest")


EVERYWHERE = np.ones(SHAPE, np.float32)


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [(ball(24.0), ball(30.0)), (ball(30.0), ball(24.0)), (ball(26.0), ball(26.0, (43.0, 38.0, 49.0)))],
    ids=["smaller", "larger", "shifted"],
)
def test_the_moved_surface_lies_on_the_fixed_one(fixed, moving):
    u = register_shapes(fixed, moving, MM, allowed=EVERYWHERE, sigmas_mm=SIGMAS)
    near = np.abs(fixed) < 1.0
    assert np.abs((moving - fixed)[near]).mean() > 2.0
    assert np.abs((moved(moving, u) - fixed)[near]).max() < 0.6
    assert volume_ratio(u, MM).min() > LEAST_RATIO


def test_equal_shapes_do_not_move():
    assert not register_shapes(ball(24.0), ball(24.0), MM, allowed=EVERYWHERE, sigmas_mm=SIGMAS).any()


def test_what_is_deep_moves_less_than_the_surface():
    u = register_shapes(ball(24.0), ball(30.0), MM, allowed=EVERYWHERE, sigmas_mm=SIGMAS)
    size = np.linalg.norm(u, axis=-1)
    assert size[np.abs(ball(24.0)) < 1].mean() == pytest.approx(6.0, abs=0.5)
    assert size[ball(24.0) > 20].mean() < 2.0


def test_nothing_moves_where_it_is_not_allowed():
    allowed = EVERYWHERE.copy()
    allowed[:, :15] = 0
    u = register_shapes(ball(24.0), ball(30.0), MM, allowed=allowed, sigmas_mm=SIGMAS)
    assert not u[:, :15].any()
    assert u[:, 30:].any()


def test_a_swapped_axis_would_show():
    u = register_shapes(ball(24.0), ball(24.0, (38.0, 42.0, 50.0)), MM, allowed=EVERYWHERE, sigmas_mm=SIGMAS)
    middle = u[np.abs(ball(24.0)) < 2].mean(axis=0)
    assert middle[2] > 1.0
    assert np.abs(middle[:2]).max() < 0.2


@pytest.mark.parametrize("axis", range(3))
def test_the_volume_ratio_is_that_of_a_known_stretch(axis):
    u = np.zeros((*SHAPE, 3), np.float32)
    u[..., axis] = 0.25 * MM * np.indices(SHAPE)[axis]
    np.testing.assert_allclose(volume_ratio(u, MM), 1.25, atol=1e-5)


def test_folds_are_smoothed_out_and_the_rest_is_left():
    u = np.zeros((*SHAPE, 3), np.float32)
    u[20, 22, 24] = (9.0, -9.0, 9.0)
    assert volume_ratio(u, MM).min() < 0
    mended = unfolded(u, MM, np.ones(SHAPE, bool))
    assert volume_ratio(mended, MM).min() >= LEAST_RATIO
    assert np.array_equal(mended[:8], u[:8])
