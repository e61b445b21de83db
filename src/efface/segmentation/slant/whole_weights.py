"""The network for the whole brain: reading and writing its weights, and the label scores that it gives."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efface.errors import InputError
from efface.io.atomic import write_atomically
from efface.io.json_files import parse_json
from efface.io.untrusted import read_limited, refusing
from efface.segmentation.labels import MIRRORED
from efface.segmentation.slant.checkpoints import LARGEST_CARD
from efface.segmentation.slant.millimetre_input import cell_centres, index_grid, network_input, positions
from efface.segmentation.slant.millimetre_unet import (
    CLASSES,
    SCORES,
    MillimetreUNet,
    cell_voxels,
    cells_near,
    fold_normalisation,
)
from efface.segmentation.slant.state_dicts import check_tensors, open_state, read_tensors
from efface.segmentation.slant.unet import device
from efface.segmentation.slant.weights_folder import CARD, WHOLE_BRAIN
from efface.spatial.types import Affine, BoolVolume, FloatVolume

FORMAT = 1
"""Of the card beside the network."""
LEVELS, WIDEST = 5, 512
"""Resolutions of the network; most channels that a card may ask for."""
SLAB_CELLS = 8
"""Cells along x whose voxels are computed at once, which limits the memory."""
NEVER = -1e4
"""Score of what is no label."""
CHUNK_CELLS = 8192
"""Cells whose scores are computed at once."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Label scores of some cells of 2 x 2 x 2 voxels.

    Attributes
    ----------
    cells
        Their numbers in the flat array of cells, int64, shape (n,).
    scores
        Logarithms of the probabilities, up to a constant for each voxel, of background, the 132 labels and three that
        never win; shape (n, 8, `millimetre_unet.SCORES`); voxels in the order of `millimetre_unet.cell_voxels`.
    """

    cells: Tensor
    scores: Tensor


class WholeBrainWeights:
    """The network, ready for use.

    Parameters
    ----------
    folder
        Holds `CARD` and `WHOLE_BRAIN`.

    Raises
    ------
    InputError
        If a file is missing, damaged, or has another architecture than the card says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.widths, self.training = read_whole_card(folder)
        network = load_whole_brain(folder / WHOLE_BRAIN, self.widths)
        folded = without_unused(fold_normalisation(network))
        self._mirrored = torch.from_numpy(np.append(MIRRORED, range(CLASSES, SCORES))).to(device())
        self.network: MillimetreUNet = folded.to(device(), memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def scores(
        self, z: FloatVolume, mask: BoolVolume, to_template: Affine, *, mirror: bool = False, beside: int = 1
    ) -> Iterator[Chunk]:
        """Predict label scores in and beside the brain mask.

        Parameters
        ----------
        z
            z-scores over the brain; every side is a multiple of `millimetre_unet.MULTIPLE`.
        mask
            Brain mask, same shape.
        to_template
            Voxel to template mm, shape (4, 4).
        mirror
            Average the probabilities with those of the mirror image; takes twice as long.
        beside
            Cells around the mask to predict too.

        Yields
        ------
        Chunk
            Every such cell once.
        """
        with torch.inference_mode():
            inside = torch.from_numpy(mask)[None, None].to(device())
            image = network_input(torch.from_numpy(z)[None, None].to(device()), inside)
            points = cell_centres(index_grid(z.shape))
            position = positions(points, torch.from_numpy(to_template).float())[None].to(device())
            views = [self.network.encode(image, position)[:2]]
            if mirror:
                across = torch.tensor([-1.0, 1.0, 1.0], device=device())[:, None, None, None]
                views.append(self.network.encode(image.flip(2), position.flip(2) * across)[:2])
            yield from self._chunks(views, cells_near(inside, beside))

    def _chunks(self, views: list[tuple[Tensor, Tensor]], chosen: Tensor) -> Iterator[Chunk]:
        x, y, z = views[0][0].shape[2:]
        for first in range(0, x, SLAB_CELLS):
            slab = slice(first, min(x, first + SLAB_CELLS))
            numbers = chosen[(chosen >= slab.start * y * z) & (chosen < slab.stop * y * z)]
            if not numbers.numel():
                continue
            slabs = [slab, slice(x - slab.stop, x - slab.start)][: len(views)]
            rows = [self._rows(*view, part) for view, part in zip(views, slabs, strict=True)]
            for some in torch.split(numbers, CHUNK_CELLS):
                local = some - slab.start * y * z
                scores = self._scores(*rows[0], local)
                if len(rows) > 1:
                    opposite = (slab.stop - slab.start - 1 - local // (y * z)) * (y * z) + local % (y * z)
                    other = self._scores(*rows[1], opposite).view(-1, 2, 4, SCORES).flip(1).view(-1, 8, SCORES)
                    shares = scores.softmax(dim=-1) + other[..., self._mirrored].softmax(dim=-1)
                    scores = (shares / 2).log()
                yield Chunk(some.cpu(), scores.cpu())

    def _rows(self, cells: Tensor, fine: Tensor, slab: slice) -> tuple[Tensor, Tensor]:
        """Features of the cells of a slab, shape (cells, width), and of their voxels, (cells, 8, width)."""
        voxels = cell_voxels(self.network.slab_features(cells, fine, slab))
        return cells[0, :, slab].flatten(1).T, voxels

    def _scores(self, cells: Tensor, voxels: Tensor, chosen: Tensor) -> Tensor:
        """What `MillimetreUNet.scores` returns, with less copying."""
        by_cell: Tensor = self.network.cell_scores(cells.index_select(0, chosen)).view(-1, SCORES)
        by_voxel = voxels.index_select(0, chosen).flatten(0, 1)
        return torch.addmm(by_cell, by_voxel, self.network.voxel_scores.weight.T).view(-1, 8, SCORES)


def read_whole_card(folder: Path) -> tuple[tuple[int, ...], Mapping[str, Any]]:
    """Channels of the network, and how it was trained, from the model card of a folder.

    Raises
    ------
    InputError
        If it is missing or not of this format.
    """
    path = folder / CARD
    with refusing(f"SLANT weights {path}", "a model card of the network for the whole brain"):
        raw = parse_json(read_limited(path, LARGEST_CARD))
        if raw["format"] != FORMAT:
            msg = f"its format is not {FORMAT}"
            raise ValueError(msg)
        widths = tuple(raw["widths"])
        if len(widths) != LEVELS or not all(type(width) is int and 1 <= width <= WIDEST for width in widths):
            msg = f"its widths are not {LEVELS} numbers of channels from 1 to {WIDEST}"
            raise ValueError(msg)
        return widths, dict(raw["training"])


def load_whole_brain(path: Path, widths: tuple[int, ...]) -> MillimetreUNet:
    """Read the network, float32, in evaluation mode.

    Raises
    ------
    InputError
        If the file is missing or damaged, or has other channels; the text names the tensor.
    """
    network = MillimetreUNet(widths)
    expected = trained_tensors(network.state_dict())
    found = open_state(path, lambda: MillimetreUNet(widths))
    check_tensors(found, expected, str(path), f"use the network and the {CARD} of one training")
    state = read_tensors(found, expected, str(path))
    if any(key.endswith("running_var") and bool((value < 0).any()) for key, value in state.items()):
        msg = f"SLANT weights {path} hold a negative variance: use the files of one training"
        raise InputError(msg)
    network.load_state_dict(state, strict=False)
    return network.eval()


def save_whole_brain(folder: Path, state: Mapping[str, Tensor], training: Mapping[str, Any]) -> None:
    """Write a network in half precision, and its model card.

    Parameters
    ----------
    folder
        An existing folder; files of the same name are replaced.
    state
        State dict of a `MillimetreUNet`.
    training
        Data, settings and results of the training, for the card.
    """
    blocks = [state[key].shape[0] for key in ("fine.0.weight", "to2.weight")]
    blocks += [state[f"down{mm}.0.0.weight"].shape[0] for mm in (4, 8, 16)]
    card = {"format": FORMAT, "widths": blocks, "training": dict(training)}
    buffer = io.BytesIO()
    torch.save({k: v.detach().half().contiguous().clone() for k, v in trained_tensors(state).items()}, buffer)
    write_atomically(folder / WHOLE_BRAIN, buffer.getvalue(), force=True)
    write_atomically(folder / CARD, (json.dumps(card, indent=1) + "\n").encode(), force=True)


def without_unused(network: MillimetreUNet) -> MillimetreUNet:
    """Give the scores without a label a value, in place, with which they never win."""
    with torch.no_grad():
        network.cell_scores.weight.view(8, SCORES, -1)[:, CLASSES:] = 0
        network.cell_scores.bias.view(8, SCORES)[:, CLASSES:] = NEVER
        network.voxel_scores.weight[CLASSES:] = 0
    return network


def trained_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the counters of batches."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
