"""Training of SLANT on made-up heads: augmentation, label swap, folds, and going on after being killed."""

import math
import shutil

import numpy as np
import pytest
import torch

from efface.errors import InputError
from efface.segmentation.labels import BY_ID, LABELS, MIRRORED
from efface.segmentation.slant.checkpoints import CompactWeights
from efface.segmentation.slant.label_probabilities import one_hot
from efface.segmentation.slant.preprocessing import QUANTILES
from efface.segmentation.slant.tiling import EMBEDDED
from efface.segmentation.slant.unet import CLASSES, Architecture, TileNet
from efface.training import slant, slant_data, slant_stages
from efface.training.augment import NOTHING, Amounts, Draw, apply, draw
from efface.training.slant_data import FINE, TrainingHead, count_labels, folds, halved, load_head
from efface.training.slant_fit import Schedule, fit, loss_of
from efface.training.slant_sampler import Sampler
from efface.training.slant_split import read_split

TINY = Architecture((1, 2, 2, 2, 2, 3, 3, 3), (3, 3, 3, 2, 2, 2, 2, 3, 3))
LEFT, RIGHT = BY_ID[37].index, BY_ID[36].index  # caudates
BOX = EMBEDDED.box("2_2_2")
WHOLE = tuple(slice(0, n) for n in EMBEDDED.grid.shape)


def made_up_head(name="sub-1", seed=0):
    """Two boxes, the left caudate bright, the right dark, in noise."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.1, FINE.shape).astype(np.float16)
    labels = np.zeros(FINE.shape, np.uint8)
    for x, label, value in ((50, LEFT, 2.0), (110, RIGHT, -2.0)):
        at = (slice(x, x + 16), slice(90 + seed, 120 + seed), slice(60, 80))
        labels[at], image[at] = label, value
    brain = np.zeros(FINE.shape, np.bool_)
    brain[30:140, 40:180, 30:130] = True
    return TrainingHead(name, image, brain, labels, np.quantile(image[brain].astype(float), QUANTILES), np.eye(4))


def tensors(head):
    return (
        torch.from_numpy(head.image.astype(np.float32)),
        torch.from_numpy(head.labels),
        torch.zeros(EMBEDDED.grid.shape),
    )


# --- data ------------------------------------------------------------------------------------------------------------


def test_the_fine_grid_has_two_voxels_for_one():
    first = FINE.affine @ [0.5, 0.5, 0.5, 1]
    last = FINE.affine @ [2 * 85 + 0.5, 2 * 109 + 0.5, 2 * 77 + 0.5, 1]
    np.testing.assert_allclose(first, EMBEDDED.grid.affine @ [0, 0, 0, 1])
    np.testing.assert_allclose(last, EMBEDDED.grid.affine @ [85, 109, 77, 1])


def test_every_label_has_its_partner_on_the_other_side():
    table = MIRRORED
    assert table[LEFT] == RIGHT
    np.testing.assert_array_equal(table[table], np.arange(CLASSES))
    for label in LABELS:
        assert (table[label.index] == label.index) == (label.hemisphere == "both"), label.name


def test_no_head_is_trained_on_and_held_out():
    names = [f"sub-{k:02d}" for k in range(17)] + ["sub-child_unproven", "atlas"]
    made = folds(names)
    assert sorted(n for _, held in made for n in held) == names[:17]
    for train, held in made:
        assert not set(train) & set(held)
        assert len(train) + len(held) == 19
        assert {"atlas", "sub-child_unproven"} <= set(train)


def test_frequencies_are_symmetric_and_where_the_labels_are():
    place = count_labels([made_up_head()])
    left, right = place.levels[LEFT], place.levels[RIGHT]
    np.testing.assert_array_equal(left, right[::-1])
    assert left[14, 26, 17] > 200
    assert left[14, 5, 17] == 0


def test_halving_takes_the_most_frequent_label():
    labels = np.zeros((4, 2, 2), np.uint8)
    labels[0, :, :], labels[1, 0, 0], labels[2:, 0, :] = 9, 9, 4
    assert halved(labels)[:, 0, 0].tolist() == [9, 4]


# --- augmentation ----------------------------------------------------------------------------------------------------


def test_doing_nothing_gives_the_tile_itself():
    head = made_up_head()
    image, labels = apply(draw(np.random.default_rng(0), NOTHING), *tensors(head), BOX)
    x, y, z = BOX
    blocks = head.image.astype(np.float32).reshape(86, 2, 110, 2, 78, 2).mean(axis=(1, 3, 5))[x, y, z]
    np.testing.assert_allclose(image, blocks, atol=2e-3)
    assert np.mean(labels.numpy() == halved(head.labels)[x, y, z]) > 0.97


def test_the_same_seed_gives_the_same_tile_and_another_another():
    head = made_up_head()
    made = [apply(draw(np.random.default_rng(seed), Amounts()), *tensors(head), BOX) for seed in (4, 4, 5)]
    assert torch.equal(made[0][0], made[1][0])
    assert torch.equal(made[0][1], made[1][1])
    assert not torch.equal(made[0][0], made[2][0])


def test_a_mirrored_head_has_its_labels_swapped():
    head = made_up_head()
    amounts = Amounts(0, 0, 0, 0, 0, 0, 0, 0, flip=1, face=0)
    image, labels = apply(draw(np.random.default_rng(0), amounts), *tensors(head), WHOLE)
    plain, plain_labels = apply(Draw(), *tensors(head), WHOLE)
    torch.testing.assert_close(image, plain.flip(0), atol=1e-3, rtol=0)
    assert image[labels == RIGHT].mean() > 1.5  # the bright one was the left
    assert (plain[plain_labels == LEFT]).mean() > 1.5
    assert torch.argwhere(labels == RIGHT)[:, 0].min() > 43  # right is where x is positive


def test_image_and_labels_are_deformed_together():
    head = made_up_head()
    moved = False
    for seed in range(5):
        what = draw(np.random.default_rng(seed), Amounts(bias=0, noise=0, contrast=0, blur_vox=0, face=0, flip=0))
        image, labels = apply(what, *tensors(head), WHOLE)
        agree = (image > 1) == (labels == LEFT)
        assert agree[labels == LEFT].float().mean() > 0.8
        assert (image[labels != LEFT] > 1).float().mean() < 1e-3
        moved |= bool((labels != apply(Draw(), *tensors(head), WHOLE)[1]).any())
    assert moved


def test_a_removed_face_is_dark_and_takes_no_label():
    head = made_up_head()
    image, labels, face = tensors(head)
    face[:, 45:] = 1.0
    what = Draw(face_above=0.3)
    found, kept = apply(what, image, labels, face, WHOLE)
    assert (found[:, 50:][kept[:, 50:] == 0] == image.min().clamp(-4, 5)).all()
    assert found[kept == LEFT].mean() > 1.5
    assert torch.equal(kept, apply(Draw(), image, labels, face, WHOLE)[1])


def test_noise_bias_and_blur_change_intensities_only():
    head = made_up_head()
    plain, labels = apply(Draw(), *tensors(head), BOX)
    bright = np.full((1, 4, 5, 4), 0.3, np.float32)
    for what in (Draw(noise=0.2, noise_seed=3), Draw(log_bias=bright), Draw(blur_axis=1, blur_vox=0.8), Draw(gamma=1.2)):
        changed, same = apply(what, *tensors(head), BOX)
        assert torch.equal(same, labels)
        assert (changed - plain).abs().mean() > 0.01


# --- the loop --------------------------------------------------------------------------------------------------------


def test_the_loss_is_small_when_right_and_counts_what_is_there():
    labels = torch.tensor([0, 5, 5, 9])
    channels = torch.tensor([0, 5, 9, 40])
    right = 20 * torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 2]), 4).float()
    assert loss_of(right, labels, channels) < 1e-3
    assert loss_of(right.roll(1, dims=1), labels, channels) > 10
    flat = loss_of(torch.zeros(4, 4), labels, channels)
    expected = math.log(4) + 1 - (2 * 0.5 / (1 + 2) + 2 * 0.25 / (1 + 1)) / 2
    assert float(flat) == pytest.approx(expected)


def test_labels_that_are_not_possible_count_as_background():
    channels = torch.tensor([0, 5])
    scores = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert loss_of(scores, torch.tensor([7, 5, 0]), channels) == loss_of(scores, torch.tensor([0, 5, 0]), channels)


@pytest.fixture(scope="module")
def sampler():
    heads = [made_up_head(), made_up_head("sub-2", 4)]
    target = slant_data.mean_quantiles(heads)
    face = torch.zeros(EMBEDDED.grid.shape)
    return Sampler(heads, target, count_labels(heads), face, ("2_2_2", "1_2_2"), Amounts())


def start():
    torch.manual_seed(0)
    return TileNet(TINY)


def test_a_killed_run_goes_on_to_the_same_weights(sampler, tmp_path):
    schedule = Schedule(6, epoch=4, voxels=500, checkpoint_s=1e9)
    straight = fit(start(), sampler, schedule, tmp_path / "a", stage="t", seed=1)
    for stop in (3, 5):
        fit(start(), sampler, schedule, tmp_path / "b", stage="t", seed=1, stop_after=stop)
    resumed = fit(start(), sampler, schedule, tmp_path / "b", stage="t", seed=1)
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(straight.head.weight, start().head.weight)
    logs = [(tmp_path / f / "log.tsv").read_text().splitlines() for f in "ab"]
    assert [line.split("\t")[:5] for line in logs[0]] == [line.split("\t")[:5] for line in logs[1]]
    assert [line.split("\t")[1] for line in logs[0]] == ["step", "4", "6"]


def test_a_checkpoint_of_other_settings_is_refused(sampler, tmp_path):
    fit(start(), sampler, Schedule(4, voxels=200), tmp_path, stage="t", seed=1, stop_after=1)
    with pytest.raises(InputError, match="another schedule, seed: expected the same"):
        fit(start(), sampler, Schedule(5, voxels=200), tmp_path, stage="t", seed=2)


def test_training_learns(sampler, tmp_path):
    schedule = Schedule(16, rate=2e-2, warmup=2, epoch=4, voxels=2000)
    fit(start(), sampler, schedule, tmp_path, stage="t", seed=1)
    losses = [float(line.split("\t")[2]) for line in (tmp_path / "log.tsv").read_text().splitlines()[1:]]
    assert losses[-1] < losses[0]


def test_the_rate_rises_and_falls_to_nothing():
    schedule = Schedule(100, rate=1.0, warmup=10)
    assert schedule.rate_at(0) == pytest.approx(0.1)
    assert schedule.rate_at(10) > 0.95
    assert schedule.rate_at(99) < 1e-3


# --- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    for k in range(5):
        slant_data.save_head(folder / f"sub-{k}.npz", made_up_head(f"sub-{k}", k))
    np.save(folder / "face.npy", np.zeros(EMBEDDED.grid.shape, np.float16))
    return folder


def test_a_cached_head_comes_back(cache):
    head, made = load_head(cache, "sub-3"), made_up_head("sub-3", 3)
    np.testing.assert_array_equal(head.labels, made.labels)
    np.testing.assert_array_equal(head.image, made.image)
    with pytest.raises(InputError, match=r"no head sub-9 .* prepare"):
        load_head(cache, "sub-9")


def test_from_pretraining_to_weights(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(slant_stages, "COMPACT_ARCHITECTURE", TINY)
    monkeypatch.setattr(slant_stages.TileNet.__init__, "__defaults__", (TINY,))
    out = tmp_path / "run"
    slant.main(["pretrain", str(cache), str(out), "--fold", "1", "--steps", "2"])
    slant.main(["specialise", str(cache), str(out), "--steps", "1", "--tiles", "2_2_2"])
    model = CompactWeights(out / "weights")
    assert model.card.training["held"] == ["sub-1"]
    assert model.card.training["tiles"]["steps"] == 1
    assert (out / "weights" / "2_2_2.pt").exists()
    assert not (out / "tiles" / "2_2_2" / "checkpoint.pt").exists()
    with pytest.raises(InputError, match="another split"):
        slant.main(["pretrain", str(cache), str(out), "--fold", "2", "--steps", "1"])


def test_the_same_seed_gives_the_same_initial_network(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(slant_stages, "COMPACT_ARCHITECTURE", TINY)
    monkeypatch.setattr(slant_stages.TileNet.__init__, "__defaults__", (TINY,))
    monkeypatch.setattr(slant_stages, "fit", lambda network, *_args, **_kwargs: network)
    states = []
    for number, seed in enumerate((5, 5, 6)):
        torch.manual_seed(number)  # what happened before in the process does not matter
        out = tmp_path / str(number)
        slant.main(["pretrain", str(cache), str(out), "--fold", "1", "--steps", "1", "--seed", str(seed)])
        states.append(torch.load(out / "weights" / "pooled.pt", weights_only=True))
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_fold_goes_on_from_heads_without_a_reference_only(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(slant_stages, "COMPACT_ARCHITECTURE", TINY)
    monkeypatch.setattr(slant_stages.TileNet.__init__, "__defaults__", (TINY,))
    heads = tmp_path / "cache"
    shutil.copytree(cache, heads)
    slant_data.save_head(heads / "sub-x_unproven.npz", made_up_head("sub-x_unproven", 7))
    first, fold, other = (tmp_path / name for name in ("start", "fold", "other"))
    slant.main(["pretrain", str(heads), str(first), "--fold", "start", "--steps", "1", "--no-face-removal"])
    slant.main(["pretrain", str(heads), str(fold), "--fold", "2", "--steps", "1", "--start", str(first)])
    training = CompactWeights(fold / "weights").card.training
    assert training["start"]["train"] == ["sub-x_unproven"]
    assert training["start"]["augmentation"]["face"] == 0
    assert training["augmentation"]["face"] == Amounts().face
    before, after = (CompactWeights(f / "weights").network("2_2_2").state_dict() for f in (first, fold))
    shift = max(float((before[key] - after[key]).abs().max()) for key in before)
    assert 0 < shift < 0.05  # one step away from where it started, not another network
    with pytest.raises(InputError, match=r"was trained on sub-1, held out in fold 1: start from another training"):
        slant.main(["pretrain", str(heads), str(other), "--fold", "1", "--start", str(fold)])


def test_stages_out_of_order_say_what_to_run(cache, tmp_path):
    with pytest.raises(InputError, match=r"pretrain"):
        slant.main(["specialise", str(cache), str(tmp_path / "none")])
    with pytest.raises(InputError, match=r"no heads in .*prepare"):
        slant.main(["pretrain", str(tmp_path), str(tmp_path / "none")])
    with pytest.raises(InputError, match=r"no fold '7': expected one of 0, 1, 2, 3, 4, all"):
        slant.main(["pretrain", str(cache), str(tmp_path / "none"), "--fold", "7"])


@pytest.mark.parametrize("content", ["", "[]", '{"fold": "1"}'])
def test_a_damaged_split_is_named(tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(InputError, match=r"split.json cannot be read"):
        read_split(tmp_path)


def test_accuracy_is_the_dice_of_held_out_heads_only(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(slant_stages, "COMPACT_ARCHITECTURE", TINY)
    monkeypatch.setattr(slant_stages.TileNet.__init__, "__defaults__", (TINY,))
    truth = halved(load_head(cache, "sub-1").labels)
    said = np.where(np.arange(truth.shape[1])[:, None] < 50, truth, 0)  # part of each caudate is missed
    slant.main(["pretrain", str(cache), str(tmp_path), "--fold", "1", "--steps", "1"])
    monkeypatch.setattr(slant_stages, "predict", lambda image, model: one_hot(said.astype(np.int32)))
    slant.main(["evaluate", str(cache), str(tmp_path)])
    lines = [line.split("\t") for line in (tmp_path / "dice.tsv").read_text().splitlines()]
    assert {line[0] for line in lines[1:]} == {"sub-1"}
    scores = {line[3]: float(line[4]) for line in lines[1:]}
    found, there = np.count_nonzero(said == LEFT), np.count_nonzero(truth == LEFT)
    assert 0 < found < there
    assert scores["Left Caudate"] == pytest.approx(2 * found / (found + there), abs=1e-4)
    assert math.isnan(scores["Left Putamen"])
