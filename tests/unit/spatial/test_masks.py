"""What is shared about masks and grids."""

import numpy as np
import pytest
from scipy import ndimage

import phantom
from efface.spatial.masks import (
    box_of,
    dilated,
    distance_mm,
    eroded,
    largest_component,
    opened,
    otsu_threshold,
    within_mm,
)
from efface.spatial.types import Grid


def test_the_largest_component_is_kept_and_corners_do_not_connect():
    mask = np.zeros((7, 8, 9), bool)
    mask[1:3, 1:3, 1:3] = True
    mask[3:6, 3:6, 3:6] = True  # touches the other at a corner only
    kept = largest_component(mask)
    assert kept.sum() == 27
    assert kept[4, 4, 4]
    assert not kept[1, 1, 1]


def test_an_empty_mask_stays_empty():
    assert not largest_component(np.zeros((3, 4, 5), bool)).any()


def test_otsu_lies_between_dark_and_bright():
    values = np.concatenate([np.full(600, 10.0), np.full(400, 90.0)]).reshape(10, 10, 10).astype(np.float32)
    assert 10 <= otsu_threshold(values) < 90


@pytest.mark.parametrize(
    "box", [(slice(2, 5), slice(0, 4), slice(3, 9)), (slice(1, 99), slice(None), slice(8, 9)), (slice(3, 3),) * 3]
)
def test_a_cropped_grid_has_its_voxels_where_they_were(box):
    grid = Grid((7, 8, 9), phantom.rotation(20.0) @ np.diag([1.0, 2.0, 3.0, 1.0]))
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    points = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    cropped = grid.cropped(box)
    assert cropped.shape == points[box].shape[:3]
    inside = np.moveaxis(np.indices(cropped.shape), 0, -1)
    np.testing.assert_allclose(inside @ cropped.affine[:3, :3].T + cropped.affine[:3, 3], points[box], atol=1e-12)


def test_a_box_holds_the_mask_and_ends_where_the_volume_does():
    mask = np.zeros((7, 8, 9), bool)
    mask[1, 2:5, 8] = mask[3, 4, 6] = True
    assert box_of(mask) == (slice(1, 4), slice(2, 5), slice(6, 9))
    assert box_of(mask, 2) == (slice(0, 6), slice(0, 7), slice(4, 9))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.94, 0.94, 1.2), (2.0, 1.0, 0.5)])
def test_distances_are_those_of_scipy(spacing):
    mask = np.random.default_rng(3).random((24, 30, 18)) < 0.995
    mask = mask.transpose(2, 0, 1)  # no axis in the order of memory
    expected = ndimage.distance_transform_edt(mask, sampling=spacing)
    found = distance_mm(mask, np.array(spacing))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4
    at = expected > 2
    assert np.array_equal(distance_mm(mask, np.array(spacing), at), found[at])


def test_beyond_the_border_is_not_outside():
    mask = np.ones((5, 6, 7), bool)
    mask[0, 0, 0] = False
    assert distance_mm(mask, np.ones(3))[4, 0, 0] == 4


@pytest.mark.parametrize("mm", [0.0, 2.0, 6.5])
def test_what_is_near_a_mask_is_what_its_distance_says(mm):
    spacing = np.array([0.9, 1.3, 2.0])
    mask = np.zeros((30, 28, 26), dtype=np.bool_)
    mask[0:5, 10:20, 8:12] = True  # it touches a border
    mask[7, 12, 17] = True
    np.testing.assert_array_equal(within_mm(mask, mm, spacing), distance_mm(~mask, spacing) <= mm)


def test_nothing_is_near_an_empty_mask():
    assert not within_mm(np.zeros((4, 5, 6), dtype=np.bool_), 3.0, np.ones(3)).any()


@pytest.mark.parametrize("shape", [(9, 8, 7), (1, 6, 5), (7, 9)])
def test_morphology_is_that_of_scipy(shape):
    mask = np.random.default_rng(sum(shape)).random(shape) < 0.8
    before = mask.copy()
    np.testing.assert_array_equal(dilated(mask), ndimage.binary_dilation(mask))
    np.testing.assert_array_equal(eroded(mask), ndimage.binary_erosion(mask))
    np.testing.assert_array_equal(eroded(mask, at_border=False), ndimage.binary_erosion(mask, border_value=1))
    np.testing.assert_array_equal(opened(mask), ndimage.binary_opening(mask))
    np.testing.assert_array_equal(mask, before)
