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
from efface.anatomy.head_networks import WINDOW, grid_around, loaded, normalised, u_shaped
from efface.anatomy.templates import FEATURE_LABELS
from efface.spatial.resampling import block_mean, resample
from efface.spatial.types import Grid, Volume

GRID_MM = 5.0
CHANNELS = (16, 32, 64, 128)
CLASSES = 1 + len(FEATURE_LABELS)
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
        logits: Tensor = self.head(u_shaped(x, self.down, self.up, self.merge))
        return logits


@functools.cache
def trained_network() -> LandmarkNet:
    """Load the network that comes with efface, once a process.

    Raises
    ------
    DataPackageError
        If its weights are missing.
    """
    return loaded(LandmarkNet(), WEIGHTS, "Defacer")


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

    Raises
    ------
    InputError
        If the voxel size asks for a grid beyond `MAXIMUM_VOXELS`.
    """
    return grid_around(grid, GRID_MM, _STEP, "finding facial landmarks")
