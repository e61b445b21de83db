"""Random examples, made on the device from whole scans.

A crop is drawn by one interpolation: position, rotation, scale, elastic deformation and mirroring at once. Intensities
are changed after that, and the outline of the brain mask, because masks of other brain extractors are wider or tighter.
"""

import math
import random
from dataclasses import dataclass

import torch
from millimetre_input import cell_centres, index_grid, network_input, positions
from torch import Tensor
from torch.nn import functional

IGNORED = 255


@dataclass(frozen=True, eq=False)
class Brain:
    """One scan on the device.

    Attributes
    ----------
    name
        Of its file.
    image
        z-scores times the mask, and the mask, shape (1, 2, x, y, z).
    labels
        Label indices as float, shape (1, 1, x, y, z).
    to_template
        Voxel to template mm, shape (4, 4).
    """

    name: str
    image: Tensor
    labels: Tensor
    to_template: Tensor


@dataclass(frozen=True, eq=False)
class Example:
    """A batch: intensities and mask (n, 2, x, y, z), positions (n, 3, x / 2, ...), labels int64 (n, x, y, z)."""

    image: Tensor
    position: Tensor
    labels: Tensor


def smooth_noise(shape: tuple[int, ...], spacing: int, channels: int, device: torch.device) -> Tensor:
    """Smooth random field with a standard deviation of 1, shape (channels, x, y, z)."""
    coarse = [max(4, n // spacing + 3) for n in shape]
    middle = [max(4, n // 4) for n in shape]
    field = functional.interpolate(torch.randn(1, channels, *coarse, device=device), middle, mode="trilinear")
    field = functional.avg_pool3d(field, 5, stride=1, padding=2, count_include_pad=False)
    field = field / field.std().clamp(min=1e-3)
    return functional.interpolate(field, list(shape), mode="trilinear")[0]


def random_affine(rng: random.Random, degrees: float, scale: float, shear: float) -> Tensor:
    """Random linear map, shape (3, 3); the arguments are standard deviations."""
    matrix = torch.eye(3)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        angle = math.radians(max(-2.5, min(2.5, rng.gauss(0, 1))) * degrees)
        turn = torch.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    size = torch.tensor([math.exp(rng.gauss(0, scale)) for _ in range(3)]) * math.exp(rng.gauss(0, scale))
    skew = torch.eye(3)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        skew[a, b] = rng.gauss(0, shear)
    return matrix @ torch.diag(size) @ skew


def source_points(brain: Brain, patch: tuple[int, ...], mirrored: bool, rng: random.Random) -> Tensor:
    """Voxel of the scan that each voxel of a random crop shows, shape (x, y, z, 3)."""
    device, size = brain.image.device, brain.image.shape[2:]
    points = index_grid(patch, device)
    if mirrored:
        points = points.flip(0)
    centre = []
    for n, m in zip(size, patch, strict=True):
        reach = max(abs(n - m) / 2, 0) + 6
        centre.append(float(round(n / 2 + rng.uniform(-reach, reach))))
    middle = torch.tensor([float(m // 2) for m in patch], device=device)
    points = points - middle
    if rng.random() < 0.75:
        points = points @ random_affine(rng, 6.0, 0.05, 0.03).T.to(device)
        for spacing, amount in ((32, 2.2), (14, 0.7)):
            field = smooth_noise(patch, spacing, 3, device)
            points = points + field.movedim(0, -1) * (amount * rng.uniform(0, 1.5))
    return points + torch.tensor(centre, device=device)


def sampled(volume: Tensor, points: Tensor, mode: str) -> Tensor:
    """Values of a volume (1, c, x, y, z) at voxel points; 0 outside."""
    size = torch.tensor(volume.shape[2:], device=points.device, dtype=torch.float32)
    grid = (2 * points / (size - 1) - 1).flip(-1)[None]
    return functional.grid_sample(volume, grid, mode=mode, padding_mode="zeros", align_corners=True)


def draw(brain: Brain, patch: tuple[int, ...], mirror: Tensor, rng: random.Random) -> Example:
    """Draw a random example of one scan.

    Parameters
    ----------
    brain
        The scan.
    patch
        Shape of the crop.
    mirror
        By label, the label on the other side; `IGNORED` stays.
    rng
        For single numbers; fields are drawn by torch.
    """
    mirrored = rng.random() < 0.5
    points = source_points(brain, patch, mirrored, rng)
    both = sampled(brain.image, points, "bilinear")
    labels = sampled(brain.labels, points, "nearest")[:, 0].round().long()
    share = both[:, 1:]
    mask = share > 0.5
    z = torch.where(mask, both[:, :1] / share.clamp(min=0.1), 0)
    shift = torch.eye(4)
    shift[:3, :3] = random_affine(rng, 1.5, 0.015, 0.01)
    shift[:3, 3] = torch.tensor([rng.gauss(0, 2.0) for _ in range(3)])
    position = positions(cell_centres(points), shift.to(points.device) @ brain.to_template)
    if mirrored:
        labels = mirror[labels]
        position = position * torch.tensor([-1.0, 1.0, 1.0], device=points.device)[:, None, None, None]
    z, mask = changed_outline(changed_intensities(z, mask, rng), mask, labels[:, None], rng)
    return Example(network_input(z, mask), position[None], labels)


def changed_intensities(z: Tensor, mask: Tensor, rng: random.Random) -> Tensor:
    """Gamma, contrast, bias field, blur, coarse voxels and noise."""
    shape, device = tuple(z.shape[2:]), z.device
    unit = ((z + 4) / 8).clamp(0, 1) ** math.exp(rng.gauss(0, 0.2))
    if rng.random() < 0.6:
        unit = unit * torch.exp(rng.uniform(0, 0.1) * smooth_noise(shape, 48, 1, device)[None])
    z = (unit * 8 - 4) * math.exp(rng.gauss(0, 0.12)) + rng.gauss(0, 0.15)
    z = torch.where(mask, z, -2.5)
    if rng.random() < 0.2:
        z = blurred(z, rng.uniform(0.4, 1.0))
    if rng.random() < 0.15:
        axis = rng.randrange(3)
        factors = [2] * 3 if rng.random() < 0.5 else [rng.choice((2, 3)) if a == axis else 1 for a in range(3)]
        coarse = functional.avg_pool3d(z, factors, ceil_mode=True, count_include_pad=False)
        z = functional.interpolate(coarse, list(shape), mode="trilinear")
    if rng.random() < 0.5:
        z = z + torch.randn_like(z) * rng.uniform(0, 0.25)
    return z


def blurred(z: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing."""
    at = torch.arange(-2.0, 3.0, device=z.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[axis + 2] = 5
        padding = [2 if a == axis else 0 for a in range(3)]
        z = functional.conv3d(z, kernel.view(shape), padding=padding)
    return z


def dilated(mask: Tensor, reach: int) -> Tensor:
    """Dilate a mask by a box."""
    value = mask.float()
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * reach + 1, reach
        value = functional.max_pool3d(value, size, stride=1, padding=padding)
    return value > 0.5


def changed_outline(z: Tensor, mask: Tensor, labels: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Take away tissue without a label at the surface, or add tissue there, in patches."""
    shape, device = tuple(z.shape[2:]), z.device
    outline = mask
    if rng.random() < 0.5:
        near = dilated(~mask, rng.randint(1, 6))
        field = smooth_noise(shape, 20, 1, device)[None] > rng.uniform(-2, 1)
        outline = outline & ~(near & field & (labels == 0))
        if rng.random() < 0.2:
            field = smooth_noise(shape, 20, 1, device)[None] > rng.uniform(0.5, 2)
            outline = outline & ~(dilated(~outline, 1) & field)
    if rng.random() < 0.4:
        shell = dilated(outline, rng.randint(1, 4)) & ~outline
        field = smooth_noise(shape, 20, 1, device)[None] > rng.uniform(-0.5, 2)
        texture = rng.uniform(-2.5, 1.5) + 0.7 * smooth_noise(shape, 8, 1, device)[None]
        added = shell & field & ~mask
        z = torch.where(added, texture + 0.2 * torch.randn_like(z), z)
        outline = outline | added
    return z, outline
