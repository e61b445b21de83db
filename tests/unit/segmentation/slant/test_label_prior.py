"""The spatial label prior: interpolation, possible labels, and its file."""

import numpy as np
import pytest
from scipy import ndimage

from efface.errors import InputError
from efface.segmentation.slant.label_prior import LOG_FLOOR, LabelPrior, build_label_prior, load_label_prior
from efface.segmentation.slant.tiling import EMBEDDED, block_in
from efface.segmentation.slant.unet import (
    CLASSES,
)
from slant_weights import SMALL, counts


def test_frequencies_of_a_tile_are_the_interpolated_logarithms():
    prior = build_label_prior(counts(), EMBEDDED)
    tile = prior.tile("2_2_2")
    dense = prior.levels.astype(np.float64) / 255
    box = EMBEDDED.box("2_2_2")
    position = np.stack(np.unravel_index(tile.voxels.numpy(), EMBEDDED.tile_shape)) + [[s.start] for s in box]
    for column, channel in enumerate(tile.channels.tolist()):
        expected = LOG_FLOOR * (
            1 - ndimage.map_coordinates(dense[channel], (position - 0.5) / 2, order=1, mode="nearest")
        )
        np.testing.assert_allclose(tile.log_prior[:, column], expected, atol=1e-4)


def test_frequencies_keep_only_what_is_possible():
    prior = build_label_prior(counts(), EMBEDDED)
    assert prior.tile("3_3_3").channels.tolist() == [0, 90]
    assert prior.tile("1_1_1").channels.tolist() == [0, 7]
    assert prior.tile("2_2_2").channels.tolist() == [0, 7, 90]
    assert len(prior.tile("3_3_3").voxels) < 20_000
    assert np.exp(prior.tile("1_1_1").log_prior.numpy()).sum(axis=1).max() < 1.1


def test_frequencies_survive_the_file(tmp_path):
    prior = build_label_prior(counts(), EMBEDDED)
    (tmp_path / "label_prior.npz").write_bytes(prior.to_bytes())
    np.testing.assert_array_equal(load_label_prior(tmp_path / "label_prior.npz", EMBEDDED).levels, prior.levels)
    with pytest.raises(InputError, match=r"would unpack to \d+ bytes, at most \d+ can be right"):
        load_label_prior(tmp_path / "label_prior.npz", SMALL)
    with pytest.raises(InputError, match="cannot be read"):
        load_label_prior(tmp_path / "nothing.npz", EMBEDDED)


def test_heads_are_not_mirrored_where_labels_lie_unevenly():
    assert not build_label_prior(counts(), EMBEDDED).symmetric


def test_a_block_holds_what_its_tile_holds_there():
    prior = build_label_prior(counts(), EMBEDDED)
    tile, box = prior.tile("2_2_2"), EMBEDDED.box("2_2_2")
    dense = np.full((*EMBEDDED.tile_shape, CLASSES), LOG_FLOOR, dtype=np.float32)
    dense.reshape(-1, CLASSES)[np.ix_(tile.voxels.numpy(), tile.channels.numpy())] = tile.log_prior.numpy()
    covered = [(block_in(block, box), part) for block, part in prior.blocks if block_in(block, box)]
    assert covered
    for inside, part in covered:
        rows = dense[inside].reshape(-1, CLASSES)[part.voxels.numpy()]
        np.testing.assert_allclose(rows[:, part.channels.numpy()], part.log_prior.numpy(), atol=1e-4)
    assert sum(len(part.voxels) for _, part in covered) == len(tile.voxels)


def test_a_tile_of_another_geometry_is_refused():
    with pytest.raises(InputError, match="no tile"):
        LabelPrior(EMBEDDED, np.zeros((CLASSES, 43, 55, 39), np.uint8)).tile("9_9_9")
