"""Label probabilities on a grid of 1 mm, of which only those that are not negligible are kept.

All 133 probabilities of two million voxels would take a gigabyte. Nearly all of them are zero.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from efface.segmentation.slant.label_probabilities import LabelProbability, label_boxes
from efface.segmentation.slant.millimetre_unet import SCORES, cell_voxels
from efface.segmentation.slant.whole_weights import Chunk
from efface.spatial.types import LabelVolume

KEPT = 0.003
"""Probabilities above this are kept; `label_probabilities.NEGLIGIBLE` is larger."""


def voxel_numbers(shape: tuple[int, int, int]) -> torch.Tensor:
    """Numbers of the voxels of each cell in the flat array of voxels, int32, shape (cells, 8)."""
    return cell_voxels(torch.arange(int(np.prod(shape)), dtype=torch.int32).view(1, 1, *shape))[..., 0]


def arg_max(chunks: Iterable[Chunk], shape: tuple[int, int, int]) -> LabelVolume:
    """Most probable label index of every voxel, int32; 0 where no chunk is, the smallest of equally probable ones."""
    labels = torch.zeros(int(np.prod(shape)), dtype=torch.int32)
    numbers = voxel_numbers(shape)
    for chunk in chunks:
        labels[numbers[chunk.cells].long()] = torch.from_numpy(chunk.scores.numpy().argmax(axis=-1)).int()
    found: LabelVolume = labels.view(shape).numpy()
    return found


@dataclass(frozen=True, eq=False)
class SparseProbabilities:
    """Probabilities above `KEPT`, sorted by label.

    Attributes
    ----------
    shape
        Of the grid.
    labels
        Most probable label index of every voxel, shape of the grid.
    index, voxel, share
        Label index, number of the voxel in the flat array, and probability of each entry.
    """

    shape: tuple[int, int, int]
    labels: LabelVolume
    index: NDArray[np.uint8]
    voxel: NDArray[np.int32]
    share: NDArray[np.float32]

    @classmethod
    def gather(cls, chunks: Iterable[Chunk], shape: tuple[int, int, int]) -> "SparseProbabilities":
        """Keep what is not negligible."""
        labels = torch.zeros(int(np.prod(shape)), dtype=torch.int32)
        numbers = voxel_numbers(shape)
        parts: list[tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.float32]]] = []
        for chunk in chunks:
            at = numbers[chunk.cells].flatten()
            shares = chunk.scores.flatten(0, 1).softmax(dim=1).numpy()
            labels[at.long()] = torch.from_numpy(shares.argmax(axis=1)).int()
            row, label = np.divmod(np.flatnonzero(shares > KEPT), shares.shape[1])
            parts.append((label.astype(np.uint8), at.numpy()[row], shares[row, label]))
        index, voxel, share = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(index, kind="stable")
        return cls(shape, labels.view(shape).numpy(), index[order], voxel[order], share[order])

    def by_label(self) -> Iterator[LabelProbability]:
        """Probability of each label that is the most probable somewhere, around there; background first."""
        ends = np.cumsum(np.bincount(self.index, minlength=SCORES + 1))
        whole = np.zeros(int(np.prod(self.shape)), np.float32)
        for label, box in label_boxes(self.labels):
            of_label = slice(int(ends[label - 1]) if label else 0, int(ends[label]))
            if label == 0:
                whole[:] = 1  # voxels far from the brain are background
                whole[self.voxel] = 0
            whole[self.voxel[of_label]] = self.share[of_label]
            yield LabelProbability(label, box, whole.reshape(self.shape)[box].copy())
            if label == 0:
                whole[:] = 0
            whole[self.voxel[of_label]] = 0
