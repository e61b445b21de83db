"""Synthetic heads of any contrast, in any pose and field of view, drawn from label maps of whole heads.

No real scan is used: every class of tissue gets a random intensity, so the network that learns from these images cannot
rely on a contrast, and real heads remain unseen, to be tested on.

References
----------
Billot et al. "SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining." Medical
Image Analysis 86 (2023) 102789 (the idea, and the label maps, Apache-2.0).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from efface.anatomy.head_networks import WINDOW
from efface.anatomy.pose_network import CENTRE_MM, SCALE_MM
from efface.anatomy.pose_prediction import GRID_MM

SIDE = 64
"""Voxels along an edge of an example: 256 mm."""
FINE = 2
"""Tissues are drawn on a grid this many times as fine, and averaged: partial volumes."""
TISSUES = ("air", "white", "grey", "csf", "eyes", "soft", "mucosa", "skin", "cord", "vessel", "skull", "bone", "other")
T1_LIKE = (0.02, 0.9, 0.65, 0.2, 0.25, 0.6, 0.5, 0.75, 0.8, 0.35, 0.15, 0.6, 0.45)
BRAIN = (TISSUES.index("white"), TISSUES.index("grey"))
MIDPLANE = (0.99928, -0.0378, 0.0, -2.6)
"""The average head's plane of symmetry, through x = 1 at its face and -6 at its back: normal, and distance in mm."""
SMALLEST_MM = 90.0
"""No field of view is cut to less along an axis."""


@dataclass(frozen=True)
class LabelledHeads:
    """Label maps on one grid, with their poses.

    Attributes
    ----------
    tissues
        Numbers of `TISSUES`, shape (n, x, y, z), uint8, 2 mm.
    from_average
        Average head RAS+ mm to voxel, shape (n, 4, 4).
    floor
        The lowest voxel with a label: below, nothing is known, shape (n,).
    """

    tissues: Tensor
    from_average: Tensor
    floor: Tensor

    @classmethod
    def load(cls, path: Path, device: str, chosen: Sequence[int]) -> "LabelledHeads":
        """Read the file that `efface.training.pose_heads` prepares; `chosen` are the heads to take."""
        with np.load(path) as stored:
            tissues, poses = stored["tissues"][list(chosen)], stored["from_average"][list(chosen)]
        floor = [np.flatnonzero(t.any(axis=(0, 1)))[0] for t in tissues]
        return cls(
            torch.from_numpy(tissues).to(device),
            torch.from_numpy(poses.astype(np.float32)).to(device),
            torch.tensor(np.array(floor), dtype=torch.float32, device=device),
        )


@dataclass(frozen=True)
class Examples:
    """A batch: network input (n, 2, s, s, s); average-head coordinates in the network's unit (n, 3, s, s, s); masks."""

    image: Tensor
    coordinates: Tensor
    head: Tensor
    brain: Tensor


def random_poses(rng: np.random.Generator, count: int) -> np.ndarray:
    """Scan mm (0 in the middle of the field of view) to average-head mm, shape (count, 4, 4): tilted or any rotation."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose in poses:
        if rng.random() < 0.65:
            axis = rng.normal(size=3)
            rotation = Rotation.from_rotvec(np.deg2rad(rng.uniform(0, 60)) * axis / np.linalg.norm(axis))
        else:
            rotation = Rotation.random(random_state=int(rng.integers(2**31)))
        scale = rng.choice([rng.uniform(0.88, 1.15), rng.uniform(0.6, 1.3)], p=[0.75, 0.25])
        stretch = np.diag(1 / (scale * rng.uniform(0.92, 1.08, 3)))
        shear = np.eye(3) + np.triu(rng.normal(scale=0.03, size=(3, 3)), 1)
        pose[:3, :3] = stretch @ shear @ rotation.as_matrix()
        middle = np.array([0.0, 5.0, -25.0]) + rng.normal(scale=(12, 20, 25), size=3)
        pose[:3, 3] = middle
    return poses


def smooth_noise(shape: tuple[int, ...], knots: int, side: int, generator: torch.Generator) -> Tensor:
    """Normal noise on `knots` points an edge, made smooth to `side` voxels, shape (*shape, side, side, side)."""
    flat = torch.randn((int(np.prod(shape)), 1, knots, knots, knots), generator=generator, device=generator.device)
    full = functional.interpolate(flat, (side,) * 3, mode="trilinear", align_corners=True)
    return full.reshape(*shape, side, side, side)


@torch.no_grad()
def synthesise(heads: LabelledHeads, rng: np.random.Generator, generator: torch.Generator, count: int) -> Examples:
    """Draw a batch of examples on the device of the heads."""
    device = heads.tissues.device
    which = torch.from_numpy(rng.integers(len(heads.tissues), size=count)).to(device)
    pose = torch.from_numpy(random_poses(rng, count).astype(np.float32)).to(device)
    mirror = torch.from_numpy(rng.integers(2, size=count).astype(np.float32)).to(device)
    points = _points(SIDE * FINE, GRID_MM / FINE, device)
    average = torch.einsum("nij,jxyz->nixyz", pose[:, :3, :3], points) + pose[:, :3, 3, None, None, None]
    drawn = average + 4.0 * smooth_noise((count, 3), 6, SIDE * FINE, generator)
    drawn = _mirrored(drawn, mirror)
    voxels = torch.einsum("nij,njxyz->nixyz", heads.from_average[which][:, :3, :3], drawn)
    voxels += heads.from_average[which][:, :3, 3, None, None, None]
    tissue = _nearest(heads.tissues, which, voxels)
    known = voxels[:, 2] >= heads.floor[which][:, None, None, None] - 0.5
    tissue = _stripped(tissue, drawn, rng)
    image = _intensities(tissue, rng, generator)
    small = functional.avg_pool3d(image[:, None], FINE)[:, 0]
    view = _field_of_view(tissue, rng, device)
    view &= functional.avg_pool3d(known.float()[:, None], FINE)[:, 0] > 0.5
    small = _acquired(small, rng, generator)
    coordinates = functional.avg_pool3d(average, FINE)
    centre = torch.tensor(CENTRE_MM, device=device)[None, :, None, None, None]
    tissue_share = functional.avg_pool3d((tissue > 0).float()[:, None], FINE)[:, 0]
    brain = (tissue == BRAIN[0]) | (tissue == BRAIN[1])
    return Examples(
        torch.stack([_windowed(small, view), view.float()], dim=1),
        (coordinates - centre) / SCALE_MM,
        (tissue_share > 0.5) & view,
        (functional.avg_pool3d(brain.float()[:, None], FINE)[:, 0] > 0.5) & view,
    )


def _mirrored(average: Tensor, chosen: Tensor) -> Tensor:
    """Points (n, 3, x, y, z) on the other side of the midplane where `chosen` (n,) is 1: a mirrored head is a head."""
    *normal, distance = MIDPLANE
    direction = torch.tensor(normal, device=average.device)[None, :, None, None, None]
    off = (average * direction).sum(dim=1, keepdim=True) - distance
    return average - 2 * off * direction * chosen[:, None, None, None, None]


def _points(side: int, step: float, device: torch.device) -> Tensor:
    line = (torch.arange(side, device=device) - (side - 1) / 2) * step
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"))


def _nearest(tissues: Tensor, which: Tensor, voxels: Tensor) -> Tensor:
    """The label at voxel indices (n, 3, x, y, z), air outside."""
    rounded = voxels.round().long()
    sides = torch.tensor(tissues.shape[1:], device=tissues.device)[None, :, None, None, None]
    inside = ((rounded >= 0) & (rounded < sides)).all(dim=1)
    at = torch.minimum(rounded.clamp(min=0), sides - 1)
    found = tissues[which[:, None, None, None], at[:, 0], at[:, 1], at[:, 2]]
    return torch.where(inside, found, torch.zeros_like(found)).long()


def _stripped(tissue: Tensor, average: Tensor, rng: np.random.Generator) -> Tensor:
    """Some heads without a face, some without anything but the brain."""
    for index in range(len(tissue)):
        draw = rng.random()
        if draw < 0.12:
            keep = (tissue[index] >= 1) & (tissue[index] <= 3)
            tissue[index] = torch.where(keep, tissue[index], torch.zeros_like(tissue[index]))
        elif draw < 0.3:
            height = average[index, 2] - rng.uniform(0.2, 0.7) * average[index, 1]
            gone = (height < rng.uniform(-85, -50)) & (average[index, 1] > rng.uniform(10, 70))
            tissue[index] = torch.where(gone, torch.zeros_like(tissue[index]), tissue[index])
    return tissue


def _intensities(tissue: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """An intensity for every voxel: a mean a class, texture, noise in the tissue."""
    count, device = len(tissue), tissue.device
    means = np.empty((count, len(TISSUES)), np.float32)
    for row in means:
        draw = rng.random()
        likely = np.array(T1_LIKE)
        if draw < 0.6:
            row[:] = likely * rng.uniform(0.75, 1.25, len(TISSUES)) + rng.normal(scale=0.04, size=len(TISSUES))
        else:
            row[:] = rng.uniform(0.05, 1.0, len(TISSUES))
        row[0] = rng.uniform(0, 0.04)
    table = torch.from_numpy(means).to(device)
    image = torch.gather(table, 1, tissue.reshape(count, -1)).reshape(tissue.shape)
    side = tissue.shape[-1]
    texture = smooth_noise((count,), 24, side, generator) + smooth_noise((count,), 10, side, generator)
    strength = torch.from_numpy(rng.uniform(0.0, 0.3, (count, len(TISSUES))).astype(np.float32)).to(device)
    strength[:, 1:4] *= 0.15  # the brain has its own structure
    strength[:, 0] = 0
    texture *= torch.gather(strength, 1, tissue.reshape(count, -1)).reshape(tissue.shape)
    return image * (1 + texture).clamp(min=0.05)


def _acquired(image: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """Thick slices, a bias field, noise (also of air alone), gamma."""
    count, device = len(image), image.device
    out = []
    for one in image:
        axis, width = int(rng.integers(3)), int(rng.choice([1, 1, 1, 2]))
        if width > 1:
            one = one.movedim(axis, 0)
            one = functional.avg_pool3d(one[None, None], (width, 1, 1))[0, 0].repeat_interleave(width, dim=0)
            one = one.movedim(0, axis)
        out.append(one)
    image = torch.stack(out)
    side = image.shape[-1]
    strength = torch.from_numpy(rng.uniform(0, 0.45, count).astype(np.float32)).to(device)[:, None, None, None]
    image = image * torch.exp(strength * smooth_noise((count,), 4, side, generator))
    noise = torch.from_numpy((10 ** rng.uniform(-3, -1, count)).astype(np.float32)).to(device)[:, None, None, None]
    real, imaginary = torch.randn((2, *image.shape), generator=generator, device=device)
    image = torch.sqrt((image + noise * real) ** 2 + (noise * imaginary) ** 2)
    for index in range(count):
        if rng.random() < 0.08:  # a ratio of two images: air is noise of full range
            static = torch.rand(image[index].shape, generator=generator, device=device)
            image[index] = torch.where(image[index] < 0.08, static * float(rng.uniform(0.5, 1.0)), image[index])
        elif rng.random() < 0.3:
            level = float(rng.uniform(0.02, 0.1))  # air that a program set to nothing
            image[index] = torch.where(image[index] < level, torch.zeros_like(image[index]), image[index])
    gamma = torch.from_numpy(np.exp(rng.normal(scale=0.2, size=count)).astype(np.float32)).to(device)
    return image.clamp(min=1e-4) ** gamma[:, None, None, None]


def _field_of_view(tissue: Tensor, rng: np.random.Generator, device: torch.device) -> Tensor:
    """A box along the axes around some of each head, on the coarse grid."""
    view = torch.zeros((len(tissue), SIDE, SIDE, SIDE), dtype=torch.bool, device=device)
    head = tissue > 0
    profiles = [head.any(dim=tuple(a + 1 for a in range(3) if a != axis)).cpu().numpy() for axis in range(3)]
    for index in range(len(tissue)):
        box = []
        for axis in range(3):
            along = np.flatnonzero(profiles[axis][index]) / FINE
            low, high = (float(along[0]), float(along[-1])) if len(along) else (0.0, SIDE - 1.0)
            first = low - rng.uniform(0, 12)
            last = high + rng.uniform(0, 12)
            extent = max(high - low, 1.0)
            draw = rng.random()
            if draw < 0.3:
                first = low + rng.uniform(0, 0.5) * extent
            elif draw < 0.45:
                last = high - rng.uniform(0, 0.4) * extent
            least = SMALLEST_MM / GRID_MM
            if last - first < least:
                middle = (first + last) / 2
                first, last = middle - least / 2, middle + least / 2
            box.append(slice(max(0, round(first)), min(SIDE, round(last) + 1)))
        view[index][tuple(box)] = True
    return view


def _windowed(image: Tensor, view: Tensor) -> Tensor:
    """Percentiles of what is in view at 0 and 1, clipped; 0 outside the view."""
    out = torch.zeros_like(image)
    for index in range(len(image)):
        values = image[index][view[index]]
        if values.numel() < 8:
            continue
        ordered = values[torch.randint(values.numel(), (20000,), device=values.device)].sort().values
        low, high = (ordered[int(p / 100 * (len(ordered) - 1))] for p in WINDOW)
        out[index] = ((image[index] - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) * view[index]
    return out
