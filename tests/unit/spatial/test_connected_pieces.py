"""Pieces and holes of masks are those that SciPy finds."""

import numpy as np
import pytest
from scipy import ndimage

from efface.spatial.masks import connected_pieces, filled, largest_component

MASKS = [
    ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(23, 31, 17)), sigma) > level
    for seed, sigma, level in ((0, 1.0, 0.05), (1, 1.5, 0.02), (2, 0.7, 0.2))
]


@pytest.mark.parametrize("mask", [*MASKS, MASKS[0].transpose(2, 0, 1), MASKS[1][::-1, :, ::2]])
@pytest.mark.parametrize("corners", [False, True])
def test_pieces_are_those_of_scipy(mask, corners):
    labels, sizes = connected_pieces(mask, corners=corners)
    expected, count = ndimage.label(mask, np.ones((3, 3, 3)) if corners else None)
    assert len(sizes) == count + 1
    assert sizes[0] == 0
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == count + 1  # each piece is one of SciPy's
    assert np.array_equal(sizes[labels], np.bincount(expected.ravel())[expected] * mask)


def test_the_largest_piece_of_nothing_is_nothing():
    assert not largest_component(np.zeros((4, 5, 6), bool)).any()
    assert largest_component(np.ones((4, 5, 6), bool)).all()


@pytest.mark.parametrize("mask", [~MASKS[0], ~MASKS[1].transpose(1, 2, 0), ~MASKS[2][:, :, ::-2]])
def test_holes_are_those_of_scipy_in_volumes_and_in_slices(mask):
    assert np.array_equal(filled(mask), ndimage.binary_fill_holes(mask))
    assert np.array_equal(filled(mask[:, 3]), ndimage.binary_fill_holes(mask[:, 3]))
