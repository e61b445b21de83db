"""What the 1 mm network takes: intensities, brain mask, and where each cell is. Only torch is imported."""

import torch
from torch import Tensor
from torch.nn import functional

OUTSIDE = -4.0
"""Intensity outside the brain mask."""
POSITION_CENTRE_MM, POSITION_SCALE_MM = (0.0, -18.0, 8.0), 80.0
"""Template coordinates are given to the network relative to this point and in units of this length."""


def network_input(z: Tensor, mask: Tensor) -> Tensor:
    """Intensities, constant outside the mask, and the mask.

    Parameters
    ----------
    z
        z-scores over the brain, shape (batch, 1, x, y, z).
    mask
        Brain mask, bool, same shape.

    Returns
    -------
    torch.Tensor
        Shape (batch, 2, x, y, z).
    """
    return torch.cat([torch.where(mask, z, OUTSIDE), mask.float()], dim=1)


def index_grid(shape: tuple[int, ...], device: torch.device | None = None) -> Tensor:
    """Voxel indices, float, shape (x, y, z, 3)."""
    return torch.stack(torch.meshgrid(*[torch.arange(float(n), device=device) for n in shape], indexing="ij"), dim=-1)


def cell_centres(points: Tensor) -> Tensor:
    """Mean of the points of each cell of 2 x 2 x 2 voxels, shape (x / 2, y / 2, z / 2, 3)."""
    return functional.avg_pool3d(points.movedim(-1, 0)[None], 2)[0].movedim(0, -1)


def positions(points: Tensor, to_template: Tensor) -> Tensor:
    """Network coordinates of voxel points.

    Parameters
    ----------
    points
        Shape (x, y, z, 3).
    to_template
        Voxel to template mm, shape (4, 4).

    Returns
    -------
    torch.Tensor
        Shape (3, x, y, z).
    """
    centre = torch.tensor(POSITION_CENTRE_MM, device=points.device)
    mm = points @ to_template[:3, :3].T + (to_template[:3, 3] - centre)
    return mm.movedim(-1, 0) / POSITION_SCALE_MM
