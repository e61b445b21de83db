"""The network for the whole brain: its files, and that its scores are where and what they should be."""

import json

import numpy as np
import pytest
import torch

import state_dicts
from efface.errors import InputError
from efface.segmentation.labels import MIRRORED
from efface.segmentation.slant.millimetre_unet import CLASSES, SCORES, MillimetreUNet
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.pipeline import open_weights
from efface.segmentation.slant.sparse_probabilities import voxel_numbers
from efface.segmentation.slant.weights_folder import EMBEDDED_WHOLE_BRAIN
from efface.segmentation.slant.whole_weights import WholeBrainWeights, read_whole_card, save_whole_brain

NARROW = (8, 8, 8, 8, 8)
SHAPE = (48, 32, 16)
TO_TEMPLATE = np.array([[1.0, 0, 0, -23.5], [0, 1, 0, -30], [0, 0, 1, 5], [0, 0, 0, 1]])


@pytest.fixture
def folder(tmp_path):
    """A network with random numbers."""
    torch.manual_seed(5)
    network = MillimetreUNet(NARROW)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    save_whole_brain(tmp_path, network.state_dict(), {"fold": 3})
    return tmp_path


@pytest.fixture
def brain():
    rng = np.random.default_rng(1)
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[5:40, 4:27, 3:14] = True
    return np.where(mask, rng.normal(size=SHAPE), 0).astype(np.float32), mask


def scores_by_voxel(weights, z, mask, to_template=TO_TEMPLATE, **options):
    """Scores of all voxels, shape (x, y, z, SCORES); nan where there are none."""
    found = torch.full((z.size, SCORES), torch.nan)
    numbers = voxel_numbers(z.shape).long()
    for chunk in weights.scores(z, mask, to_template, **options):
        assert torch.isnan(found[numbers[chunk.cells]]).all()  # no cell comes twice
        found[numbers[chunk.cells]] = chunk.scores
    return found.view(*z.shape, SCORES).numpy()


def test_scores_are_those_of_the_trained_network(folder, brain):
    """Folded, in slabs and chunks, or as in training: the same scores in the same voxels."""
    z, mask = brain
    found = scores_by_voxel(WholeBrainWeights(folder), z, mask)
    network = MillimetreUNet(NARROW)
    stored = torch.load(folder / "whole_brain.pt", weights_only=True)
    network.load_state_dict({key: value.float() for key, value in stored.items()}, strict=False)
    image = torch.from_numpy(np.stack([np.where(mask, z, -4), mask]).astype(np.float32))[None]
    index = np.moveaxis(np.indices((24, 16, 8)), 0, -1) * 2 + 0.5
    mm = index @ TO_TEMPLATE[:3, :3].T + TO_TEMPLATE[:3, 3]
    position = torch.from_numpy(np.moveaxis((mm - [0, -18, 8]) / 80, -1, 0).astype(np.float32))[None]
    with torch.no_grad():
        cells, voxels, _ = network.eval().features(image, position)
        expected = network.scores(cells, voxels, torch.arange(24 * 16 * 8))
    by_voxel = np.empty((int(np.prod(SHAPE)), SCORES), np.float32)
    by_voxel[voxel_numbers(SHAPE).numpy()] = expected.numpy()
    by_voxel = by_voxel.reshape(*SHAPE, SCORES)
    np.testing.assert_allclose(found[mask][:, :CLASSES], by_voxel[mask][:, :CLASSES], atol=1e-3)
    assert (found[mask][:, CLASSES:] < -9000).all()


def test_cells_beside_the_mask_have_scores_where_asked(folder, brain):
    z, mask = brain
    weights = WholeBrainWeights(folder)
    alone = ~np.isnan(scores_by_voxel(weights, z, mask, beside=0)[..., 0])
    beside = ~np.isnan(scores_by_voxel(weights, z, mask)[..., 0])
    expected = np.zeros(SHAPE, dtype=np.bool_)
    expected[4:40, 4:28, 2:14] = True
    np.testing.assert_array_equal(alone, expected)
    expected[2:42, 2:30, 0:16] = True
    np.testing.assert_array_equal(beside, expected)


def test_the_mirror_image_has_the_mirrored_labels(folder, brain):
    z, mask = brain
    weights = WholeBrainWeights(folder)
    across = TO_TEMPLATE.copy()
    across[0, 3] = -(TO_TEMPLATE[0, 3] + SHAPE[0] - 1)  # the template's midline stays where it is in the head
    plain = scores_by_voxel(weights, z, mask, mirror=True)[mask][:, :CLASSES]
    swapped = scores_by_voxel(weights, z[::-1].copy(), mask[::-1].copy(), across, mirror=True)
    np.testing.assert_allclose(swapped[::-1][mask][:, MIRRORED], plain, atol=1e-4)
    once = torch.from_numpy(scores_by_voxel(weights, z, mask)[mask][:, :CLASSES]).log_softmax(dim=-1)
    assert np.abs(once.numpy() - plain).max() > 0.1


def test_the_number_of_threads_does_not_matter():
    rng = np.random.default_rng(2)
    mask = np.ones((32, 48, 32), dtype=np.bool_)
    z = rng.normal(size=mask.shape).astype(np.float32)
    weights = open_weights(SlantParams())
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(scores_by_voxel(weights, z, mask))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_embedded_network_says_what_it_has_not_seen():
    _, training = read_whole_card(EMBEDDED_WHOLE_BRAIN)
    assert {"manual_sub-1005_ses-1", "manual_sub-1128_ses-1", "dlmuse_sub-14"} <= set(training["held_out"])
    assert min(training["dice_held_out"]["plain"].values()) > 0.75
    assert (EMBEDDED_WHOLE_BRAIN / "whole_brain.pt").stat().st_size < 17e6


def test_files_of_two_trainings_are_refused(folder):
    card = json.loads((folder / "card.json").read_text())
    card["widths"][1] = 16
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"whole_brain.pt: tensor .* must have shape .*; received .*: use the network"):
        WholeBrainWeights(folder)


@pytest.mark.parametrize("widths", [[8] * 4, [8, 8, 8, 8, 100000], [8, 8, 8, 8, True], "wide", None])
def test_a_card_that_asks_for_strange_widths_is_refused(folder, widths):
    (folder / "card.json").write_text(json.dumps({"format": 1, "widths": widths, "training": {}}))
    with pytest.raises(InputError, match=r"SLANT weights .*card.json cannot be read \(.*\): expected a model card"):
        read_whole_card(folder)


def test_damaged_networks_are_one_line(folder):
    path = folder / "whole_brain.pt"
    raw = path.read_bytes()
    for content in (raw[: len(raw) // 2], b"", state_dicts.saved({"fine.0.weight": torch.ones(3)})):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"^SLANT weights \S*whole_brain.pt[^\n]*$"):
            WholeBrainWeights(folder)


def test_a_negative_variance_is_refused(folder):
    state = torch.load(folder / "whole_brain.pt", weights_only=True)
    state["last.1.running_var"][0] = -1
    (folder / "whole_brain.pt").write_bytes(state_dicts.saved(state))
    with pytest.raises(InputError, match="hold a negative variance: use the files of one training"):
        WholeBrainWeights(folder)
