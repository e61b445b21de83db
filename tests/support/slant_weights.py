"""Small geometries, networks, label priors and weights folders for tests of SLANT."""

import numpy as np
import torch

from efface.segmentation.slant.checkpoints import ModelCard, save_compact, write_card
from efface.segmentation.slant.label_prior import LabelPrior, build_label_prior
from efface.segmentation.slant.tiling import EMBEDDED, Geometry
from efface.segmentation.slant.unet import CLASSES, Architecture, TileNet, UNet3D
from efface.spatial.types import Grid, Volume

TINY = Architecture((1, 2, 2, 3, 3, 4, 4, 5), (5, 4, 4, 4, CLASSES, 6, 6, CLASSES, CLASSES), published=True)
TINY_COMPACT = Architecture((1, 2, 2, 3, 3, 4, 4, 5), (5, 4, 4, 4, 4, 3, 3, 3, 3))
SMALL = Geometry("small", Grid((16, 20, 12), np.eye(4)), (10, 12, 8), ((0, 6), (0, 8), (0, 4)), np.eye(4))


def official_state(architecture):
    """A state dict with random numbers and all tensors of a published one."""
    network = UNet3D(architecture)
    state = dict(network.state_dict())
    for number, width in enumerate(architecture.encoder):
        state[f"ec{number}.1.running_mean"] = torch.randn(width)
        state[f"ec{number}.1.running_var"] = torch.rand(width)
        state[f"ec{number}.1.num_batches_tracked"] = torch.tensor(9)
    state["dc0.0.weight"], state["dc0.0.bias"] = torch.randn(64, CLASSES, 1, 1, 1), torch.randn(CLASSES)
    return state


def counts():
    """Label counts on the embedded grid at half resolution: label 7 in a box, label 90 in one voxel."""
    values = np.zeros((CLASSES, *(n // 2 for n in EMBEDDED.grid.shape)))
    values[0] = 1
    values[7, 10:14, 20:25, 15:20] = 4
    values[90, 20:21, 40:41, 30:31] = 1
    return values


def possible_everywhere(*labels):
    """A label prior on the small grid that allows these labels in every voxel."""
    levels = np.zeros((CLASSES, *(n // 2 for n in SMALL.grid.shape)), dtype=np.uint8)
    levels[list(labels)] = 200
    return LabelPrior(SMALL, levels)


def write_compact(folder):
    """Weights whose network gives equal scores, so that the label prior decides: label 7 is where `counts` has it."""
    folder.mkdir()
    network = TileNet(TINY_COMPACT)
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    write_card(folder, ModelCard(TINY_COMPACT, (), stripped=False, training={"heads": 0}))
    (folder / "label_prior.npz").write_bytes(build_label_prior(counts(), EMBEDDED).to_bytes())
    save_compact(folder / "pooled.pt", network.state_dict())
    return folder


def write_official(folder, state):
    """Published weights of the small geometry, the same for every tile."""
    for name in SMALL.names:
        torch.save(state, folder / f"{name}.pth")


def ball(seed=0):
    """A ball of two tissues on a turned grid of 3 mm; its brain mask; standard mm to scan mm."""
    turn = np.array([[0.96, -0.28, 0, 12], [0.28, 0.96, 0, -7], [0, 0, 1, 20], [0, 0, 0, 1.0]])
    affine = turn @ np.array([[3.0, 0, 0, -80], [0, 3.0, 0, -95], [0, 0, 3.0, -60], [0, 0, 0, 1]])
    index = np.indices((54, 55, 45)).reshape(3, -1).T
    standard_mm = index @ (np.linalg.inv(turn) @ affine)[:3, :3].T + (np.linalg.inv(turn) @ affine)[:3, 3]
    radius = np.linalg.norm(standard_mm - [0, -15, 5], axis=1).reshape(54, 55, 45)
    rng = np.random.default_rng(seed)
    data = np.where(radius < 30, 100.0, np.where(radius < 55, 70.0, 5.0)) + rng.normal(0, 1, radius.shape)
    return Volume(data.astype(np.float32), affine), radius < 55, turn
