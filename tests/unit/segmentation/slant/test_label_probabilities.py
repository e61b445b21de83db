"""Mean label probabilities of overlapping tiles, and their argmax on the scan grid."""

import numpy as np
import pytest
from scipy import ndimage

from efface.segmentation.slant.label_prior import LabelPrior
from efface.segmentation.slant.label_probabilities import (
    NEGLIGIBLE,
    BlockAccumulator,
    LabelProbability,
    one_hot,
    to_scan_grid,
)
from efface.segmentation.slant.preprocessing import standardise
from efface.segmentation.slant.tiling import EMBEDDED, block_in
from efface.segmentation.slant.unet import CLASSES
from efface.spatial.types import Grid
from slant_weights import SMALL, ball, possible_everywhere


def test_labels_come_back_to_where_they_were():
    volume, brain, to_scan = ball()
    head = standardise(volume, brain, to_scan, EMBEDDED.grid)
    labels = np.where(head.brain, 5, 0).astype(np.int32)
    back = to_scan_grid(one_hot(labels), EMBEDDED.grid, to_scan, volume.grid)
    assert 2 * np.count_nonzero((back == 5) & brain) / (np.count_nonzero(back) + brain.sum()) > 0.98


def test_the_label_with_the_largest_interpolated_probability_wins():
    """Against cubic splines through the logarithms of every label's whole volume, in a turned grid of other voxels."""
    rng = np.random.default_rng(4)
    grid = Grid((11, 12, 13), np.diag([2.0, 2, 2, 1]))
    dense = np.stack([ndimage.gaussian_filter(rng.random(grid.shape), 1.2) for _ in range(4)]).astype(np.float32)
    dense = np.exp(12 * (dense - dense.mean()))
    dense /= dense.sum(axis=0)
    turn = np.array([[0.96, -0.28, 0, 7], [0.28, 0.96, 0, -1], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    target = Grid((12, 13, 9), turn @ np.array([[1.1, 0, 0, 3], [0, 1.3, 0, 2], [0, 0, 1.2, 0.4], [0, 0, 0, 1]]))
    whole = tuple(slice(0, n) for n in grid.shape)
    found = to_scan_grid([LabelProbability(i, whole, d) for i, d in enumerate(dense)], grid, turn, target)
    to_index = np.linalg.inv(turn @ grid.affine) @ target.affine
    x, y, z = np.indices(target.shape).reshape(3, -1)
    at = (to_index[:3, :3] @ [x, y, z] + to_index[:3, 3:]).reshape(3, *target.shape)
    expected = np.stack([ndimage.map_coordinates(np.log(d + NEGLIGIBLE), at, order=3, mode="mirror") for d in dense])
    deep = np.all([(a > 1.5) & (a < n - 2.5) for a, n in zip(at, grid.shape, strict=True)], axis=0)
    sure = deep & (np.diff(np.sort(expected, axis=0)[-2:], axis=0)[0] > 0.1)
    assert sure.sum() > 300
    np.testing.assert_array_equal(found[sure], expected.argmax(axis=0)[sure])


def test_labels_outside_their_box_and_outside_the_grid_do_not_come_back():
    grid, scan = Grid((6, 6, 6), np.diag([2.0, 2, 2, 1])), Grid((20, 12, 12), np.eye(4))
    left = (slice(0, 3), slice(0, 6), slice(0, 6))
    found = to_scan_grid([LabelProbability(7, left, np.ones((3, 6, 6), np.float32))], grid, np.eye(4), scan)
    assert (found[:5, :11, :11] == 7).all()
    assert np.count_nonzero(found) == 5 * 11 * 11


def test_a_sheet_of_one_voxel_keeps_its_width_between_voxels():
    """What linear interpolation of probabilities loses: cortex between white matter and fluid."""
    grid = Grid((16, 5, 5), np.diag([2.0, 2, 2, 1]))
    sheet = np.array([0.02] * 7 + [0.3, 0.7, 0.3] + [0.02] * 6, dtype=np.float32)
    rest = (1 - sheet) * (np.arange(16) < 8)
    lines = {0: 1 - sheet - rest, 1: rest, 2: sheet}
    whole = tuple(slice(0, n) for n in grid.shape)
    probabilities = [
        LabelProbability(i, whole, np.tile(v[:, None, None], (1, 5, 5)).astype(np.float32)) for i, v in lines.items()
    ]
    affine = np.diag([0.25, 2, 2, 1])
    affine[0, 3] = 4.0
    found = to_scan_grid(probabilities, grid, np.eye(4), Grid((90, 4, 4), affine))
    linear = np.stack([np.interp(np.arange(90) * 0.125 + 2, np.arange(16), v) for v in lines.values()]).argmax(axis=0)
    width = 0.25 * np.count_nonzero(found[:, 2, 2] == 2)
    assert 0.25 * np.count_nonzero(linear == 2) < width
    assert width == pytest.approx(2.0, abs=0.6)


def tile_probabilities(prior, name, probability):
    """As `CompactWeights.probabilities`: the last label has `probability` in every voxel of a tile."""
    box, found = SMALL.box(name), []
    for number, (block, part) in enumerate(prior.blocks):
        if block_in(block, box):
            rows = np.zeros(part.log_prior.shape, dtype=np.float32)
            rows[:, 0], rows[:, -1] = 1 - probability, probability
            found.append((number, rows))
    return found


def test_probabilities_are_the_mean_of_the_tiles_that_cover_a_voxel():
    prior = possible_everywhere(9)
    mean = BlockAccumulator(prior)
    for position, name in enumerate(SMALL.names):
        mean.add(tile_probabilities(prior, name, 0.55 + 0.05 * position))
    background, label = mean.probabilities()
    assert (background.index, label.index) == (0, 9)
    whole = np.zeros(SMALL.grid.shape)
    whole[label.box] = label.values
    assert whole[0, 0, 0] == pytest.approx(0.55)
    assert whole[8, 10, 6] == pytest.approx(0.55 + 0.05 * 3.5)  # all eight
    np.testing.assert_allclose(background.values + whole, 1, atol=1e-6)


def test_mean_and_argmax_are_those_of_whole_volumes():
    """Against means of volumes of all labels, in a prior that allows different labels in different blocks."""
    rng = np.random.default_rng(6)
    levels = np.zeros((CLASSES, *(n // 2 for n in SMALL.grid.shape)), dtype=np.uint8)
    levels[9, :3], levels[30, 6:, 4:], levels[31, :, :5] = 200, 100, 50
    prior = LabelPrior(SMALL, levels)
    accumulator = BlockAccumulator(prior)
    total, covered = np.zeros((CLASSES, *SMALL.grid.shape)), np.zeros(SMALL.grid.shape)
    for name in SMALL.names[:5]:  # some blocks are in no tile
        found = []
        for number, (box, block) in enumerate(prior.blocks):
            if block_in(box, SMALL.box(name)) is None:
                continue
            rows = rng.random(block.log_prior.shape).astype(np.float32)
            rows /= rows.sum(axis=1, keepdims=True)
            found.append((number, rows))
            at = np.unravel_index(block.voxels.numpy(), [s.stop - s.start for s in box])
            x, y, z = (i + s.start for i, s in zip(at, box, strict=True))
            for column, label in enumerate(block.channels.tolist()):
                total[label, x, y, z] += rows[:, column]
            covered[x, y, z] += 1
        accumulator.add(found)
    expected = total / np.maximum(covered, 1)
    expected[0, covered == 0] = 1
    for box in ((slice(0, 16), slice(0, 20), slice(0, 12)), (slice(3, 13), slice(7, 9), slice(2, 11))):
        for label in (0, 9, 30, 31, 5):
            np.testing.assert_allclose(accumulator.mean(label, box), expected[label][box], atol=1e-6)
    np.testing.assert_array_equal(accumulator.argmax_labels(), expected.argmax(axis=0))


def test_a_label_is_given_only_around_where_it_wins():
    prior = possible_everywhere(9, 30)
    mean = BlockAccumulator(prior)
    found = tile_probabilities(prior, "1_1_1", 0.3)
    number, rows = found[0]  # the block from (0, 0, 0) to (6, 8, 4)
    rows[prior.blocks[number][1].voxels.numpy() == np.ravel_multi_index((5, 5, 3), (6, 8, 4))] = 0.1, 0.7, 0.2
    mean.add(found)
    probabilities = list(mean.probabilities())
    assert [probability.index for probability in probabilities] == [0, 9]
    assert probabilities[1].box == (slice(3, 8), slice(3, 8), slice(1, 6))
    assert probabilities[1].values[2, 2, 2] == pytest.approx(0.7)
