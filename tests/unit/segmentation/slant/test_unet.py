"""The U-Net of SLANT: published layers and names, and our own network."""

import math

import pytest
import torch

from efface.errors import InputError
from efface.segmentation.slant.unet import (
    CLASSES,
    COMPACT_ARCHITECTURE,
    PUBLISHED_ARCHITECTURE,
    TileNet,
    UNet3D,
    load_published,
    published_shapes,
)
from slant_weights import TINY, TINY_COMPACT, official_state

WIDTHS = [(1, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
DECODER = {9: (512, 512, 2), 8: (768, 256, 3), 7: (256, 256, 3), 6: (256, 256, 2), 5: (384, 133, 3)}
DECODER |= {4: (133, 133, 3), 3: (133, 133, 2), 2: (197, 133, 3), 1: (133, 133, 3)}


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
