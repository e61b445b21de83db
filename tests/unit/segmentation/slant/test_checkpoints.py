"""Weights on disk, published and our own, and what they predict in a tile."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from efface.errors import InputError
from efface.segmentation.labels import MIRRORED
from efface.segmentation.slant.checkpoints import (
    CompactWeights,
    ModelCard,
    PublishedWeights,
    read_card,
    save_compact,
    write_card,
)
from efface.segmentation.slant.label_prior import build_label_prior
from efface.segmentation.slant.tiling import EMBEDDED
from efface.segmentation.slant.unet import (
    CLASSES,
    COMPACT_ARCHITECTURE,
    TileNet,
)
from slant_weights import SMALL, TINY, TINY_COMPACT, counts, official_state, write_official

TRAININGS = Path(__file__).parents[4] / "training" / "slant"


def test_tiles_enter_the_published_network_with_z_first(tmp_path, monkeypatch):
    write_official(tmp_path, official_state(TINY))
    seen = {}

    def network(batch):
        seen["batch"] = batch
        scores = torch.zeros(1, CLASSES, *batch.shape[2:])
        scores[0, 5, 1, 2, 3] = 1  # z, x, y
        return scores

    monkeypatch.setattr("efface.segmentation.slant.checkpoints.load_published", lambda *_: network)
    tile = np.zeros(SMALL.tile_shape, np.float32)
    tile[2, 3, 1], tile[0, 0, 0] = 8, -2
    labels = PublishedWeights(tmp_path, TINY, SMALL).predict("1_1_1", tile)
    assert seen["batch"][0, 0, 1, 2, 3] == 255
    assert seen["batch"].min() == 0
    assert np.argwhere(labels == 5).tolist() == [[2, 3, 1]]


def test_weights_may_lie_as_in_the_published_container(tmp_path):
    for name in SMALL.names:
        path = tmp_path / name / "finetune_out/models/model_epoch_0027.pth"
        path.parent.mkdir(parents=True)
        path.touch()
    assert PublishedWeights(tmp_path, TINY, SMALL).files["2_1_2"].name == "model_epoch_0027.pth"


def test_a_file_that_is_no_state_dict_is_one_line(tmp_path):
    for name in SMALL.names:
        (tmp_path / f"{name}.pth").write_bytes(b"not torch")
    with pytest.raises(InputError, match=r"1_1_1.pth cannot be read") as caught:
        PublishedWeights(tmp_path, TINY, SMALL).predict("1_1_1", np.zeros(SMALL.tile_shape, np.float32))
    assert "\n" not in str(caught.value)


def test_our_weights_are_half_precision_and_fall_back_on_the_pooled_network(compact):
    model = CompactWeights(compact)
    special = TileNet(TINY_COMPACT)
    save_compact(compact / "1_1_1.pt", special.state_dict())
    assert torch.equal(model.network("1_1_1").head.weight, special.head.weight.half().float())
    assert model.network("1_1_2").head.weight.abs().sum() == 0
    assert torch.load(compact / "1_1_1.pt", weights_only=True)["trust"].dtype == torch.float16


def cut_short(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "card.json").unlink(), "card.json cannot be read"),
        (lambda f: (f / "card.json").write_text('{"format": 9}'), "format 9; expected 1"),
        (lambda f: (f / "card.json").write_bytes(b"\xff\xfe"), "card.json cannot be read"),
        (lambda f: (f / "label_prior.npz").write_bytes(b"x"), "label_prior.npz cannot be read"),
        (lambda f: cut_short(f / "label_prior.npz", 1000), "label_prior.npz cannot be read"),
        (lambda f: cut_short(f / "label_prior.npz", 0), "label_prior.npz cannot be read"),
        (lambda f: (f / "pooled.pt").unlink(), "pooled.pt cannot be read"),
        (lambda f: save_compact(f / "pooled.pt", {}), "tensor trust must have shape .*nothing"),
    ],
)
def test_damaged_weights_are_one_line(compact, damage, message):
    damage(compact)
    with pytest.raises(InputError, match=message) as caught:
        CompactWeights(compact).predict("2_2_2", np.zeros(EMBEDDED.tile_shape, np.float32))
    assert "\n" not in str(caught.value)


def test_a_mirrored_tile_is_what_the_other_side_holds_of_the_mirrored_head(tmp_path):
    torch.manual_seed(5)
    levels = counts()
    prior = build_label_prior(levels + levels[MIRRORED, ::-1], EMBEDDED)
    assert prior.symmetric
    write_card(tmp_path, ModelCard(TINY_COMPACT, (), stripped=False, training={}))
    (tmp_path / "label_prior.npz").write_bytes(prior.to_bytes())
    for name in ("1_2_3", "3_2_3"):
        save_compact(tmp_path / f"{name}.pt", TileNet(TINY_COMPACT).state_dict())
    model = CompactWeights(tmp_path)
    tile = np.random.default_rng(0).normal(size=EMBEDDED.tile_shape).astype(np.float32)
    here, there = dense(prior, "1_2_3"), dense(prior, "3_2_3")
    found = here(model.probabilities("1_2_3", tile, mirrored=True))
    other = there(model.probabilities("3_2_3", np.ascontiguousarray(tile[::-1])))
    np.testing.assert_allclose(found, other[MIRRORED, ::-1], atol=1e-5)
    assert np.abs(found - here(model.probabilities("1_2_3", tile))).max() > 0.01


def dense(prior, tile):
    """Function that turns the probabilities of blocks into a volume for each label, in the tile."""

    def volume(found):
        whole = np.zeros((CLASSES, *EMBEDDED.grid.shape), np.float32)
        for number, probabilities in found:
            block, part = prior.blocks[number]
            size = tuple(s.stop - s.start for s in block)
            there = np.zeros((CLASSES, math.prod(size)), np.float32)
            there[np.ix_(part.channels.numpy(), part.voxels.numpy())] = probabilities.T
            whole[:, *block] = there.reshape(CLASSES, *size)
        return whole[:, *EMBEDDED.box(tile)]

    return volume


@pytest.mark.skipif(not TRAININGS.is_dir(), reason="needs the folder training of the repository")
@pytest.mark.parametrize("name", ["start", "all", *(f"fold{number}" for number in range(5))])
def test_the_stored_trainings_can_be_opened(name):
    model = CompactWeights(TRAININGS / name / "weights")
    assert model.prior.symmetric
    assert model.network("1_1_1").unet.architecture == COMPACT_ARCHITECTURE


def test_the_card_comes_back(tmp_path):
    card = ModelCard(TINY_COMPACT, tuple(np.linspace(-2.5, 4.5, 501)), stripped=True, training={"seed": 3})
    write_card(tmp_path, card)
    assert read_card(tmp_path) == card
