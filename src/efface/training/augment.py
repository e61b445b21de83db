"""Other heads out of one: deformed, mirrored, brighter, noisier, blurred, and now and then without a face.

Everything random is drawn first, into a record; then it is applied. The tile is sampled once from the whole head, so
nothing is lost at its borders, and only its own voxels are computed. The place on the standard grid stays what it
was: a head that lies a little off is what a network meets when the affine is not perfect.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from efface.segmentation.labels import MIRRORED
from efface.segmentation.slant.preprocessing import CLIP
from efface.segmentation.slant.tiling import EMBEDDED
from efface.spatial.types import Grid
from efface.training.slant_data import FINE

CENTRE_MM = np.array([0.0, -15.0, 5.0])
"""Middle of the brain on the standard grid, about which heads are turned."""
LATTICE = (9, 11, 8)
"""Knots of the elastic deformation over the standard grid, about 2 cm apart."""
BIAS_LATTICE = (4, 5, 4)


@dataclass(frozen=True)
class Amounts:
    """How much of everything; lengths in standard mm, intensities in standard deviations of the brain's.

    Attributes
    ----------
    rotation_deg, scale, shift_mm
        Standard deviations of the affine's parameters, `scale` as a share.
    elastic_mm
        Standard deviation of the displacement of the lattice's knots, along each axis.
    bias
        Standard deviation of the log bias field at its knots.
    noise
        Largest standard deviation of the noise.
    contrast
        Largest share by which intensities are stretched, and the log of gamma.
    blur_vox
        Largest standard deviation of a blur along one axis.
    flip, face
        Probabilities of mirroring and of face removal.
    """

    rotation_deg: float = 4.0
    scale: float = 0.04
    shift_mm: float = 2.0
    elastic_mm: float = 2.0
    bias: float = 0.12
    noise: float = 0.2
    contrast: float = 0.2
    blur_vox: float = 0.8
    flip: float = 0.5
    face: float = 0.25


NOTHING = Amounts(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Draw:
    """What is done to one head.

    Attributes
    ----------
    affine
        Standard mm to mm of the head as it was, shape (4, 4); includes the mirror.
    mirrored
        Whether labels change sides.
    elastic_mm
        Displacement at the lattice's knots before the affine, shape (3, 9, 11, 8).
    log_bias
        Log bias field at its knots, shape (1, 4, 5, 4).
    gain, offset, gamma
        Of intensities.
    noise, noise_seed
        Standard deviation, and where its random numbers start.
    blur_axis, blur_vox
        Axis of a Gaussian blur, and its standard deviation.
    face_above
        Voxels whose probability of being face is above this are taken away; 2 takes none.
    """

    affine: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    mirrored: bool = False
    elastic_mm: NDArray[np.float32] = field(default_factory=lambda: np.zeros((3, *LATTICE), np.float32))
    log_bias: NDArray[np.float32] = field(default_factory=lambda: np.zeros((1, *BIAS_LATTICE), np.float32))
    gain: float = 1.0
    offset: float = 0.0
    gamma: float = 1.0
    noise: float = 0.0
    noise_seed: int = 0
    blur_axis: int = 0
    blur_vox: float = 0.0
    face_above: float = 2.0


def draw(rng: np.random.Generator, amounts: Amounts) -> Draw:
    """Draw what is done to a head."""
    turn = Rotation.from_rotvec(np.deg2rad(rng.normal(0, 1, 3) * amounts.rotation_deg)).as_matrix()
    stretch = np.diag(np.exp(rng.normal(0, 1, 3) * amounts.scale))
    shift = rng.normal(0, 1, 3) * amounts.shift_mm
    mirrored = bool(rng.random() < amounts.flip)
    linear = turn @ stretch
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = CENTRE_MM + shift - linear @ CENTRE_MM
    if mirrored:
        affine = np.diag([-1.0, 1.0, 1.0, 1.0]) @ affine
    return Draw(
        affine,
        mirrored,
        (rng.normal(0, 1, (3, *LATTICE)) * amounts.elastic_mm).astype(np.float32),
        (rng.normal(0, 1, (1, *BIAS_LATTICE)) * amounts.bias).astype(np.float32),
        float(1 + rng.uniform(-1, 1) * amounts.contrast),
        float(rng.uniform(-1, 1) * amounts.contrast),
        float(np.exp(rng.uniform(-1, 1) * amounts.contrast)),
        float(rng.random() * amounts.noise),
        int(rng.integers(1 << 31)),
        int(rng.integers(3)),
        float(rng.random() * amounts.blur_vox),
        float(rng.choice([0.02, 0.1, 0.3])) if rng.random() < amounts.face else 2.0,
    )


def apply(
    what: Draw,
    image: torch.Tensor,
    labels: torch.Tensor,
    face: torch.Tensor,
    box: tuple[slice, slice, slice],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample a tile of the changed head.

    Parameters
    ----------
    what
        What is done.
    image
        Normalised intensities on `efface.training.slant_data.FINE`, float32.
    labels
        Label indices on the same grid, uint8.
    face
        Probability of being face on the networks' grid, float32.
    box
        The tile's voxels on the networks' grid.

    Returns
    -------
    tuple
        Intensities float32 and label indices int64, both of the tile's shape.
    """
    index = torch.stack(
        torch.meshgrid(*[torch.arange(s.start, s.stop, dtype=torch.float32) for s in box], indexing="ij"), dim=-1
    )
    origin, spacing = EMBEDDED.grid.affine[:3, 3], EMBEDDED.grid.spacing_mm
    here = index * _vector(spacing) + _vector(origin)
    unit = _unit(index, EMBEDDED.grid.shape)
    moved = here + torch.movedim(_sample(torch.from_numpy(what.elastic_mm), unit), 0, -1)
    points = moved @ torch.from_numpy(what.affine[:3, :3].T.astype(np.float32)) + _vector(what.affine[:3, 3])

    values = _sample(image[None], _unit(_index(points, FINE), FINE.shape))[0]
    nearest = torch.round(_index(points, FINE)).long()
    inside = torch.stack([nearest[..., a].clamp(0, n - 1) for a, n in enumerate(FINE.shape)])
    found = labels[inside[0], inside[1], inside[2]].long()
    if what.mirrored:
        found = torch.from_numpy(MIRRORED)[found]

    low, high = CLIP
    share = ((values - low) / (high - low)).clamp(0, 1) ** what.gamma
    share = share * torch.exp(_sample(torch.from_numpy(what.log_bias), unit)[0])
    values = (share * (high - low) + low) * what.gain + what.offset
    if what.blur_vox > 0.1:
        values = _blur(values, what.blur_axis, what.blur_vox)
    if what.noise > 0:
        generator = torch.Generator().manual_seed(what.noise_seed)
        values = values + what.noise * torch.randn(values.shape, generator=generator)
    if what.face_above < 1:
        gone = _sample(face[None], _unit(_index(points, EMBEDDED.grid), EMBEDDED.grid.shape))[0] > what.face_above
        values = torch.where(gone & (found == 0), image.min(), values)
    return values.clamp(low, high), found


def _vector(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _index(points: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Voxel index of points in standard mm; standard grids are upright."""
    return (points - _vector(grid.affine[:3, 3])) / _vector(grid.spacing_mm)


def _unit(index: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Voxel index to the coordinates of `torch.nn.functional.grid_sample`: -1 to 1, the last axis first."""
    return (2 * index / (torch.tensor(shape, dtype=torch.float32) - 1) - 1).flip(-1)


def _sample(channels: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Trilinear values of channels (c, x, y, z) at unit coordinates, the nearest edge's outside."""
    return torch.nn.functional.grid_sample(channels[None], unit[None], align_corners=True, padding_mode="border")[0]


def _blur(values: torch.Tensor, axis: int, sigma: float) -> torch.Tensor:
    offsets = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    moved = torch.movedim(values, axis, -1)
    flat = moved.reshape(-1, 1, moved.shape[-1])
    padded = torch.nn.functional.pad(flat, (3, 3), mode="replicate")
    blurred = torch.nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None])
    return torch.movedim(blurred.reshape(moved.shape), -1, axis)
