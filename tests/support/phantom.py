"""A tiny analytic head whose truth is known, stored in any orientation, dtype, scaling and container.

The head is made in RAS+. Reorienting it is spelled out here with transposes and flips, independent of the code
under test. Its shape is unequal, its right ear is the only one, and its air is not zero: a swapped axis, a flip or
a stray write shows.
"""

import functools
import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.landmarks import FacialLandmark
from efface.anatomy.pose_network import PosePrediction
from efface.defacing import reshape, reshape_checks, reshape_target
from efface.io.scan import Scan
from efface.spatial.resampling import Warp
from efface.spatial.types import Affine, BoolVolume, Grid, Volume

SHAPE = (40, 48, 44)
SPACING_MM = (4.5, 4.5, 5.0)
ORIGIN_MM = (-90.0, -98.0, -132.0)
ORIENTATIONS = ("RAS", "LAS", "LPS", "PSR", "oblique")
DTYPES = ("uint8", "int16", ">i2", "uint16", "int32", "float32", "float64")
SCALING = (0.5, -8.0)
OBLIQUE_DEG = 20.0
EXTENSION = b"a header extension, to be kept byte for byte"

# Stored = head value times this: beyond int16, beyond uint16, fractions, not exact in float32.
_FACTORS = {"u2": 200, "i4": 30_000, "f4": 1.25, "f8": 1 / 3}
_WORLD_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Head:
    """The truth in RAS+: integer values 0 to 255, inside of the head, brain, voxel-to-mm affine."""

    values: NDArray[np.uint8]
    inside: BoolVolume
    brain: BoolVolume
    affine: Affine


@dataclass(frozen=True)
class Stored:
    """A head in a file, and what a reader must find: stored numbers, and the RAS+ view."""

    path: Path
    stored: NDArray[np.generic]
    stored_affine: Affine
    values: NDArray[np.float64]
    affine: Affine
    brain: BoolVolume
    inside: BoolVolume


def ellipsoid(centre_mm: tuple[float, ...], radii_mm: tuple[float, ...]) -> BoolVolume:
    """Where an ellipsoid is on the head's grid."""
    axes = (np.arange(n) * step + start for n, step, start in zip(SHAPE, SPACING_MM, ORIGIN_MM, strict=True))
    grids = np.meshgrid(*axes, indexing="ij")
    squares = [((x - c) / r) ** 2 for x, c, r in zip(grids, centre_mm, radii_mm, strict=True)]
    return np.asarray(np.sum(squares, axis=0) <= 1)


@functools.cache
def head() -> Head:
    """Make the head; it lies roughly as the average head does."""
    cranium = ellipsoid((-3, -2, 10), (74, 90, 70))
    neck = ellipsoid((-3, -20, -40), (45, 50, 1000))
    neck[:, :, 20:] = False
    inside = cranium | neck | ellipsoid((-3, 35, -45), (52, 58, 62))
    inside |= ellipsoid((-3, 93, -35), (10, 17, 16)) | ellipsoid((75, -5, -10), (10, 18, 22))
    brain = ellipsoid((-3, -5, 15), (62, 76, 56))
    i, j, k = np.indices(SHAPE)
    values = (i + 2 * j + 3 * k) % 4
    values[inside] = 150
    values[ellipsoid((-3, -3, 12), (68, 83, 64))] = 40
    values[brain] = 110
    values[ellipsoid((-3, -5, 15), (45, 56, 40))] = 145
    for x in (-35, 29):
        values[inside & ellipsoid((x, 72, -22), (12, 12, 12))] = 60
    values[inside] += ((7 * i + 5 * j + 3 * k) % 9)[inside]
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = ORIGIN_MM
    return Head(values.astype(np.uint8), inside, brain, affine)


def rotation(degrees: float) -> Affine:
    """A turn about the axis (1, 2, 2) through the origin, as a 4x4 matrix."""
    x, y, z = np.array([1, 2, 2]) / 3
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turn


def pose(orientation: str) -> Affine:
    """Head mm to the file's world mm: a turn for the oblique head, else nothing."""
    return rotation(OBLIQUE_DEG) if orientation == "oblique" else np.eye(4)


def reorient(ras: NDArray[np.generic], orientation: str) -> NDArray[np.generic]:
    """An RAS+ array in the axes of a file."""
    if orientation == "oblique":
        return ras
    axes = [_WORLD_AXES[code] for code in orientation]
    out = ras.transpose([axis for axis, _ in axes])
    return out[tuple(slice(None, None, sign) for _, sign in axes)]


def stored_affine(orientation: str) -> Affine:
    """Voxel-to-mm affine of the head in a file."""
    if orientation == "oblique":
        return pose(orientation) @ head().affine
    out = np.eye(4)
    out[:3, :3] = 0
    out[:3, 3] = ORIGIN_MM
    for column, (axis, sign) in enumerate(_WORLD_AXES[code] for code in orientation):
        out[axis, column] = sign * SPACING_MM[axis]
        if sign < 0:
            out[axis, 3] += SPACING_MM[axis] * (SHAPE[axis] - 1)
    return out


def nifti_bytes(
    stored: NDArray[np.generic],
    affine: Affine,
    scaling: tuple[float, float] | None = None,
    version: int = 1,
    extension: bool = False,
) -> bytes:
    """A NIfTI file of these numbers in their own byte order, with sform and qform."""
    make_header, make_image = (
        (nib.Nifti1Header, nib.Nifti1Image) if version == 1 else (nib.Nifti2Header, nib.Nifti2Image)
    )
    header = make_header(endianness=">" if stored.dtype.str[0] == ">" else "<")
    header.set_data_dtype(stored.dtype)
    image = make_image(stored, affine, header)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    if scaling:
        image.header.set_slope_inter(*scaling)
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", EXTENSION))
    return bytes(image.to_bytes())


def write(
    path: Path,
    orientation: str = "RAS",
    dtype: str = "int16",
    *,
    scaled: bool = False,
    version: int = 1,
    extension: bool = False,
) -> Stored:
    """Store the head; .mgz and .mgh names give an MGH file (never scaled)."""
    truth = head()
    kind = np.dtype(dtype)
    ras = (truth.values.astype(np.float64) * _FACTORS.get(kind.str[1:], 1)).astype(kind)
    stored, affine = reorient(ras, orientation), stored_affine(orientation)
    slope, inter = SCALING if scaled else (1.0, 0.0)
    if path.suffix in (".mgz", ".mgh"):
        data = bytes(nib.MGHImage(stored, affine).to_bytes())
    else:
        data = nifti_bytes(stored, affine, SCALING if scaled else None, version, extension)
    path.write_bytes(gzip.compress(data, 1, mtime=0) if path.suffix in (".gz", ".mgz") else data)
    values = ras.astype(np.float64) * slope + inter
    return Stored(path, stored, affine, values, pose(orientation) @ truth.affine, truth.brain, truth.inside)


def file_bytes(path: Path) -> bytes:
    """A file's bytes, decompressed where it is gzip."""
    raw = path.read_bytes()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def dice(a: BoolVolume, b: BoolVolume) -> float:
    """Overlap of two masks, not both empty."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


FEATURES = {
    "eyes": [((-35, 80, -22), (12, 12, 12)), ((29, 80, -22), (12, 12, 12))],
    "nose": [((-3, 97, -37), (14, 16, 18))],
    "ears": [((80, -5, -10), (12, 20, 24)), ((-75, -5, -10), (8, 16, 20))],
    "mouth": [((-3, 90, -70), (24, 14, 10))],
}
"""Where a network would find the features of the phantom; its left ear is no more than skin."""


def landmarks_of(scan: Scan) -> tuple[FacialLandmark, ...]:
    """The facial landmarks of a phantom, on its own grid."""
    return tuple(
        FacialLandmark(name, np.zeros(3), 1.0, Volume(np.where(ellipsoid(*shape), 1.0, -1.0), scan.affine))
        for name, shapes in FEATURES.items()
        for shape in shapes
    )


def give_landmarks(monkeypatch, of=landmarks_of) -> None:
    """Let every anatomy know its facial landmarks: those that `of` gives for its scan."""
    monkeypatch.setattr(HeadAnatomy, "landmarks", property(lambda anatomy: of(anatomy.scan)))


def simple_reshape(patch: pytest.MonkeyPatch) -> None:
    """Let reshape take the phantom, whose face is an ellipsoid, and work with voxels of 6 mm, to save time."""
    grid = reshape_target.FRAME
    x, y, z = (len(range(0, n, 3)) for n in grid.shape)
    patch.setattr(reshape_target, "FRAME", Grid((x, y, z), grid.affine @ np.diag([3.0, 3.0, 3.0, 1.0])))
    patch.setattr(reshape, "SIGMAS_MM", (18.0,) * 3 + (9.0,) * 3)
    patch.setattr(reshape_checks, "MOST_HOLE", 0.7)
    patch.setattr(reshape_checks, "MOST_OFF_MM", 30.0)


def see_nothing(monkeypatch) -> None:
    """Let the pose network see nothing in a phantom, which is like no head it was trained on: no brain is missed."""
    nothing = PosePrediction(
        np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))
    )
    monkeypatch.setattr("efface.anatomy.head_anatomy.predict", lambda _image: nothing)


def no_warp(fixed: Volume, _moving: Volume, affine: Affine, **_options: object) -> Warp:
    """A deformable registration that finds nothing beyond the affine."""
    return Warp(np.zeros((*fixed.data.shape, 3), np.float32), fixed.grid, affine)
