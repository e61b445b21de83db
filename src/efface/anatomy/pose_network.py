"""The network that says, for every place in a scan, which place of the average head it is: a small 3-D U-Net at 4 mm.

It judges tissue by what it looks like, not by where it is in the field of view, so it needs no start, does not care how
much of the head the scan shows, and can check a pose that registration found.

References
----------
Gopinath et al. "Registration by regression (RbR): a framework for interpretable and flexible atlas registration."
WBIR 2024, LNCS 15249 (coordinates as the network's output, and a robust fit to them).
"""

import functools
import itertools
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from efface._gpu import gpu_memory
from efface.anatomy.head_networks import grid_around, loaded, normalised, u_shaped
from efface.anatomy.pose_prediction import GRID_MM, PosePrediction
from efface.spatial.resampling import block_mean, resample
from efface.spatial.types import Volume

CHANNELS = (16, 32, 64, 128, 128)
SCALE_MM = 100.0
"""Unit of the coordinates in the network."""
CENTRE_MM = (0.0, 0.0, -20.0)
"""The coordinates' zero, in the average head's RAS+ mm."""
WEIGHTS = Path(__file__).parents[1] / "data" / "pose.pt"
STEP = 2 ** (len(CHANNELS) - 1)
OUTPUTS = ("x", "y", "z", "spread", "head", "brain")
"""Channels: the coordinates, the logarithm of their uncertainty, and two logits."""


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first in (inputs, outputs):
        layers += [nn.Conv3d(first, outputs, 3, padding=1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class PoseNet(nn.Module):
    """U-Net; any shape whose sides are multiples of `STEP` voxels."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList([_block(2, channels[0]), *[_block(i, o) for i, o in pairs]])
        self.up = nn.ModuleList([nn.ConvTranspose3d(o, i, 2, stride=2) for i, o in pairs])
        self.merge = nn.ModuleList([_block(2 * i, i) for i, _ in pairs])
        self.head = nn.Conv3d(channels[0], len(OUTPUTS), 1)

    def forward(self, x: Tensor) -> Tensor:
        """`OUTPUTS`, shape (n, 6, x, y, z), of intensities and field of view, shape (n, 2, x, y, z)."""
        outputs: Tensor = self.head(u_shaped(x, self.down, self.up, self.merge))
        return outputs


@functools.cache
def trained_network() -> PoseNet:
    """Load the network that comes with efface, once a process.

    Raises
    ------
    DataPackageError
        If its weights are missing.
    """
    network = loaded(PoseNet(), WEIGHTS, "the pose network")
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def predict(volume: Volume, network: PoseNet | None = None) -> PosePrediction:
    """Ask the network what it sees in a head, RAS+; `network` defaults to the trained one."""
    network = network or trained_network()
    coarse = block_mean(volume, GRID_MM)
    grid = grid_around(volume.grid, GRID_MM, STEP, "finding the pose of the head")
    ones = Volume(np.ones(coarse.data.shape, np.float32), coarse.affine)
    view = resample(ones, grid) > 0.5
    image = np.where(view, normalised(resample(coarse, grid), view), 0).astype(np.float32)
    inputs = torch.from_numpy(np.stack([image, view.astype(np.float32)]))[None]
    device = next(network.parameters()).device
    with gpu_memory("finding the pose of the head"), torch.inference_mode():
        inputs = inputs.to(device).contiguous(memory_format=torch.channels_last_3d)
        out = network(inputs)[0].float().cpu().numpy()
    head = (out[4] > 0) & view
    return PosePrediction(
        np.argwhere(head) @ grid.affine[:3, :3].T + grid.affine[:3, 3],
        out[:3, head].T.astype(np.float64) * SCALE_MM + np.array(CENTRE_MM),
        np.exp(out[3, head].astype(np.float64)) * SCALE_MM,
        Volume(np.where(view, expit(out[5]), 0).astype(np.float32), grid.affine),
    )
