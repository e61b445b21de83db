"""Augmented tiles of the training heads, drawn reproducibly."""

import numpy as np
import torch
from numpy.typing import NDArray

from efface.segmentation.slant.label_prior import BlockPrior, LabelPrior
from efface.segmentation.slant.preprocessing import CLIP
from efface.spatial.types import FloatVolume
from efface.training.augment import Amounts, apply, draw
from efface.training.slant_data import ATLAS, TrainingHead, image_of


class Sampler:
    """Draws augmented tiles of training heads.

    Parameters
    ----------
    heads
        The training heads.
    target
        Quantiles that their intensities are fitted to; None for no fit.
    prior
        Label prior made from the same heads.
    face
        Probability of each voxel of the networks' grid to belong to the face.
    tiles
        Names of the tiles to draw from.
    amounts
        Strength of the augmentation.
    stripped
        Whether the networks see the brain only.
    atlas_weight
        Probability of drawing the atlas, if it is among the heads, relative to the number of heads.
    """

    def __init__(
        self,
        heads: list[TrainingHead],
        target: NDArray[np.float64] | None,
        prior: LabelPrior,
        face: torch.Tensor,
        tiles: tuple[str, ...],
        amounts: Amounts,
        *,
        stripped: bool = False,
        atlas_weight: float = 0.04,
    ) -> None:
        self.prior, self.face, self.tiles, self.amounts = prior, face, tiles, amounts
        self.images = [torch.from_numpy(network_image(head, target, stripped=stripped)) for head in heads]
        self.labels = [torch.from_numpy(head.labels) for head in heads]
        weight = np.array([atlas_weight * len(heads) if head.name == ATLAS else 1.0 for head in heads])
        self.odds = weight / weight.sum()
        self._tile_priors: dict[str, BlockPrior] = {}

    def tile_prior(self, name: str) -> BlockPrior:
        """Label prior of a tile; its logarithms are kept in half precision to save memory."""
        if name not in self._tile_priors:
            made = self.prior.tile(name)
            self._tile_priors[name] = BlockPrior(made.voxels, made.channels, made.log_prior.half())
        return self._tile_priors[name]

    def sample(self, seed: int, step: int, voxels: int) -> tuple[torch.Tensor, BlockPrior, torch.Tensor]:
        """Draw the tile of a training step.

        Parameters
        ----------
        seed
            Of the training.
        step
            Number of the step; the same seed and step give the same tile.
        voxels
            Maximum number of voxels whose labels are drawn.

        Returns
        -------
        tile : torch.Tensor
            Normalised intensities, shape (1, 1, x, y, z).
        prior : BlockPrior
            Label prior in n voxels of the tile.
        labels : torch.Tensor
            Label indices of these voxels, shape (n,).
        """
        rng = np.random.default_rng((seed, step))
        head = int(rng.choice(len(self.images), p=self.odds))
        name = self.tiles[int(rng.integers(len(self.tiles)))]
        augmentation = draw(rng, self.amounts)
        box = self.prior.geometry.box(name)
        image, labels = apply(augmentation, self.images[head], self.labels[head], self.face, box)
        prior = self.tile_prior(name)
        chosen = torch.from_numpy(np.sort(rng.permutation(len(prior.voxels))[:voxels]))
        at = prior.voxels[chosen]
        part = BlockPrior(at, prior.channels, prior.log_prior[chosen].float())
        return image[None, None], part, labels.flatten()[at]


def network_image(head: TrainingHead, target: NDArray[np.float64] | None, *, stripped: bool) -> FloatVolume:
    """Intensities of a head as a network sees them.

    Parameters
    ----------
    head
        A training head.
    target
        Quantiles that its intensities are fitted to; None for no fit.
    stripped
        Whether networks see the brain only.

    Returns
    -------
    numpy.ndarray
        On `efface.training.slant_data.FINE`, float32.
    """
    image = image_of(head, target)
    return np.where(head.brain, image, np.float32(CLIP[0])) if stripped else image
