"""Affines and boxes, against their definitions."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import phantom
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import box_corners, covering_box

MATRIX = phantom.rotation(25.0) @ np.diag([1.0, -2.0, 3.0, 1.0])


def test_points_of_any_shape_are_mapped_as_nibabel_maps_them():
    points = np.random.default_rng(0).normal(size=(4, 5, 3))
    np.testing.assert_allclose(apply_affine(MATRIX, points), nib.affines.apply_affine(MATRIX, points))
    np.testing.assert_allclose(apply_affine(MATRIX, points[0, 0]), nib.affines.apply_affine(MATRIX, points[0, 0]))


def test_the_inverse_undoes_the_affine():
    points = np.random.default_rng(1).normal(size=(7, 3))
    np.testing.assert_allclose(apply_affine(invert(MATRIX), apply_affine(MATRIX, points)), points)


def test_a_box_has_eight_different_corners():
    corners = box_corners((0, 1, 2), (3, 5, 8))
    assert len({tuple(corner) for corner in corners}) == 8
    assert corners.min(axis=0).tolist() == [0, 1, 2]
    assert corners.max(axis=0).tolist() == [3, 5, 8]


@given(
    st.lists(st.tuples(*[st.floats(-5, 30)] * 3), min_size=1, max_size=8),
    st.sampled_from([0.0, 1.5]),
    st.sampled_from([1, 2]),
)
def test_every_point_on_the_grid_lies_in_the_box_and_the_box_on_the_grid(points, room, at_least):
    shape = (20, 21, 22)
    box = covering_box(np.array(points), shape, room_vox=room, at_least=at_least)
    for part, size in zip(box, shape, strict=True):
        assert 0 <= part.start < part.stop <= size
        assert part.stop - part.start >= at_least
    for point in points:
        if all(0 <= value <= size - 1 for value, size in zip(point, shape, strict=True)):
            assert all(part.start <= value <= part.stop - 1 for part, value in zip(box, point, strict=True))


@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_points_off_the_grid_give_an_empty_box_where_that_is_allowed(shift):
    box = covering_box(np.array([[shift, 5.0, 5.0]]), (20, 20, 20), at_least=0)
    assert box[0].start == box[0].stop
