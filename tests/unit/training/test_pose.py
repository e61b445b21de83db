"""Synthetic heads for the pose network: what they show is where they say it is."""

import json

import numpy as np
import pytest
import torch

from efface.anatomy.pose_network import CENTRE_MM, OUTPUTS, SCALE_MM, PoseNet
from efface.training import pose, pose_heads, pose_synthesis
from efface.training.pose_synthesis import SIDE, TISSUES, LabelledHeads


def one_head() -> LabelledHeads:
    """A ball of grey matter of 60 mm around the average head's (0, 0, -20), with skin around it."""
    line = np.arange(128) * 2.0 - 127
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + (z + 20) ** 2)
    tissues = np.zeros(radius.shape, np.uint8)
    tissues[radius < 75] = TISSUES.index("skin")
    tissues[radius < 60] = TISSUES.index("grey")
    to_voxel = np.diag([0.5, 0.5, 0.5, 1.0])
    to_voxel[:3, 3] = 63.5
    return LabelledHeads(
        torch.from_numpy(tissues[None]), torch.from_numpy(to_voxel[None].astype(np.float32)), torch.zeros(1)
    )


@pytest.fixture(scope="module")
def examples() -> pose_synthesis.Examples:
    generator = torch.Generator().manual_seed(0)
    return pose_synthesis.synthesise(one_head(), np.random.default_rng(0), generator, 3)


def test_coordinates_point_to_the_tissue_that_is_there(examples):
    """The ball's voxels lie within its radius of its centre, by the coordinates, but for the random deformation."""
    away = (examples.coordinates * SCALE_MM).norm(dim=1)
    assert tuple(examples.coordinates.shape) == (3, 3, SIDE, SIDE, SIDE)
    for distance, head, brain in zip(away, examples.head, examples.brain, strict=True):
        assert float(distance[head].max()) < 75 + 25
        if brain.any():
            assert float(distance[brain].max()) < 60 + 25
            assert float(distance[brain].median()) < float(distance[head & ~brain].median())
    assert CENTRE_MM == (0.0, 0.0, -20.0)


def test_nothing_is_shown_outside_the_field_of_view(examples):
    outside = examples.image[:, 1] == 0
    assert outside.any()
    assert float(examples.image[:, 0][outside].abs().max()) == 0
    assert not (examples.head & outside).any()


def test_the_same_seed_draws_the_same_examples(examples):
    again = pose_synthesis.synthesise(one_head(), np.random.default_rng(0), torch.Generator().manual_seed(0), 3)
    assert torch.equal(again.coordinates, examples.coordinates)
    assert torch.equal(again.head, examples.head)


def test_a_perfect_answer_has_the_least_loss(examples):
    output = torch.zeros(3, len(OUTPUTS), SIDE, SIDE, SIDE)
    output[:, :3] = examples.coordinates
    output[:, 3] = pose.SMOOTHEST
    output[:, 4] = 20.0 * (2 * examples.head.float() - 1)
    output[:, 5] = 20.0 * (2 * examples.brain.float() - 1)
    worse = output.clone()
    worse[:, 0] += 0.3
    assert float(pose.loss_of(output, examples)) < float(pose.loss_of(worse, examples))


def test_training_writes_weights_that_load(tmp_path, monkeypatch):
    monkeypatch.setattr(pose, "PoseNet", lambda: PoseNet((2, 2, 2, 2, 2)))
    monkeypatch.setattr(pose, "errors", lambda *_: {"median_mm": 1.0})
    steps = iter([0.0, 0.0, 0.5, 0.5, 2.0])
    monkeypatch.setattr(pose.time, "monotonic", lambda: next(steps, 2.0))
    pose.train(one_head(), one_head(), 1.0, tmp_path, batch=1)
    state = torch.load(tmp_path / "pose.pt", weights_only=True)
    PoseNet((2, 2, 2, 2, 2)).load_state_dict(state)
    assert json.loads((tmp_path / "pose.json").read_text())["steps"] >= 1


def test_every_label_has_a_tissue():
    table = pose_heads.tissue_numbers()
    assert table[0] == TISSUES.index("air")
    assert table[3] == table[42] == TISSUES.index("grey")
    assert table[511] == TISSUES.index("skin")
    assert set(table[[2, 4, 506, 507, 509, 512, 514, 515, 516, 530]]) == set(range(1, len(TISSUES))) - {2, 7}
