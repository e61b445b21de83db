"""Scans of virtual people: a session is a pose, a bias field, an intensity scale and fresh noise.

All geometry is composed into one displacement field, and the real ("base") head is sampled once, through that field.
"""

import gzip
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.io.encoding import GZIP_LEVEL
from efface.simulation.anatomy_model import FIELD_MM, BaseHead, Person, about, grid_points, smooth_noise, vectors_at
from efface.spatial.affine import apply_affine, invert
from efface.spatial.types import Affine, BoolVolume, Displacement, FloatVolume, Grid

FIELD_OF_VIEW_MM = np.array([[-93.0, 93.0], [-106.0, 142.0], [-136.0, 97.0]])
"""Holds the largest head drawn; begins just above the base image's lowest slices, which the scanner distorted."""
BIAS_SMOOTH_MM = 45.0


@dataclass(frozen=True)
class Session:
    """One visit: pose (scan mm to person mm), largest relative bias, intensity scale."""

    pose: Affine
    bias: float
    intensity: float


def draw_session(base: BaseHead, person: Person, rng: np.random.Generator) -> Session:
    """Draw pose, bias and intensity scale of one session."""
    axis = rng.standard_normal(3)
    angle_deg = rng.uniform(1.0, 4.0)
    shift = rng.standard_normal(3)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.deg2rad(angle_deg)).as_matrix()
    pose[:3, 3] = shift / np.linalg.norm(shift) * rng.uniform(1.0, 6.0)
    return Session(
        pose=about(base.centre_mm, pose) @ invert(person.oblique),
        bias=float(rng.uniform(0.15, 0.20)),
        intensity=float(rng.uniform(0.95, 1.05)),
    )


def scan_grid(person: Person, mm: float) -> Grid:
    """The field of view, turned with the head when the person is scanned obliquely; axes nearest to R, A, S."""
    x, y, z = (int(n) for n in np.ceil((FIELD_OF_VIEW_MM[:, 1] - FIELD_OF_VIEW_MM[:, 0]) / mm))
    upright = np.diag([mm, mm, mm, 1.0])
    upright[:3, 3] = FIELD_OF_VIEW_MM[:, 0] + mm / 2
    return Grid((x, y, z), np.asarray(person.oblique @ upright))


def field_grid(grid: Grid) -> Grid:
    """Nodes about 4 mm apart along the axes of `grid`, covering it with a node to spare on all sides."""
    step = FIELD_MM / grid.spacing_mm
    x, y, z = (int(n) for n in np.ceil((np.array(grid.shape) - 1) / step) + 3)
    to_grid = np.diag([*step, 1.0])
    to_grid[:3, 3] = -step
    return Grid((x, y, z), np.asarray(grid.affine @ to_grid))


def total_field(person: Person, session: Session, nodes: Grid) -> Displacement:
    """Pose, deformation and size in one displacement: scan mm to base mm."""
    points = grid_points(nodes)
    posed = apply_affine(session.pose, points)
    posed = posed + vectors_at(person.displacement, apply_affine(invert(person.grid.affine), posed))
    total: Displacement = (apply_affine(person.size, posed) - points).astype(np.float32)
    return total


def sample_base(base: BaseHead, field: Displacement, nodes: Grid, grid: Grid) -> tuple[FloatVolume, BoolVolume]:
    """Head (cubic) and brain mask (linear, cut at a half) sampled through the field, each in one go.

    The field is turned into base voxel indices at its nodes first: linear interpolation commutes with an affine.
    Only near the head are there values to find: elsewhere the base head is zero.
    """
    index = apply_affine(invert(base.head.affine), grid_points(nodes) + field)
    at_nodes = ndimage.map_coordinates(base.head.data, np.moveaxis(index, -1, 0), order=1, mode="grid-constant")
    near = ndimage.binary_dilation(at_nodes > 0, iterations=2)
    inside = _refine(near.astype(np.float64), nodes, grid) > 0
    where = np.stack([_refine(index[..., i], nodes, grid)[inside] for i in range(3)])
    head, brain = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.bool_)
    head[inside] = np.clip(ndimage.map_coordinates(base.head.data, where, order=3, mode="grid-constant"), 0.0, None)
    brain[inside] = ndimage.map_coordinates(base.brain.data, where, order=1, mode="grid-constant") > 0.5
    return head, brain


def _refine(values: NDArray[Any], nodes: Grid, grid: Grid) -> NDArray[np.float64]:
    """Node values on the scan's grid, linear; the two grids share their axes, which makes it quick."""
    step = grid.spacing_mm / nodes.spacing_mm
    fine: NDArray[np.float64] = ndimage.affine_transform(values, step, 1.0, grid.shape, np.float64, order=1)
    return fine


def bias_field(session: Session, nodes: Grid, grid: Grid, rng: np.random.Generator) -> NDArray[np.float64]:
    """Relative bias field on the scan's grid, as large as the session says where it is largest."""
    bias = smooth_noise(rng, nodes.shape, BIAS_SMOOTH_MM / FIELD_MM)
    return _refine(bias * (session.bias / np.abs(bias).max()), nodes, grid)


def acquire(
    head: FloatVolume, gain: NDArray[np.float64], base: BaseHead, person: Person, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Intensities of one session: contrast curve, gain of the coils and Rician noise."""
    seen = base.white * (head / base.white) ** person.gamma * gain
    real, imaginary = rng.normal(0.0, base.white / person.snr, (2, *head.shape))
    rician: NDArray[np.float64] = np.hypot(seen + real, imaginary)
    return rician


def stored_image(values: NDArray[np.float64], grid: Grid, axes: str) -> Any:
    """An int16 NIfTI image whose voxel axes point along `axes`."""
    ras, wanted = (orientations.axcodes2ornt(tuple(codes)) for codes in ("RAS", axes))
    to_stored = orientations.ornt_transform(ras, wanted)
    whole = np.clip(np.rint(values), 0, np.iinfo(np.int16).max).astype(np.int16)
    stored = orientations.apply_orientation(whole, to_stored)
    return _nifti(stored, grid.affine @ orientations.inv_ornt_aff(to_stored, grid.shape))


def _nifti(stored: NDArray[Any], affine: Affine) -> Any:
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    for name in ("set_sform", "set_qform"):
        getattr(image, name)(affine, 1)
    return image


def field_bytes(field: Displacement, nodes: Grid) -> bytes:
    """A gzipped NIfTI vector image, shape (x, y, z, 1, 3); no time stamp, so that equal fields are equal files."""
    image = _nifti(field[:, :, :, np.newaxis, :], nodes.affine)
    image.header.set_intent("vector")
    return gzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0)
