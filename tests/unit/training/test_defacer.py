"""Examples, training and scoring of the network that finds features."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import average_head
from efface.anatomy import landmark_network
from efface.anatomy.head_mask import head_mask
from efface.anatomy.landmark_network import LandmarkNet, network_grid
from efface.anatomy.templates import FEATURE_LABELS
from efface.spatial.resampling import resample
from efface.spatial.types import Volume
from efface.training import defacer, feature_examples
from efface.training.defacer import Schedule, cross_validate, evaluate, folds, save_weights, table, train
from efface.training.feature_examples import AVERAGE, SIDE, Head, average_example, example, label_centres, with_mouth
from efface.training.priors import LabelledHead, Located, label_head

EARS, NOSE = FEATURE_LABELS["ears"], FEATURE_LABELS["nose"]


@pytest.fixture(scope="module")
def average() -> Head:
    return average_example()


def tiny_head(name: str = "tiny", seed: int = 0) -> Head:
    """A head of unequal sides with a block for every feature."""
    rng = np.random.default_rng(seed)
    data = rng.random((20, 24, 22), dtype=np.float32) + 1
    features = np.zeros(data.shape, np.uint8)
    for number in FEATURE_LABELS.values():
        features[4 * number : 4 * number + 3, 8:12, 9:13] = number
    data += 2 * features
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    return Head(name, data, features, features > 0, affine)


@pytest.fixture
def small_examples(monkeypatch):
    """Examples of 24 voxels a side, on which a step is quick (on 16, torch 2.13 reads what it never wrote)."""
    monkeypatch.setattr(defacer, "SIDE", 24)
    monkeypatch.setattr(defacer, "BATCH", 1)
    monkeypatch.setattr(defacer, "EVERY", 2)


# Examples


@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_an_example_is_a_function_of_its_seed(average, difficulty):
    first, second, other = (example(average, seed, difficulty) for seed in ((7, 3), (7, 3), (7, 4)))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


def test_examples_are_cubes_of_intensities_from_0_to_1_and_labels(average):
    seen = set()
    for seed in range(12):
        image, labels = example(average, (seed,))
        assert image.shape == labels.shape == (SIDE, SIDE, SIDE)
        assert (image.dtype, labels.dtype) == (np.float32, np.int64)
        assert image.min() == 0
        assert image.max() == 1
        assert np.isfinite(image).all()
        seen |= set(np.unique(labels).tolist())
    assert seen == {0, *FEATURE_LABELS.values()}


def test_making_an_example_leaves_the_head_alone(average):
    data, features = average.data.copy(), average.features.copy()
    for seed in range(6):
        example(average, (seed,))
    assert np.array_equal(average.data, data)
    assert np.array_equal(average.features, features)


def tilts(head: Head, difficulty: float) -> np.ndarray:
    """Degrees between the front of an example's head, from its ears to its nose, and that of the head itself."""
    turned = []
    for seed in range(30):
        _, labels = example(head, (seed,), difficulty)
        ears, nose = np.argwhere(labels == EARS), np.argwhere(labels == NOSE)
        if len(nose) < 60 or not len(ears) or np.ptp(ears[:, 0]) < 20:
            continue  # not both ears are there, or not the whole nose
        front = nose.mean(axis=0) - (ears.max(axis=0) + ears.min(axis=0)) / 2
        turned.append(np.rad2deg(np.arccos(np.clip(front @ USUAL_FRONT / np.linalg.norm(front), -1, 1))))
    return np.array(turned)


USUAL_FRONT = np.array([0.0, 0.985, -0.17])
"""From between the ears to the nose, in the average head."""


@pytest.fixture
def whole_field_of_view(monkeypatch):
    """Nothing is cut off, nothing comes in on the other side."""
    monkeypatch.setattr(feature_examples, "_field_of_view", lambda image, target, inside, rng: (image, target, inside))


@pytest.mark.usefixtures("whole_field_of_view")
def test_easy_examples_are_hardly_turned_and_hard_ones_are(average):
    easy, hard = tilts(average, 0.0), tilts(average, 1.0)
    assert min(len(easy), len(hard)) > 10
    assert easy.max() < 15
    assert np.median(hard) > np.median(easy) + 4
    assert hard.max() > 25


@pytest.mark.usefixtures("whole_field_of_view")
def test_easy_examples_are_never_upside_down(average):
    for seed in range(20):
        _, labels = example(average, (seed,), 0.0)
        nose, mouth = (np.argwhere(labels == FEATURE_LABELS[f]) for f in ("nose", "mouth"))
        if len(nose) > 60 and len(mouth) > 30:
            assert mouth[:, 2].mean() < nose[:, 2].mean()


def test_what_is_missing_is_gone_from_image_and_labels_alike(average, monkeypatch):
    monkeypatch.setattr(feature_examples, "MISSING", {"nothing": 0.8, "features": 0.1, "face": 0.1})
    missing, whole = 0, 0
    for seed in range(60):
        data, labels = feature_examples._with_something_missing(average, np.random.default_rng(seed))
        gone = {n for n in FEATURE_LABELS.values() if not (labels == n).any()}
        changed = data != average.data
        assert np.array_equal(labels[~changed & (average.data != 0)], average.features[~changed & (average.data != 0)])
        if not gone:
            assert not changed.any()
            whole += 1
            continue
        missing += 1
        assert not labels[changed].any()
        where = np.isin(average.features, list(gone))
        assert np.unique(data[where]).size == 1, "filled with one value"
        assert data[where][0] < np.median(average.data[where])
    assert whole > 35
    assert missing > 5


def test_a_hole_takes_the_signal_and_not_the_mouth_but_a_nose_of_which_less_than_half_is_left(average):
    mouth, nose = (average.features == FEATURE_LABELS[name] for name in ("mouth", "nose"))
    nose_gone = mouth_dark = 0
    for seed in range(12):
        data, labels = feature_examples._with_a_hole(average, np.random.default_rng(seed))
        assert not (labels[average.features == 0]).any()
        assert (data <= average.data + 1e-3).all()
        assert np.array_equal(labels == FEATURE_LABELS["mouth"], mouth)
        mouth_dark += (data[mouth] < 0.5 * average.data[mouth]).mean() > 0.9
        share = (labels[nose] == FEATURE_LABELS["nose"]).mean()
        assert share == 0 or share >= 0.5
        if share == 0:
            nose_gone += 1
            assert (data[nose] < 0.5 * average.data[nose]).mean() > 0.4
    assert nose_gone
    assert mouth_dark


def test_folds_share_examples_and_the_next_time_round_they_are_mirrored(monkeypatch):
    monkeypatch.setattr(defacer, "POOL", 2)
    monkeypatch.setattr(defacer, "BATCH", 1)
    head, made = tiny_head("a", 3), []
    monkeypatch.setattr(defacer, "example", lambda *args: made.append(args) or example(*args))
    schedule = Schedule(8, 1e-3, small=1.0)
    images = [defacer._batch([head], 5, step, schedule)[0].numpy()[0, 0] for step in range(2, 7)]
    assert len(made) == 2
    assert images[0].shape == (feature_examples.SMALL_SIDE,) * 3
    assert not np.array_equal(images[0], images[1])
    assert np.array_equal(images[2], images[0][::-1])
    assert np.array_equal(images[4], images[0])


# Lips


def located_average() -> LabelledHead:
    volume = average_head.volume(2.0)
    points = np.moveaxis(np.indices(volume.data.shape), 0, -1) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    head = head_mask(volume)
    return label_head(Located(volume, head, np.zeros_like(head), points, np.eye(4)), "head")


@pytest.fixture(scope="module")
def average_mouth(average) -> Volume:
    return feature_examples.mouth_of(average)


def test_the_mouth_is_the_upper_lip(average, average_mouth):
    head = located_average()
    for features in (average.features, with_mouth(head, average_mouth)):
        z = head.points[features == FEATURE_LABELS["mouth"]][:, 2]
        assert -104 < z.min() < -97
        assert z.max() > -88


def test_the_mouth_lies_where_it_is_carried_whatever_the_scan_shows_there(average, average_mouth):
    head = located_average()
    whole = with_mouth(head, average_mouth) == FEATURE_LABELS["mouth"]
    assert np.array_equal(whole, average.features == FEATURE_LABELS["mouth"])
    dark = np.linalg.norm(head.points - (1, 100, -97), axis=-1) < 45
    volume = Volume(np.where(dark, 0.05 * head.volume.data, head.volume.data).astype(np.float32), head.volume.affine)
    without_signal = replace(head, volume=volume, head=head.head & ~dark)
    assert np.array_equal(with_mouth(without_signal, average_mouth) == FEATURE_LABELS["mouth"], whole)
    moved = replace(head, points=head.points + np.array((0, 0, 10)))
    z = head.points[with_mouth(moved, average_mouth) == FEATURE_LABELS["mouth"]][:, 2]
    assert abs(z.mean() - (head.points[whole][:, 2].mean() - 10)) < 1.5


def test_a_mouth_outside_the_field_of_view_is_none(average_mouth):
    head = located_average()
    features = with_mouth(replace(head, points=head.points + np.array((0, 0, 60))), average_mouth)
    assert not (features == FEATURE_LABELS["mouth"]).any()
    assert (features == FEATURE_LABELS["eyes"]).any()


def test_the_average_head_is_an_example_with_two_eyes_a_nose_two_ears_and_a_mouth(average):
    assert average.name == AVERAGE
    assert {f: len(label_centres(average, f)) for f in FEATURE_LABELS} == {"eyes": 2, "nose": 1, "ears": 2, "mouth": 1}
    assert average.face[average.features == NOSE].all()


# Training


def states(network: LandmarkNet) -> dict:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.usefixtures("small_examples")
def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    heads, schedule = [tiny_head("a", 1), tiny_head("b", 2)], Schedule(5, 1e-2, ramp=3)
    expected = states(train(heads, tmp_path / "whole", schedule))

    batch = defacer._batch

    def stops(heads, seed, step, schedule):
        if step == 3:
            raise KeyboardInterrupt
        return batch(heads, seed, step, schedule)

    monkeypatch.setattr(defacer, "_batch", stops)
    with pytest.raises(KeyboardInterrupt):
        train(heads, tmp_path / "stopped", schedule)
    seen = []
    monkeypatch.setattr(defacer, "_batch", lambda h, seed, step, s: seen.append(step) or batch(h, seed, step, s))
    resumed = states(train(heads, tmp_path / "stopped", schedule))
    assert seen == [2, 3, 4], "it goes on after the checkpoint of step 2"
    assert same(resumed, expected)
    assert not same(states(train(heads, tmp_path / "seed", schedule, seed=1)), expected)
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "stopped")]
    assert logs[0] == logs[1]
    assert [row.split(",")[0] for row in logs[0]] == ["2", "4", "5"]


@pytest.mark.usefixtures("small_examples")
def test_a_finished_run_is_read_not_repeated(tmp_path, monkeypatch):
    heads, schedule = [tiny_head()], Schedule(2, 1e-2)
    first = train(heads, tmp_path, schedule)
    monkeypatch.setattr(defacer, "_batch", lambda *_: pytest.fail("trained again"))
    again = train(heads, tmp_path, schedule)
    assert same(states(first), states(again))
    assert not again.training


@pytest.mark.usefixtures("small_examples")
def test_training_starts_from_the_network_given_and_leaves_it_alone(tmp_path):
    torch.manual_seed(99)
    start = LandmarkNet()
    before = states(start)
    trained = train([tiny_head()], tmp_path, Schedule(1, 1e-7), start)
    assert same(states(start), before)
    assert not same(states(trained), before)
    for name, values in states(trained).items():
        np.testing.assert_allclose(values, before[name], atol=1e-5)


@pytest.mark.parametrize(
    ("able", "quick"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"amx_bf16": True}, True),
        ({"architecture": "aarch64"}, False),
    ],
)
@pytest.mark.usefixtures("small_examples")
def test_it_trains_in_bfloat16_only_where_the_processor_has_it(tmp_path, monkeypatch, able, quick):
    asked, autocast = [], torch.autocast
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)

    def noted(device, kind, enabled):
        asked.append((device, kind, enabled))
        return autocast(device, kind, enabled=False)  # bfloat16 itself would take seconds where it is not quick

    monkeypatch.setattr(torch, "autocast", noted)
    train([tiny_head()], tmp_path, Schedule(1, 1e-3))
    assert asked == [("cpu", torch.bfloat16, quick)]


@pytest.mark.usefixtures("small_examples")
def test_training_lowers_the_loss(tmp_path):
    train([tiny_head()], tmp_path, Schedule(32, 3e-3, ramp=10_000))
    losses = [float(line.split(",")[1]) for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert np.mean(losses[-3:]) < 0.93 * np.mean(losses[:3])


@pytest.mark.usefixtures("small_examples")
def test_the_log_holds_means_also_where_the_last_steps_are_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr(defacer, "_loss", lambda logits, target: (logits.mean() * 0 + 3, torch.full((4,), 0.5)))
    train([tiny_head()], tmp_path, Schedule(3, 1e-2))
    rows = [row.split(",") for row in (tmp_path / "log.csv").read_text().splitlines()]
    assert [[float(value) for value in row] for row in rows] == [[2, 3, 0.5, 0.5, 0.5, 0.5], [3, 3, 0.5, 0.5, 0.5, 0.5]]


def test_the_rate_warms_up_and_falls():
    schedule = Schedule(1000, 2e-3)
    rates = np.array([defacer._rate(step, schedule) for step in range(1000)])
    assert rates.max() == pytest.approx(2e-3, rel=1e-3)
    assert 20 < rates.argmax() < 40
    assert rates[0] < 1e-4
    assert 0 < rates[-1] < 5e-5


def test_the_loss_is_least_where_the_network_is_right():
    target = torch.from_numpy(tiny_head().features.astype(np.int64))[None]
    right = 20 * torch.nn.functional.one_hot(target, 5).movedim(-1, 1).float()
    loss, dice = defacer._loss(right, target)
    assert float(loss) < 0.01
    np.testing.assert_allclose(dice, 1, atol=0.01)
    wrong, wrong_dice = defacer._loss(right.roll(1, dims=1), target)
    assert float(wrong) > 2
    assert float(wrong_dice.max()) < 0.1


# Folds and scores


def people(count: int) -> list[Head]:
    return [tiny_head(AVERAGE), *(tiny_head(f"sub-{n}") for n in range(count))]


@pytest.mark.parametrize(("count", "parts"), [(11, 5), (4, 2), (3, 5)])
def test_folds_hold_everybody_out_once_and_the_average_head_never(count, parts):
    heads = people(count)
    held = folds(heads, parts)
    assert len(held) == parts
    assert sorted(h.name for fold in held for h in fold) == sorted(h.name for h in heads[1:])
    sizes = [len(fold) for fold in held]
    assert max(sizes) - min(sizes) <= 1
    assert [[h.name for h in f] for f in folds(heads, parts)] == [[h.name for h in f] for f in held]


def test_nobody_is_scored_by_a_network_that_has_seen_them(tmp_path, monkeypatch):
    heads, seen = people(7), {}

    def fake_train(heads, folder: Path, schedule, start):
        folder.mkdir(parents=True)
        seen[folder.name] = {h.name for h in heads}
        return folder.name

    def fake_evaluate(network, head, fold):
        assert head.name not in seen[network]
        assert network == f"fold-{fold}"
        empty = dict.fromkeys(FEATURE_LABELS, 0)
        return defacer.Score(head.name, fold, empty, empty, empty, dict.fromkeys(FEATURE_LABELS, 0.0), [[1] * 5] * 5)

    monkeypatch.setattr(defacer, "train", fake_train)
    monkeypatch.setattr(defacer, "evaluate", fake_evaluate)
    scores = cross_validate(heads, tmp_path, start=None, count=3)
    assert sorted(s.head for s in scores) == sorted(h.name for h in heads[1:])
    assert all(AVERAGE in names for names in seen.values())
    assert [s["head"] for s in json.loads((tmp_path / "scores.json").read_text())] == [s.head for s in scores]


class Sure(torch.nn.Module):
    """A network that is certain of one answer."""

    def __init__(self, labels: np.ndarray) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.logits = 9 * torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 5).movedim(-1, 0)[None].float()

    def forward(self, x):
        return self.logits


def truth_on_the_networks_grid(head: Head) -> np.ndarray:
    grid = network_grid(Volume(head.data, head.affine).grid)
    shares = [
        resample(Volume((head.features == n).astype(np.float32), head.affine), grid) for n in FEATURE_LABELS.values()
    ]
    return np.where(np.max(shares, axis=0) > 0.5, 1 + np.argmax(shares, axis=0), 0)


def test_a_perfect_network_has_everything_right(average):
    score = evaluate(Sure(truth_on_the_networks_grid(average)), average, 2)
    assert (score.head, score.fold) == (AVERAGE, 2)
    assert score.wanted == score.found == score.count == {"eyes": 2, "nose": 1, "ears": 2, "mouth": 1}
    assert all(score.right(f) for f in FEATURE_LABELS)
    assert max(score.worst_mm.values()) < 3
    confusion = np.array(score.confusion)
    assert (np.diag(confusion) > 0).all()
    assert not (confusion - np.diag(np.diag(confusion))).any()
    assert "all      1/1 = 100.0%" in table([score])


def test_a_network_that_sees_nothing_has_nothing_right(average):
    score = evaluate(Sure(np.zeros_like(truth_on_the_networks_grid(average))), average, 0)
    assert set(score.found.values()) == set(score.count.values()) == {0}
    assert not any(score.right(f) for f in FEATURE_LABELS)
    assert np.isinf(list(score.worst_mm.values())).all()
    assert not np.array(score.confusion)[:, 1:].any()
    assert "all      0/1 = 0.0%" in table([score])


def test_a_feature_too_many_or_too_far_is_not_right(average):
    labels = truth_on_the_networks_grid(average)
    twice = labels.copy()
    twice[10:14, 2:6, 5:9] = NOSE
    moved = np.where(labels == NOSE, 0, labels)
    moved[:, :, 3:][labels[:, :, :-3] == NOSE] = NOSE
    for wrong in (twice, moved):
        score = evaluate(Sure(wrong), average, 0)
        assert [f for f in FEATURE_LABELS if not score.right(f)] == ["nose"]


# Weights


def test_weights_are_kept_in_half_precision_and_load(tmp_path, monkeypatch):
    torch.manual_seed(5)
    network = LandmarkNet()
    save_weights(network, tmp_path / "weights.pt")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]
    monkeypatch.setattr(landmark_network, "WEIGHTS", tmp_path / "weights.pt")
    loaded = landmark_network.trained_network.__wrapped__()
    assert not loaded.training
    for name, values in states(network).items():
        np.testing.assert_allclose(loaded.state_dict()[name].cpu().numpy(), values, rtol=1e-3, atol=1e-6)
