"""The 3-D U-Net of SLANT, with the published widths and with our smaller ones.

Names and numbers of the published network are from its code (github.com/MASILab/SLANTbrainSeg,
``python/torchsrc/models/Unet3D.py``). Its layers are ``ec0`` to ``ec7`` and ``dc9`` to ``dc0``. Each is a sequence:
member 0 is the convolution and, in the encoder, member 1 is the batch normalisation. Hence the keys ``ec0.0.weight``,
``ec0.1.bias``, ``dc9.0.weight`` and so on. All layers of the decoder are transposed convolutions, including those of
kernel size 3. ``dc0`` (64 to 133 channels, kernel size 1) is in the state dicts, but the published forward pass ends
with ``dc1``. The axes of a tile in the network are (z, x, y). The normalisation always uses the statistics of the
batch, because the published program predicts in training mode.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
Cicek et al. "3D U-Net: learning dense volumetric segmentation from sparse annotation." MICCAI 2016, 424-432.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.io.tensor_files import StoredTensor
from efface.segmentation.slant.state_dicts import check_tensors, read_tensors

CLASSES = 133
"""Background and the 132 labels."""
UNUSED_LAYER = "dc0."
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of the published state dicts that the published program does not use."""


@dataclass(frozen=True)
class Architecture:
    """Widths and kinds of the layers of a U-Net.

    Attributes
    ----------
    encoder
        Output channels of ec0 to ec7; max pooling follows ec1, ec3 and ec5.
    decoder
        Output channels of dc9 to dc1; dc9, dc6 and dc3 double the resolution.
    published
        True for the published layers: batch normalisation in the encoder only, and transposed convolutions. False for
        instance normalisation in all layers (the same for a batch of one tile, and tiles do not mix in training) and
        convolutions of kernel size 3 (they compute the same as transposed ones, and are faster).
    """

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    published: bool = False


PUBLISHED_ARCHITECTURE = Architecture(
    (32, 64, 64, 128, 128, 256, 256, 512), (512, 256, 256, 256, 133, 133, 133, 133, 133), True
)
COMPACT_ARCHITECTURE = Architecture((16, 16, 32, 32, 48, 48, 48, 64), (48, 48, 48, 32, 32, 32, 16, 16, 24))
"""0.64 million parameters; 27 networks have 35 MB in half precision. The last three layers work at full resolution and
take most of the time, so they are narrow."""


@functools.cache
def device() -> torch.device:
    """Device that networks run on: the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class UNet3D(nn.Module):
    """U-Net of four levels.

    Parameters
    ----------
    architecture
        Widths and kinds of its layers.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        e, d = architecture.encoder, architecture.decoder
        for number, (wide_in, wide_out) in enumerate(zip((1, *e[:-1]), e, strict=True)):
            self.add_module(f"ec{number}", self._layer(wide_in, wide_out, norm=True))
        skips = {8: e[5], 5: e[3], 2: e[1]}
        wide_in = e[7]
        for number, wide_out in zip(range(9, 0, -1), d, strict=True):
            up = number in (9, 6, 3)
            wide_in += skips.get(number, 0)
            layer = self._layer(wide_in, wide_out, norm=not architecture.published, up=up, decoder=True)
            self.add_module(f"dc{number}", layer)
            wide_in = wide_out

    def _layer(
        self, wide_in: int, wide_out: int, *, norm: bool, up: bool = False, decoder: bool = False
    ) -> nn.Sequential:
        layers: list[nn.Module]
        if up:
            layers = [nn.ConvTranspose3d(wide_in, wide_out, 2, stride=2)]
        elif decoder and self.architecture.published:
            layers = [nn.ConvTranspose3d(wide_in, wide_out, 3, padding=1)]
        else:
            layers = [nn.Conv3d(wide_in, wide_out, 3, padding=1)]
        if norm and self.architecture.published:
            layers.append(nn.BatchNorm3d(wide_out, track_running_stats=False))
        elif norm:
            layers.append(nn.InstanceNorm3d(wide_out, affine=True))
        layers.append(nn.ReLU())
        return nn.Sequential(*layers)

    def forward(self, tile: Tensor) -> Tensor:
        """Compute features (of the published network: scores) of every voxel.

        Parameters
        ----------
        tile
            Intensities, shape (batch, 1, a, b, c); a, b and c are at least 8.

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
    """Our network of a tile: a compact U-Net, followed by the label prior.

    Instance normalisation removes what intensities say about the position of a tile, so position enters after the U-Net,
    as logarithms of label frequencies. Scores are computed only for the voxels and labels that the prior allows.

    Parameters
    ----------
    architecture
        Widths of the U-Net.
    """

    def __init__(self, architecture: Architecture = COMPACT_ARCHITECTURE) -> None:
        super().__init__()
        self.unet = UNet3D(architecture)
        self.head = nn.Linear(architecture.decoder[-1], CLASSES)
        self.trust = nn.Parameter(torch.ones(CLASSES))
        """Weight of the log prior, one for each label."""

    def forward(self, tile: Tensor, voxels: Tensor, channels: Tensor, log_prior: Tensor) -> Tensor:
        """Compute the scores of some labels in some voxels.

        Parameters
        ----------
        tile
            Normalised intensities, shape (1, 1, x, y, z).
        voxels
            Flat indices into the tile, shape (n,).
        channels
            Label indices, ascending, shape (k,).
        log_prior
            Logarithms of the label frequencies, shape (n, k).

        Returns
        -------
        torch.Tensor
            Shape (n, k).
        """
        features = self.unet(tile)[0].flatten(1).index_select(1, voxels).T
        return self.scores(features, channels, log_prior)

    def scores(self, features: Tensor, channels: Tensor, log_prior: Tensor) -> Tensor:
        """Compute the scores from features of the U-Net, shape (n, features); the rest is as in `forward`."""
        scores = nn.functional.linear(features, self.head.weight[channels], self.head.bias[channels])
        return torch.addcmul(scores, log_prior, self.trust[channels])


def published_shapes() -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a published state dict that are used."""
    with torch.device("meta"):
        state = UNet3D(PUBLISHED_ARCHITECTURE).state_dict()
    return MappingProxyType({key: tuple(value.shape) for key, value in state.items()})


def load_published(
    state: Mapping[str, StoredTensor | Tensor], where: str, architecture: Architecture = PUBLISHED_ARCHITECTURE
) -> UNet3D:
    """Make a network from a published state dict.

    Parameters
    ----------
    state
        Tensors by key, read or not. The unused layer ``dc0``, running statistics, and the prefix ``module.`` are let by.
    where
        Path of the state dict, for error messages.
    architecture
        Tests use other widths.

    Raises
    ------
    InputError
        If a tensor is missing, has another shape or type, is not known, or is not finite; the text names it.
    """
    found = {key.removeprefix("module."): value for key, value in state.items()}
    found = {k: v for k, v in found.items() if not k.startswith(UNUSED_LAYER) and not k.endswith(STATISTICS)}
    with torch.device("meta"):
        network = UNet3D(architecture)
    expected = network.state_dict()
    check_tensors(found, expected, where, "give the published state dict of this tile")
    unknown = sorted(set(found) - set(expected))
    if unknown:
        msg = (
            f"SLANT weights {where}: expected the {len(expected)} tensors of the published network; "
            f"received also {unknown[0]}: give the published state dict of this tile"
        )
        raise InputError(msg)
    network.load_state_dict(read_tensors(found, expected, where), assign=True)
    return network.eval().to(device())
