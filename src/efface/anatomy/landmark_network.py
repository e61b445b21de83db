"""The network that finds eyes, nose, ears and mouth in a head: a small 3-D U-Net on a 5 mm grid.

References
----------
Jeong et al. "De-identification of facial features in magnetic resonance images: software development using deep
learning technology." Journal of Medical Internet Research 22 (2020) e22739 (Defacer, whose shape of network this is).
"""

import functools
import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efface._gpu import gpu_memory
from efface.anatomy.templates import FEATURE_LABELS
from efface.errors import DataPackageError
from efface.spatial.resampling import block_mean, resample
from efface.spatial.types import FloatVolume, Grid, Volume

GRID_MM = 5.0
CHANNELS = (16, 32, 64, 128)
CLASSES = 1 + len(FEATURE_LABELS)
WINDOW = (1.0, 99.5)
"""Percentiles of a scan that become 0 and 1."""
WEIGHTS = Path(__file__).parents[1] / "data" / "defacer.pt"
_STEP = 2 ** (len(CHANNELS) - 1)


class Block(nn.Module):
    """Two convolutions with instance norm, squeeze-and-excitation, and a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, padding=1, bias=False),
            nn.InstanceNorm3d(outputs, affine=True),
            nn.ReLU(inplace=True),
            nn.Conv3d(outputs, outputs, 3, padding=1, bias=False),
            nn.InstanceNorm3d(outputs, affine=True),
        )
        self.excitation = nn.Sequential(
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(outputs, outputs // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv3d(outputs // 4, outputs, 1),
            nn.Sigmoid(),
        )
        self.shortcut = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, inputs, x, y, z) to (n, outputs, x, y, z)."""
        y = self.convolutions(x)
        return torch.relu(y * self.excitation(y) + self.shortcut(x))


class LandmarkNet(nn.Module):
    """U-Net of residual squeeze-and-excitation blocks; any shape whose sides are multiples of 8 voxels."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList([Block(1, channels[0]), *[Block(i, o) for i, o in pairs]])
        self.up = nn.ModuleList([nn.ConvTranspose3d(o, i, 2, stride=2) for i, o in pairs])
        self.merge = nn.ModuleList([Block(2 * i, i) for i, _ in pairs])
        self.head = nn.Conv3d(channels[0], CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (n, 5, x, y, z), of intensities, shape (n, 1, x, y, z)."""
        levels: list[Tensor] = []
        for depth, block in enumerate(self.down):
            x = block(x if depth == 0 else nn.functional.max_pool3d(x, 2))
            levels.append(x)
        for up, merge, skip in reversed(list(zip(self.up, self.merge, levels[:-1], strict=True))):
            x = merge(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


@functools.cache
def trained_network() -> LandmarkNet:
    """Load the network that comes with efface, once a process.

    Raises
    ------
    DataPackageError
        If its weights are missing.
    """
    if not WEIGHTS.is_file():
        msg = f"the weights of Defacer are missing from the installed efface ({WEIGHTS}): install it again"
        raise DataPackageError(msg)
    network = LandmarkNet()
    state = torch.load(WEIGHTS, map_location="cpu", weights_only=True)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    network.eval()
    if torch.cuda.is_available():
        with gpu_memory("loading the landmark network"):
            network.cuda()
    return network


def feature_probabilities(volume: Volume, network: LandmarkNet | None = None) -> tuple[NDArray[np.float32], Grid]:
    """Probabilities of background and `FEATURE_LABELS`, shape (5, x, y, z), and the 5 mm grid they are on.

    Parameters
    ----------
    volume
        A head, RAS+.
    network
        None for the trained one.
    """
    network = network or trained_network()
    grid = network_grid(volume.grid)
    coarse = block_mean(volume, GRID_MM)
    # What is beyond the field of view is as dark as the scan's air, which need not be 0.
    small = normalised(resample(coarse, grid, fill=float(np.percentile(coarse.data, WINDOW[0]))))
    device = next(network.parameters()).device
    with gpu_memory("finding facial landmarks"), torch.inference_mode():
        logits = network(torch.from_numpy(small)[None, None].to(device))
        probabilities = torch.softmax(logits.float(), dim=1)[0].cpu().numpy()
    return np.asarray(probabilities, dtype=np.float32), grid


def network_grid(grid: Grid) -> Grid:
    """The 5 mm grid over a scan's whole field of view, along its axes, sides padded to multiples of 8 voxels.

    Sides are 16 at least: one voxel is left of 8 on the network's last level, and one has no variance to norm by.
    """
    direction = grid.affine[:3, :3] / grid.spacing_mm
    extent = np.array(grid.shape) * grid.spacing_mm
    sides = np.maximum(2, np.ceil(extent / GRID_MM / _STEP - 1e-4)).astype(int) * _STEP
    centre = grid.affine @ np.append((np.array(grid.shape) - 1) / 2, 1.0)
    affine = np.eye(4)
    affine[:3, :3] = direction * GRID_MM
    affine[:3, 3] = centre[:3] - affine[:3, :3] @ ((sides - 1) / 2)
    return Grid((int(sides[0]), int(sides[1]), int(sides[2])), affine)


def normalised(data: FloatVolume) -> FloatVolume:
    """Intensities with the percentiles of `WINDOW` at 0 and 1, clipped."""
    low, high = np.percentile(data, WINDOW)
    return np.asarray(np.clip((data - low) / max(float(high - low), 1e-6), 0, 1), dtype=np.float32)
