"""The 3-D U-Net of SLANT: one class, the published widths and our compact ones.

The published code (github.com/MASILab/SLANTbrainSeg, ``python/torchsrc/models/Unet3D.py``, read for its names and
numbers) has layers ``ec0`` to ``ec7`` and ``dc9`` to ``dc0``, each a sequence whose member 0 is the convolution and,
in the encoder, member 1 the batch normalisation; so keys are ``ec0.0.weight``, ``ec0.1.bias``, ``dc9.0.weight`` and
so on. All layers of the decoder are transposed convolutions, those of kernel 3 too. ``dc0`` (64 to 133, kernel 1) is
in the state dicts, but the published forward pass ends with ``dc1``. Axes of a tile in the network are (z, x, y), and
its normalisation always uses the batch's own statistics: the published programme predicts in training mode.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
Cicek et al. "3D U-Net: learning dense volumetric segmentation from sparse annotation." MICCAI 2016, 424-432.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from efface.errors import InputError

CLASSES = 133
"""Background and the 132 labels."""
UNUSED_LAYER = "dc0."
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""In official state dicts, and of no effect there."""


@dataclass(frozen=True)
class Architecture:
    """Widths of a U-Net.

    Attributes
    ----------
    encoder
        Output channels of ec0 to ec7; pooling follows ec1, ec3 and ec5.
    decoder
        Output channels of dc9 to dc1; dc9, dc6 and dc3 double the resolution.
    published
        Layers as published: batch normalisation in the encoder only, transposed convolutions. Else instance
        normalisation everywhere (the same thing for one tile at a time, and it does not mix tiles in training) and,
        where the kernel is 3, plain convolutions, which compute the same and are faster.
    """

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    published: bool = False


PUBLISHED_PLAN = Architecture((32, 64, 64, 128, 128, 256, 256, 512), (512, 256, 256, 256, 133, 133, 133, 133, 133), True)
COMPACT_PLAN = Architecture((16, 16, 32, 32, 48, 48, 48, 64), (48, 48, 48, 32, 32, 32, 16, 16, 24))
"""0.64 million parameters: 27 networks are 35 MB in half precision. The last three layers, at full resolution, take
most of the time, so they are narrow."""


@functools.cache
def device() -> torch.device:
    """Device of the networks: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class UNet3D(nn.Module):
    """U-Net of four levels.

    Parameters
    ----------
    plan
        Widths and kinds of layers.
    """

    def __init__(self, plan: Architecture) -> None:
        super().__init__()
        self.plan = plan
        e, d = plan.encoder, plan.decoder
        for number, (wide_in, wide_out) in enumerate(zip((1, *e[:-1]), e, strict=True)):
            self.add_module(f"ec{number}", self._layer(wide_in, wide_out, norm=True))
        skips = {8: e[5], 5: e[3], 2: e[1]}
        wide_in = e[7]
        for number, wide_out in zip(range(9, 0, -1), d, strict=True):
            up = number in (9, 6, 3)
            layer = self._layer(wide_in + skips.get(number, 0), wide_out, norm=not plan.published, up=up, decoder=True)
            self.add_module(f"dc{number}", layer)
            wide_in = wide_out

    def _layer(
        self, wide_in: int, wide_out: int, *, norm: bool, up: bool = False, decoder: bool = False
    ) -> nn.Sequential:
        layers: list[nn.Module]
        if up:
            layers = [nn.ConvTranspose3d(wide_in, wide_out, 2, stride=2)]
        elif decoder and self.plan.published:
            layers = [nn.ConvTranspose3d(wide_in, wide_out, 3, padding=1)]
        else:
            layers = [nn.Conv3d(wide_in, wide_out, 3, padding=1)]
        if norm and self.plan.published:
            layers.append(nn.BatchNorm3d(wide_out, track_running_stats=False))
        elif norm:
            layers.append(nn.InstanceNorm3d(wide_out, affine=True))
        layers.append(nn.ReLU())
        return nn.Sequential(*layers)

    def forward(self, tile: Tensor) -> Tensor:
        """Features (published: scores) at every voxel.

        Parameters
        ----------
        tile
            Shape (batch, 1, a, b, c), any size from 8 up.

        Returns
        -------
        torch.Tensor
            Shape (batch, decoder[-1], a, b, c).
        """
        skips: list[Tensor] = []
        x: Tensor = tile
        for level in range(3):
            x = self.get_submodule(f"ec{2 * level + 1}")(self.get_submodule(f"ec{2 * level}")(x))
            skips.append(x)
            x = nn.functional.max_pool3d(x, 2, ceil_mode=True)
        x = self.get_submodule("ec7")(self.get_submodule("ec6")(x))
        for number in (9, 6, 3):
            skip = skips.pop()
            a, b, c = skip.shape[2:]
            x = self.get_submodule(f"dc{number}")(x)[..., :a, :b, :c]
            x = self.get_submodule(f"dc{number - 1}")(torch.cat((x, skip), dim=1))
            x = self.get_submodule(f"dc{number - 2}")(x)
        return x


class TileNet(nn.Module):
    """Our network of a tile: a compact U-Net, to whose scores the log label frequencies are added.

    With one tile a batch, normalisation erases where the tile is; so position enters after it. Scores are computed
    at chosen voxels and for chosen labels only: where and what the prior holds possible.

    Parameters
    ----------
    plan
        Widths of the U-Net.
    """

    def __init__(self, plan: Architecture = COMPACT_PLAN) -> None:
        super().__init__()
        self.unet = UNet3D(plan)
        self.head = nn.Linear(plan.decoder[-1], CLASSES)
        self.trust = nn.Parameter(torch.ones(CLASSES))
        """How much the prior counts, per label."""

    def forward(self, tile: Tensor, voxels: Tensor, channels: Tensor, log_prior: Tensor) -> Tensor:
        """Scores of labels.

        Parameters
        ----------
        tile
            Normalised intensities, shape (1, 1, x, y, z).
        voxels
            Flat indices into the tile, shape (n,).
        channels
            Label indices, ascending, shape (k,).
        log_prior
            Shape (n, k).

        Returns
        -------
        torch.Tensor
            Shape (n, k).
        """
        features = self.unet(tile)[0].flatten(1).index_select(1, voxels).T
        return self.scores(features, channels, log_prior)

    def scores(self, features: Tensor, channels: Tensor, log_prior: Tensor) -> Tensor:
        """Scores of labels from the U-Net's features of voxels, shape (n, features); the rest as in `forward`."""
        scores = nn.functional.linear(features, self.head.weight[channels], self.head.bias[channels])
        return torch.addcmul(scores, log_prior, self.trust[channels])


def published_shapes() -> Mapping[str, tuple[int, ...]]:
    """Name and shape of every tensor of an official state dict that is used."""
    with torch.device("meta"):
        state = UNet3D(PUBLISHED_PLAN).state_dict()
    return MappingProxyType({key: tuple(value.shape) for key, value in state.items()})


def load_published(state: Mapping[str, Any], where: str, plan: Architecture = PUBLISHED_PLAN) -> UNet3D:
    """Make a network from an official state dict.

    Parameters
    ----------
    state
        Tensors by key; the unused layer ``dc0``, running statistics, and a leading ``module.`` are allowed for.
    where
        What to call it in an error, a path.
    plan
        For tests: the published layers at other widths.

    Raises
    ------
    InputError
        If a tensor is missing, has another shape, or is not known; the text names it.
    """
    found = {key.removeprefix("module."): value for key, value in state.items()}
    found = {k: v for k, v in found.items() if not k.startswith(UNUSED_LAYER) and not k.endswith(STATISTICS)}
    with torch.device("meta"):
        network = UNet3D(plan)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key, shape in expected.items():
        value = found.get(key)
        received = "nothing" if value is None else str(tuple(value.shape)) if isinstance(value, Tensor) else "no tensor"
        if received != str(shape):
            msg = (
                f"SLANT weights {where}: tensor {key} must have shape {shape}; received {received}: "
                "hand in the published state dict of this tile"
            )
            raise InputError(msg)
    unknown = sorted(set(found) - set(expected))
    if unknown:
        msg = (
            f"SLANT weights {where}: expected the {len(expected)} tensors of the published network; "
            f"received also {unknown[0]}: hand in the published state dict of this tile"
        )
        raise InputError(msg)
    network.load_state_dict({key: value.float() for key, value in found.items()}, assign=True)
    return network.eval().to(device())
