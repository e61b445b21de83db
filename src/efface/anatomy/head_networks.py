"""What the networks that look at a whole head share: their shape, grid and intensities, and how they are loaded."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efface._gpu import gpu_memory
from efface.errors import DataPackageError
from efface.spatial.grid_limits import check_voxels
from efface.spatial.types import FloatVolume, Grid

WINDOW = (1.0, 99.5)
"""Percentiles of a scan that become 0 and 1."""
LEAST_STEPS = 2
"""Sides have so many steps at least: one voxel is left of a step on a network's last level."""

Network = TypeVar("Network", bound=nn.Module)


def u_shaped(x: Tensor, down: nn.ModuleList, up: nn.ModuleList, merge: nn.ModuleList) -> Tensor:
    """Run a tensor (n, channels, x, y, z) down the levels of a U-Net, and up again, merged with what each level saw."""
    levels: list[Tensor] = []
    for depth, block in enumerate(down):
        x = block(x if depth == 0 else nn.functional.max_pool3d(x, 2))
        levels.append(x)
    for raised, merged, skip in reversed(list(zip(up, merge, levels[:-1], strict=True))):
        x = merged(torch.cat([skip, raised(x)], dim=1))
    return x


def loaded(network: Network, weights: Path, what: str) -> Network:
    """Give a network the weights that come with efface, and put it on the GPU if there is one.

    Parameters
    ----------
    network
        With any weights.
    weights
        The file, half precision.
    what
        Name of the network, for messages.

    Raises
    ------
    DataPackageError
        If the file is missing.
    GpuMemoryError
        If the GPU has too little memory.
    """
    if not weights.is_file():
        msg = f"the weights of {what} are missing from the installed efface ({weights}): install it again"
        raise DataPackageError(msg)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    network.eval()
    if torch.cuda.is_available():
        with gpu_memory(f"loading the weights of {what}"):
            network.cuda()
    return network


def grid_around(grid: Grid, mm: float, step: int, what: str) -> Grid:
    """Cubic voxels over a scan's whole field of view, along its axes, sides padded to multiples of a step.

    Parameters
    ----------
    grid
        Of the scan.
    mm
        Voxel size.
    step
        In voxels; sides have at least `LEAST_STEPS` of them.
    what
        The computation, for the message.

    Raises
    ------
    InputError
        If the field of view asks for a grid beyond `MAXIMUM_VOXELS`.
    """
    direction = grid.affine[:3, :3] / grid.spacing_mm
    extent = np.array(grid.shape) * grid.spacing_mm
    sides = np.maximum(LEAST_STEPS, np.ceil(extent / mm / step - 1e-4)).astype(int) * step
    check_voxels(sides.tolist(), f"{what} at {mm:g} mm")
    centre = grid.affine @ np.append((np.array(grid.shape) - 1) / 2, 1.0)
    affine = np.eye(4)
    affine[:3, :3] = direction * mm
    affine[:3, 3] = centre[:3] - affine[:3, :3] @ ((sides - 1) / 2)
    return Grid((int(sides[0]), int(sides[1]), int(sides[2])), affine)


def normalised(data: FloatVolume, view: NDArray[np.bool_] | None = None) -> FloatVolume:
    """Intensities with the percentiles of `WINDOW`, of the voxels in `view`, at 0 and 1, clipped."""
    low, high = np.percentile(data if view is None else data[view], WINDOW)
    return np.asarray(np.clip((data - low) / max(float(high - low), 1e-6), 0, 1), dtype=np.float32)
