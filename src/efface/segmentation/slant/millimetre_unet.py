"""One U-Net for the whole brain at 1 mm, whose wide layers work at 2 mm.

Two thin layers see single voxels: the first one, and the last but one. Everything between works on cells of 2 x 2 x 2
voxels or larger ones. Each cell ends as one vector, which a matrix maps to the scores of its eight voxels; the thin
layers add to these scores what is finer than a cell. Scores are computed only for cells in or near the brain. Where in
the brain a cell is enters as template coordinates, so left and right are told apart. Only torch is imported, so that
training needs nothing else.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

CLASSES = 133
"""Background and the 132 labels."""
SCORES = 136
"""Scores of a voxel: the classes, and three unused ones, since tensor cores want multiples of eight."""
MULTIPLE = 16
"""Every side of the input is a multiple of this."""
WIDTHS = (16, 48, 80, 128, 160)
"""Channels at 1, 2, 4, 8 and 16 mm."""
CELL_WIDTH, VOXEL_WIDTH = 64, 24
"""Channels that the scores are computed from: of a cell, and of a voxel."""


def convolution(wide_in: int, wide_out: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, rectification."""
    padding = size // 2 if stride == 1 else 0
    return nn.Sequential(
        nn.Conv3d(wide_in, wide_out, size, stride, padding, bias=False), nn.BatchNorm3d(wide_out), nn.ReLU(inplace=True)
    )


class Block(nn.Module):
    """Two convolutions; the second is residual."""

    def __init__(self, wide_in: int, wide_out: int) -> None:
        super().__init__()
        self.first = convolution(wide_in, wide_out)
        norm = nn.BatchNorm3d(wide_out)
        nn.init.zeros_(norm.weight)  # the residual part starts from nothing
        self.second = nn.Sequential(nn.Conv3d(wide_out, wide_out, 3, padding=1, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        """Same size as `x`."""
        once: Tensor = self.first(x)
        twice: Tensor = self.second(once)
        return functional.relu(once + twice)


class Ascent(nn.Module):
    """Double the resolution, join the features of the descent, and mix both."""

    def __init__(self, wide_in: int, wide_skip: int, wide_out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(wide_in, wide_skip, 2, 2)
        self.mix = Block(2 * wide_skip, wide_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Same size as `skip`."""
        mixed: Tensor = self.mix(torch.cat([self.up(x), skip], dim=1))
        return mixed


class Rows(torch.autograd.Function):
    """Choose rows, each at most once: the gradient is copied, which is faster than the general sum and deterministic."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, chosen: Tensor) -> Tensor:
        """Rows of `values`."""
        ctx.save_for_backward(chosen)
        ctx.shape = values.shape
        return values.index_select(0, chosen)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Gradient of `values`."""
        (chosen,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(0, chosen, gradient), None


def rows(values: Tensor, chosen: Tensor) -> Tensor:
    """Rows of an array of any shape by their numbers, each at most once."""
    found: Tensor = Rows.apply(values, chosen)  # type: ignore[no-untyped-call]
    return found


class MillimetreUNet(nn.Module):
    """The network.

    Parameters
    ----------
    widths
        Channels at 1, 2, 4, 8 and 16 mm.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        w1, w2, w4, w8, w16 = widths
        self.fine = convolution(2, w1)
        self.to2 = nn.Conv3d(w1, w2, 2, 2)
        self.position = nn.Conv3d(3, w2, 1)
        self.down2 = nn.Sequential(nn.BatchNorm3d(w2), nn.ReLU(inplace=True), Block(w2, w2))
        self.down4 = nn.Sequential(convolution(w2, w4, size=2, stride=2), Block(w4, w4))
        self.down8 = nn.Sequential(convolution(w4, w8, size=2, stride=2), Block(w8, w8), Block(w8, w8))
        self.down16 = nn.Sequential(convolution(w8, w16, size=2, stride=2), Block(w16, w16), Block(w16, w16))
        self.up8, self.up4 = Ascent(w16, w8, w8), Ascent(w8, w4, w4)
        self.up2 = Ascent(w4, w2, CELL_WIDTH)
        self.coarse_scores = nn.Conv3d(w4, SCORES, 1)
        self.cell_scores = nn.Linear(CELL_WIDTH, 8 * SCORES)
        self.to1 = nn.ConvTranspose3d(CELL_WIDTH, w1, 2, 2)
        self.last = convolution(2 * w1, VOXEL_WIDTH)
        self.voxel_scores = nn.Linear(VOXEL_WIDTH, SCORES, bias=False)

    def features(self, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features that scores are computed from.

        Parameters
        ----------
        image
            Intensities and brain mask at 1 mm, shape (batch, 2, x, y, z); every side is a multiple of `MULTIPLE`.
        position
            Where each cell is in the template, shape (batch, 3, x / 2, y / 2, z / 2).

        Returns
        -------
        cells, voxels, coarse
            At 2 mm, shape (batch, `CELL_WIDTH`, x / 2, ...); at 1 mm, (batch, `VOXEL_WIDTH`, x, ...); at 4 mm.
        """
        cells, fine, coarse = self.encode(image, position)
        return cells, self.voxel_features(cells, fine), coarse

    def encode(self, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the cells, of single voxels before the cells are known to them, and at 4 mm; see `features`."""
        if self.to2.weight.is_contiguous(memory_format=torch.channels_last_3d):
            image = image.contiguous(memory_format=torch.channels_last_3d)
        fine = self.fine(image)
        at2 = self.down2(self.to2(fine) + self.position(position))
        at4 = self.down4(at2)
        at8 = self.down8(at4)
        at4 = self.up4(self.up8(self.down16(at8), at8), at4)
        return self.up2(at4, at2), fine, at4

    def voxel_features(self, cells: Tensor, fine: Tensor) -> Tensor:
        """Features at 1 mm, from those of the cells and of single voxels as `encode` returns them."""
        mixed: Tensor = self.last(torch.cat([self.to1(cells), fine], dim=1))
        return mixed

    def slab_features(self, cells: Tensor, fine: Tensor, slab: slice) -> Tensor:
        """What `voxel_features` returns for some cells along x, in less memory.

        Parameters
        ----------
        cells, fine
            As `encode` returns them.
        slab
            Cells along the first axis of space.

        Returns
        -------
        torch.Tensor
            Shape (batch, `VOXEL_WIDTH`, 2 * cells of the slab, y, z).
        """
        wide = slice(max(0, slab.start - 1), min(cells.shape[2], slab.stop + 1))
        before, after = 2 * (slab.start - wide.start), 2 * (wide.stop - slab.stop)
        near = slice(before // 2, 2 * (wide.stop - wide.start) - after // 2)  # one voxel more on either side
        up = self.to1(cells[:, :, wide])[:, :, near]
        mixed: Tensor = self.last(torch.cat([up, fine[:, :, 2 * wide.start : 2 * wide.stop][:, :, near]], dim=1))
        return mixed[:, :, before // 2 : mixed.shape[2] - after // 2]

    def scores(self, cells: Tensor, voxels: Tensor, chosen: Tensor) -> Tensor:
        """Scores of the voxels of some cells.

        Parameters
        ----------
        cells, voxels
            As `features` returns them.
        chosen
            Numbers of the cells in a flat (batch, x / 2, y / 2, z / 2) array, int64, shape (n,).

        Returns
        -------
        torch.Tensor
            Shape (n, 8, `SCORES`); voxels of a cell in the order of `cell_voxels`.
        """
        of_cells = rows(cells.movedim(1, -1).reshape(-1, cells.shape[1]), chosen)
        by_cell: Tensor = self.cell_scores(of_cells).view(-1, 8, SCORES)
        by_voxel: Tensor = self.voxel_scores(rows(cell_voxels(voxels), chosen))
        return by_cell + by_voxel


def fold_normalisation(network: MillimetreUNet) -> MillimetreUNet:
    """Put every batch normalisation into the convolution before it, in place; the results stay the same.

    Parameters
    ----------
    network
        In evaluation mode; it cannot be trained further.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential) and len(module) > 1:
            convolution, norm = module[0], module[1]
            if isinstance(convolution, nn.Conv3d) and isinstance(norm, nn.BatchNorm3d):
                module[0], module[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    norm = network.down2[0]  # after the sum of two convolutions
    if isinstance(norm, nn.BatchNorm3d) and norm.running_var is not None and network.position.bias is not None:
        network.to2 = fuse_conv_bn_eval(network.to2, norm)
        with torch.no_grad():
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            network.position.weight.mul_(scale[:, None, None, None, None])
            network.position.bias.mul_(scale)
        network.down2[0] = nn.Identity()
    return network


def cell_voxels(values: Tensor) -> Tensor:
    """Group voxels by cell: shape (batch, c, x, y, z) to (batch * x / 2 * y / 2 * z / 2, 8, c)."""
    n, c, x, y, z = values.shape
    parted = values.reshape(n, c, x // 2, 2, y // 2, 2, z // 2, 2)
    return parted.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(-1, 8, c)


def from_cells(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo `cell_voxels` for values of shape (batch * x / 2 * y / 2 * z / 2, 8); `shape` is (batch, x, y, z)."""
    n, x, y, z = shape
    parted = values.reshape(n, x // 2, y // 2, z // 2, 2, 2, 2)
    return parted.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, x, y, z)


def cells_near(mask: Tensor, reach: int = 1) -> Tensor:
    """Numbers of the cells in a mask of shape (batch, 1, x, y, z) or up to `reach` beside it, as `scores` takes them."""
    touched = functional.max_pool3d(mask.float(), 2)
    near = functional.max_pool3d(touched, 2 * reach + 1, stride=1, padding=reach)
    return near.flatten().nonzero()[:, 0]
