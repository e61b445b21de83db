"""The network that says which parts of a face are left on a relief: a small 2-D convolutional network.

It sees how far the surface is in front of or behind the average face, and how it slopes, on 71 x 71 rays; it never sees
intensities, so it does not care for the contrast. Trained by `efface.training.left_face` on reliefs of heads of which
known parts were removed.
"""

import functools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efface.anatomy.head_networks import loaded
from efface.quality.face_parts import PARTS, average_relief

WEIGHTS = Path(__file__).parents[1] / "data" / "left_face.pt"
INPUTS = 4
CHANNELS = (12, 24, 32, 48)
HALVED = 3
"""So many of the convolutions halve the picture."""
LEFT_AFTER = 9
"""Cells along each side after them."""
DROPOUT = 0.3
BEHIND_MM, IN_FRONT_MM, OFF_UNIT_MM = 25.0, 15.0, 10.0
"""Distances from the average face are clipped to these, and divided by the unit."""
STEEPEST_MM, SLOPE_UNIT_MM = 3.0, 1.5
"""Slopes, mm for each ray, likewise."""
NO_AVERAGE_MM = 60.0
"""Taken for the average face's y on rays that miss it."""


class ReliefNet(nn.Module):
    """Convolutions, each halving the picture but the last, and one linear layer: a logit for each of `PARTS`."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = INPUTS
        for depth, outputs in enumerate(CHANNELS):
            stride = 2 if depth < HALVED else 1
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(DROPOUT)
        self.head = nn.Linear(inputs * LEFT_AFTER**2, len(PARTS))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (n, parts), of pictures, shape (n, `INPUTS`, 71, 71)."""
        logits: Tensor = self.head(self.drop(self.body(x).flatten(1)))
        return logits


@functools.cache
def trained_network() -> ReliefNet:
    """Load the network that comes with efface, once a process.

    Raises
    ------
    DataPackageError
        If its weights are missing.
    """
    return loaded(ReliefNet(), WEIGHTS, "the network for left faces")


def pictures(depths: NDArray[np.float64]) -> NDArray[np.float32]:
    """What the network sees of reliefs, shape (n, x, z), mm: shape (n, `INPUTS`, x, z)."""
    there = np.isfinite(depths)
    average = np.nan_to_num(average_relief(), nan=NO_AVERAGE_MM)
    off = np.where(there, depths - average, -BEHIND_MM).clip(-BEHIND_MM, IN_FRONT_MM) / OFF_UNIT_MM
    with np.errstate(invalid="ignore"):
        slopes = [np.nan_to_num(np.gradient(depths, axis=axis)).clip(-STEEPEST_MM, STEEPEST_MM) for axis in (1, 2)]
    return np.stack([off, *(slope / SLOPE_UNIT_MM for slope in slopes), there], axis=1).astype(np.float32)


def part_logits(depths: NDArray[np.float64], network: ReliefNet | None = None) -> NDArray[np.float64]:
    """How surely each part is left, as logits, shape (n, parts): the mean of what is seen, and of its mirror image."""
    network = network or trained_network()
    device = next(network.parameters()).device
    with torch.inference_mode():
        seen, mirrored = (
            network(torch.from_numpy(pictures(side)).to(device)).float().cpu().numpy()
            for side in (depths, depths[:, ::-1])
        )
    return np.asarray((seen + mirrored[:, MIRRORED]) / 2, dtype=np.float64)


MIRRORED = [list(PARTS).index({"right eye": "left eye", "left eye": "right eye"}.get(part, part)) for part in PARTS]
"""For each part, which one it is in the mirror."""
