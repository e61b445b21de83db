"""Networks of SLANT, their weights on disk, label frequencies, and a whole segmentation with made-up weights."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.errors import AnatomyError, InputError
from efface.segmentation import SEGMENTERS, segment
from efface.segmentation.labels import LABEL_IDS, MIRRORED
from efface.segmentation.slant import pipeline, preprocessing
from efface.segmentation.slant.checkpoints import CompactWeights, ModelCard, PublishedWeights, save_compact, write_card
from efface.segmentation.slant.label_prior import LOG_FLOOR, LabelPrior, build_label_prior, load_label_prior
from efface.segmentation.slant.label_probabilities import (
    NEGLIGIBLE,
    BlockAccumulator,
    LabelProbability,
    one_hot,
    to_scan_grid,
)
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.pipeline import open_weights, segment_slant, segment_standard
from efface.segmentation.slant.preprocessing import CLIP, QUANTILES, huber_line, normalise, standardise
from efface.segmentation.slant.tiling import EMBEDDED, Geometry, block_in
from efface.segmentation.slant.unet import (
    CLASSES,
    COMPACT_ARCHITECTURE,
    PUBLISHED_ARCHITECTURE,
    Architecture,
    TileNet,
    UNet3D,
    load_published,
    published_shapes,
)
from efface.spatial.types import Grid, Volume

TINY = Architecture((1, 2, 2, 3, 3, 4, 4, 5), (5, 4, 4, 4, CLASSES, 6, 6, CLASSES, CLASSES), published=True)
TINY_COMPACT = Architecture((1, 2, 2, 3, 3, 4, 4, 5), (5, 4, 4, 4, 4, 3, 3, 3, 3))
SMALL = Geometry("small", Grid((16, 20, 12), np.eye(4)), (10, 12, 8), ((0, 6), (0, 8), (0, 4)), np.eye(4))
WIDTHS = [(1, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
DECODER = {9: (512, 512, 2), 8: (768, 256, 3), 7: (256, 256, 3), 6: (256, 256, 2), 5: (384, 133, 3)}
DECODER |= {4: (133, 133, 3), 3: (133, 133, 2), 2: (197, 133, 3), 1: (133, 133, 3)}


def official_state(plan):
    """A state dict with random numbers and everything an official one holds."""
    network = UNet3D(plan)
    state = dict(network.state_dict())
    for number, width in enumerate(plan.encoder):
        state[f"ec{number}.1.running_mean"] = torch.randn(width)
        state[f"ec{number}.1.running_var"] = torch.rand(width)
        state[f"ec{number}.1.num_batches_tracked"] = torch.tensor(9)
    state["dc0.0.weight"], state["dc0.0.bias"] = torch.randn(64, CLASSES, 1, 1, 1), torch.randn(CLASSES)
    return state


# --- the published network -------------------------------------------------------------------------------------------


def test_published_shapes_are_those_of_the_official_code():
    expected = {}
    for number, (a, b) in enumerate(WIDTHS):
        expected |= {f"ec{number}.0.weight": (b, a, 3, 3, 3), f"ec{number}.0.bias": (b,)}
        expected |= {f"ec{number}.1.weight": (b,), f"ec{number}.1.bias": (b,)}
    for number, (a, b, k) in DECODER.items():
        expected |= {f"dc{number}.0.weight": (a, b, k, k, k), f"dc{number}.0.bias": (b,)}
    assert dict(published_shapes()) == expected
    assert sum(math.prod(shape) for shape in expected.values()) == 19_912_138


def test_an_official_state_dict_of_the_published_shapes_loads_by_key():
    state = {key: torch.zeros(shape) for key, shape in published_shapes().items()}
    state["ec3.0.bias"] = torch.arange(128.0)
    network = load_published({f"module.{k}": v for k, v in state.items()}, "here")
    assert network.architecture == PUBLISHED_ARCHITECTURE
    assert network.get_parameter("ec3.0.bias")[7] == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("dc5.0.weight"), r"tile.pth: tensor dc5.0.weight must have shape \(7, 133, 3, 3, 3\).*nothing"),
        (lambda s: s.update({"ec2.1.bias": torch.zeros(9)}), r"ec2.1.bias must have shape \(2,\); received \(9,\)"),
        (lambda s: s.update({"ec0.0.bias": 3}), "ec0.0.bias must have shape .*no tensor"),
        (lambda s: s.update({"dc10.0.bias": torch.zeros(1)}), "received also dc10.0.bias"),
    ],
)
def test_a_wrong_state_dict_names_the_tensor(change, message):
    state = official_state(TINY)
    change(state)
    with pytest.raises(InputError, match=message):
        load_published(state, "tile.pth", TINY)


def test_the_published_network_normalises_by_the_tile_at_hand():
    torch.manual_seed(0)
    network = load_published(official_state(TINY), "here", TINY)
    tile = torch.rand(1, 1, 8, 16, 8)
    with torch.inference_mode():
        predicting, training = network.eval()(tile), network.train()(tile)
        inside = network.eval().get_submodule("ec0")[:2](tile)
    assert predicting.shape == (1, CLASSES, 8, 16, 8)
    assert torch.equal(predicting, training)
    assert inside.mean().item() == pytest.approx(network.get_parameter("ec0.1.bias").detach().mean().item(), abs=1e-4)


def test_kernel_three_transposed_convolution_is_a_convolution():
    """What lets the compact network use plain convolutions in the decoder."""
    transposed = torch.nn.ConvTranspose3d(2, 3, 3, padding=1)
    weight = transposed.weight.flip(2, 3, 4).transpose(0, 1)
    x = torch.rand(1, 2, 5, 6, 7)
    torch.testing.assert_close(transposed(x), torch.nn.functional.conv3d(x, weight, transposed.bias, padding=1))


def write_official(folder, names, state):
    folder.mkdir(exist_ok=True)
    for name in names:
        torch.save(state, folder / f"{name}.pth")


def test_a_folder_of_official_weights_segments_every_tile(tmp_path):
    torch.manual_seed(3)
    write_official(tmp_path, SMALL.names, official_state(TINY))
    model = PublishedWeights(tmp_path, TINY, SMALL)
    image = np.random.default_rng(0).normal(size=SMALL.grid.shape).astype(np.float32)
    labels = segment_standard(image, model)
    assert labels.shape == SMALL.grid.shape
    assert labels.max() <= 132
    flat = model.predict("1_1_1", np.full(SMALL.tile_shape, 2.0, np.float32))
    assert flat.shape == SMALL.tile_shape


def test_tiles_enter_the_published_network_with_z_first(tmp_path, monkeypatch):
    write_official(tmp_path, SMALL.names, official_state(TINY))
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


def test_a_missing_file_of_27_is_named(tmp_path):
    for name in EMBEDDED.names:
        (tmp_path / f"{name}.pth").touch()
    (tmp_path / "2_3_1.pth").unlink()
    with pytest.raises(InputError, match=r"no state dict of tile 2_3_1; expected .*2_3_1.pth"):
        open_weights(SlantParams(weights=str(tmp_path)))


def test_a_file_that_is_no_state_dict_is_one_line(tmp_path):
    for name in SMALL.names:
        (tmp_path / f"{name}.pth").write_bytes(b"not torch")
    with pytest.raises(InputError, match=r"1_1_1.pth cannot be read") as caught:
        PublishedWeights(tmp_path, TINY, SMALL).predict("1_1_1", np.zeros(SMALL.tile_shape, np.float32))
    assert "\n" not in str(caught.value)


# --- ours ------------------------------------------------------------------------------------------------------------


def test_27_compact_networks_fit_into_40_mb():
    count = sum(p.numel() for p in TileNet(COMPACT_ARCHITECTURE).parameters())
    assert 27 * 2 * count < 39e6


def test_any_tile_shape_comes_back_as_it_was():
    with torch.inference_mode():
        assert UNet3D(TINY_COMPACT)(torch.rand(1, 1, 11, 14, 9)).shape == (1, 3, 11, 14, 9)


def test_without_scores_the_prior_decides():
    network = TileNet(TINY_COMPACT)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    voxels, channels = torch.tensor([3, 99, 500]), torch.tensor([0, 4, 132])
    log_prior = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]))
    scores = network(torch.rand(1, 1, 8, 9, 10), voxels, channels, log_prior)
    torch.testing.assert_close(scores, log_prior)


def counts():
    values = np.zeros((CLASSES, *(n // 2 for n in EMBEDDED.grid.shape)))
    values[0] = 1
    values[7, 10:14, 20:25, 15:20] = 4
    values[90, 20:21, 40:41, 30:31] = 1
    return values


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
    with pytest.raises(InputError, match="shape"):
        load_label_prior(tmp_path / "label_prior.npz", SMALL)
    with pytest.raises(InputError, match="cannot be read"):
        load_label_prior(tmp_path / "nothing.npz", EMBEDDED)


@pytest.fixture
def compact(tmp_path):
    """Weights whose network says nothing, so that label 7 is where the frequencies put it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    network = TileNet(TINY_COMPACT)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    write_card(folder, ModelCard(TINY_COMPACT, (), stripped=False, training={"heads": 0}))
    (folder / "label_prior.npz").write_bytes(build_label_prior(counts(), EMBEDDED).to_bytes())
    save_compact(folder / "pooled.pt", network.state_dict())
    return folder


def test_our_weights_are_half_precision_and_fall_back_on_the_pooled_network(compact):
    model = CompactWeights(compact)
    special = TileNet(TINY_COMPACT)
    save_compact(compact / "1_1_1.pt", special.state_dict())
    assert torch.equal(model.network("1_1_1").head.weight, special.head.weight.half().float())
    assert model.network("1_1_2").head.weight.abs().sum() == 0
    assert torch.load(compact / "1_1_1.pt", weights_only=True)["trust"].dtype == torch.float16


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "card.json").unlink(), "card.json cannot be read"),
        (lambda f: (f / "card.json").write_text('{"format": 9}'), "format 9; expected 1"),
        (lambda f: (f / "label_prior.npz").write_bytes(b"x"), "label_prior.npz"),
        (lambda f: (f / "pooled.pt").unlink(), "pooled.pt cannot be read"),
        (lambda f: save_compact(f / "pooled.pt", {}), "tensor trust must have shape .*nothing"),
    ],
)
def test_damaged_weights_are_one_line(compact, damage, message):
    damage(compact)
    with pytest.raises(InputError, match=message) as caught:
        CompactWeights(compact).predict("2_2_2", np.zeros(EMBEDDED.tile_shape, np.float32))
    assert "\n" not in str(caught.value)


def test_no_weights_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="--slant-weights DIR"):
        open_weights(SlantParams(compact=str(tmp_path / "none")))


# --- the standard head -----------------------------------------------------------------------------------------------


def test_a_robust_line_ignores_a_bright_tail():
    x = np.linspace(-2, 2, 200)
    y = 1.5 * x - 0.25
    y[190:] += 30
    slope, offset = huber_line(x, y)
    assert slope == pytest.approx(1.5, abs=0.05)
    assert offset == pytest.approx(-0.25, abs=0.05)


def scan(seed=0):
    """A ball of two tissues, seen on a turned grid of 3 mm; its brain mask; standard mm to scan mm."""
    turn = np.array([[0.96, -0.28, 0, 12], [0.28, 0.96, 0, -7], [0, 0, 1, 20], [0, 0, 0, 1.0]])
    affine = turn @ np.array([[3.0, 0, 0, -80], [0, 3.0, 0, -95], [0, 0, 3.0, -60], [0, 0, 0, 1]])
    index = np.indices((54, 55, 45)).reshape(3, -1).T
    standard_mm = index @ (np.linalg.inv(turn) @ affine)[:3, :3].T + (np.linalg.inv(turn) @ affine)[:3, 3]
    radius = np.linalg.norm(standard_mm - [0, -15, 5], axis=1).reshape(54, 55, 45)
    rng = np.random.default_rng(seed)
    data = np.where(radius < 30, 100.0, np.where(radius < 55, 70.0, 5.0)) + rng.normal(0, 1, radius.shape)
    return Volume(data.astype(np.float32), affine), radius < 55, turn


def test_a_standard_head_has_standard_intensities_whatever_the_scanner():
    volume, brain, to_scan = scan()
    head = standardise(volume, brain, to_scan, EMBEDDED.grid)
    assert head.image[head.brain].mean() == pytest.approx(0, abs=0.02)
    target = 0.7 * head.quantiles + 0.3
    louder = standardise(Volume(9 * volume.data + 300, volume.affine), brain, to_scan, EMBEDDED.grid, bias=False)
    fitted = normalise(louder, target)
    assert np.median(fitted[head.brain]) == pytest.approx(np.quantile(target, 0.5), abs=0.1)
    assert fitted.min() >= CLIP[0]
    assert len(head.quantiles) == len(QUANTILES)


def test_a_brain_off_the_grid_is_an_anatomy_error():
    volume, brain, _ = scan()
    with pytest.raises(AnatomyError, match="0 voxels of the brain lie on the standard grid"):
        standardise(volume, brain, np.diag([1.0, 1, 1, 1]) + np.eye(4)[:, [3]] @ [[0, 0, 0, 900.0]], EMBEDDED.grid)


def test_labels_come_back_to_where_they_were():
    volume, brain, to_scan = scan()
    head = standardise(volume, brain, to_scan, EMBEDDED.grid)
    labels = np.where(head.brain, 5, 0).astype(np.int32)
    back = to_scan_grid(one_hot(labels), EMBEDDED.grid, to_scan, volume.grid)
    assert 2 * np.count_nonzero((back == 5) & brain) / (np.count_nonzero(back) + brain.sum()) > 0.98


def test_the_label_with_the_largest_interpolated_share_wins():
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


def possible_everywhere(*labels):
    levels = np.zeros((CLASSES, *(n // 2 for n in SMALL.grid.shape)), dtype=np.uint8)
    levels[list(labels)] = 200
    return LabelPrior(SMALL, levels)


def tile_probabilities(prior, name, probability):
    """As `CompactWeights.probabilities`: the last label has `probability` in every voxel of a tile."""
    box, found = SMALL.box(name), []
    for number, (block, part) in enumerate(prior.blocks):
        if block_in(block, box):
            rows = np.zeros(part.log_prior.shape, dtype=np.float32)
            rows[:, 0], rows[:, -1] = 1 - probability, probability
            found.append((number, rows))
    return found


def test_shares_are_the_mean_of_the_tiles_that_cover_a_voxel():
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


def test_heads_are_not_mirrored_where_labels_lie_unevenly():
    assert not build_label_prior(counts(), EMBEDDED).symmetric


def dense(prior, tile):
    """Turns probabilities of blocks into a volume for each label, in the tile."""

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


def anatomy_of(volume, brain):
    scan = SimpleNamespace(volume=volume, grid=volume.grid, shape=volume.data.shape, affine=volume.affine)
    return HeadAnatomy(scan, brain=brain)


def test_a_step_of_the_preprocessing_can_be_left_out(compact, monkeypatch):
    volume, brain, turn = scan()
    done = []

    def aligned(*_):
        done.append("align")
        return EMBEDDED.to_template @ np.linalg.inv(turn)

    def even(image, *_):
        done.append("bias")
        return image

    monkeypatch.setattr("efface.segmentation.slant.pipeline.scan_to_template", aligned)
    monkeypatch.setattr("efface.segmentation.slant.preprocessing._even", even)
    anatomy = anatomy_of(volume, brain)
    first = segment_slant(anatomy, SlantParams(compact=compact))
    assert done == ["align", "bias"]
    np.testing.assert_array_equal(segment_slant(anatomy, SlantParams(compact=compact)).values, first.values)
    done.clear()
    segment_slant(anatomy, SlantParams(compact=compact, bias=False))
    assert done == ["align"]
    done.clear()
    upright = anatomy_of(Volume(volume.data, EMBEDDED.to_template @ np.linalg.inv(turn) @ volume.affine), brain)
    assert (segment_slant(upright, SlantParams(compact=compact, align=False)).values == first.values).mean() > 0.999
    assert done == ["bias"]


@pytest.mark.parametrize("word", ["false", "False", "no", "0", False])
@pytest.mark.parametrize("step", ["align", "bias", "normalise"])
def test_a_step_is_left_out_by_any_word_for_no(monkeypatch, step, word):
    seen = []
    slant = replace(SEGMENTERS["slant"], run=lambda _anatomy, params: seen.append(params))
    monkeypatch.setattr("efface.segmentation.SEGMENTERS", {"slant": slant})
    segment(None, "slant", {step: word})
    assert getattr(seen[0], step) is False


def test_an_unknown_parameter_is_refused():
    with pytest.raises(InputError, match="expected weights, compact, align, bias, normalise"):
        segment(None, "slant", {"sharpen": 1})


def seen_by_a_new_thread():
    """Torch's setting is that of the process for threads that start after it was made."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_the_thread_count_is_restored_when_segmentations_overlap():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    inside, leave = threading.Barrier(2), threading.Event()

    def first():
        with pipeline._ONE_THREAD.on() as cores:
            seen.append(cores)
            inside.wait(30)
            leave.wait(30)

    def second():
        with pipeline._ONE_THREAD.on() as cores:
            seen.append(cores)
            inside.wait(30)

    seen = []
    try:
        threads = [threading.Thread(target=run) for run in (first, second)]
        for thread in threads:
            thread.start()
        threads[1].join(30)
        assert seen_by_a_new_thread() == 1  # the first still needs it
        leave.set()
        threads[0].join(30)
        assert seen_by_a_new_thread() == 2
        assert seen == [2, 2]
    finally:
        torch.set_num_threads(before)


def test_the_whole_puts_labels_on_the_scan_grid(compact, monkeypatch):
    volume, brain, turn = scan()
    affine = EMBEDDED.to_template @ np.linalg.inv(turn)
    monkeypatch.setattr("efface.segmentation.slant.pipeline.scan_to_template", lambda *_: affine)
    labels = segment_slant(anatomy_of(volume, brain), SlantParams(compact=compact))
    assert labels.values.shape == volume.data.shape
    assert set(np.unique(labels.values)) == {0, LABEL_IDS[6]}
    centre = np.argwhere(labels.values > 0).mean(axis=0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    expected = [-85 + 2 * 23.5, -124 + 2 * 44.5, -72 + 2 * 34.5]  # voxels 20 to 27, 40 to 49, 30 to 39
    np.testing.assert_allclose(centre, turn[:3, :3] @ expected + turn[:3, 3], atol=1.5)
    assert labels.provenance.segmenter == "slant"
    assert "131 of 132 labels" in labels.warnings[0]
    assert preprocessing.ALIGNING_MM == 2.0


def test_a_place_is_of_its_geometry():
    with pytest.raises(InputError, match="no tile"):
        LabelPrior(EMBEDDED, np.zeros((CLASSES, 43, 55, 39), np.uint8)).tile("9_9_9")
