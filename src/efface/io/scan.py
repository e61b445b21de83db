"""A head scan: loaded and checked, seen in RAS+, and written back on its own grid, dtype, scaling and header.

The guarantee rests on bytes. A scan keeps its file's decompressed bytes; a changed scan is those bytes with other
voxels, so header, extensions, byte order and everything outside the edit stay bit-identical. Only when the
output's container differs from the input's (for example .mgz to .nii.gz) is a new header made, by nibabel, with the same
stored dtype, scaling and affine.
"""

import functools
import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from efface.errors import InputError, OutputError
from efface.io.atomic import check_output, write_atomically
from efface.io.encoding import compressed, raw_bytes, smallest_dtype, suffix_of
from efface.io.nifti_mgh import Container, as_bytes, parse
from efface.spatial.affine import apply_affine
from efface.spatial.types import Affine, FloatVolume, Grid, Volume

MINIMUM_SIDE_VOX = 32


@dataclass(frozen=True, eq=False)
class Scan:
    """One 3-D image and where it came from.

    Attributes
    ----------
    path
        The file, or None for an image from memory.
    container
        The file's bytes and where its voxels are in them.
    stored
        Raw voxels, unscaled, stored orientation and dtype, shape as in the file without trailing ones; read-only.
    warnings
        Oddities of the file that did not prevent its use.
    """

    path: Path | None
    container: Container
    stored: NDArray[Any]
    warnings: tuple[str, ...] = field(default=())

    @property
    def stored_affine(self) -> Affine:
        """Stored voxel index to RAS+ mm, shape (4, 4)."""
        return self.container.affine

    @property
    def slope(self) -> float:
        """Value = stored * slope + inter."""
        return self.container.slope

    @property
    def inter(self) -> float:
        """Value = stored * slope + inter."""
        return self.container.inter

    @functools.cached_property
    def _to_ras(self) -> NDArray[Any]:
        return np.asarray(orientations.io_orientation(self.stored_affine))

    @functools.cached_property
    def data(self) -> FloatVolume:
        """Scaled intensities in the closest-canonical RAS+ view, shape (x, y, z), float32."""
        return np.ascontiguousarray(_decoded(self.stored_to_ras(self.stored), self.slope, self.inter))

    @functools.cached_property
    def affine(self) -> Affine:
        """RAS+ view voxel index to RAS+ mm, shape (4, 4)."""
        matrix = self.stored_affine @ orientations.inv_ornt_aff(self._to_ras, self.stored.shape)
        return np.asarray(matrix, dtype=np.float64)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of `data`."""
        x, y, z = self.stored_to_ras(self.stored).shape
        return (x, y, z)

    @property
    def grid(self) -> Grid:
        """The grid of `data`."""
        return Grid(self.shape, self.affine)

    @property
    def volume(self) -> Volume:
        """`data` with its affine."""
        return Volume(self.data, self.affine)

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel edge lengths along the axes of `data`, shape (3,)."""
        return self.grid.spacing_mm

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the decompressed file: the same for .nii and .nii.gz."""
        return hashlib.sha256(as_bytes(self.container, self.stored)).hexdigest()

    @property
    def seed(self) -> int:
        """Seed for random draws, derived from the intensities only."""
        return int.from_bytes(hashlib.sha256(self.data.tobytes()).digest()[:8], "big")

    def stored_to_ras(self, array: NDArray[Any]) -> NDArray[Any]:
        """Reorient an (x, y, z) array from the file's axes to the RAS+ view."""
        return np.asarray(orientations.apply_orientation(array, self._to_ras))

    def ras_to_stored(self, array: NDArray[Any]) -> NDArray[Any]:
        """Reorient an (x, y, z) array from the RAS+ view to the file's axes."""
        return np.asarray(orientations.apply_orientation(array, _inverse(self._to_ras)))

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn intensities into stored numbers: unscaled, rounded half to even and clipped for integer dtypes."""
        raw = (np.asarray(values, dtype=np.float64) - self.inter) / self.slope
        dtype = self.stored.dtype
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            raw = np.clip(np.rint(raw), limits.min, limits.max)
        return raw.astype(dtype)

    def with_stored(self, stored: NDArray[Any]) -> "Scan":
        """Return the same file with other voxels (stored orientation and dtype).

        Raises
        ------
        InputError
            If shape or dtype differ.
        """
        if stored.shape != self.stored.shape or stored.dtype != self.stored.dtype:
            msg = (
                f"voxels must have shape {self.stored.shape} and dtype {self.stored.dtype}; "
                f"received {stored.shape} and {stored.dtype}"
            )
            raise InputError(msg)
        frozen = stored.copy(order="K")
        frozen.flags.writeable = False
        return replace(self, stored=frozen)

    def to_nibabel(self) -> Any:
        """Give the scan as a nibabel image: header, extensions and stored numbers as in the file."""
        data = as_bytes(self.container, self.stored)
        if not self.container.is_nifti:
            return nib.MGHImage.from_bytes(data)
        kind = nib.Nifti2Image if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Image
        return kind.from_bytes(data)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write this scan; the container follows the name (.nii, .nii.gz, .mgz, .mgh).

        Raises
        ------
        OutputError
            If the path cannot be written or its suffix is not supported.
        """
        path = Path(path)
        kind = suffix_of(path)
        check_output(path, force=force)
        if kind.startswith(".nii") == self.container.is_nifti:
            data = as_bytes(self.container, self.stored)
        else:
            data = _converted(self, kind)
        write_atomically(path, compressed(data, kind), force=force)

    def save_like(self, values: NDArray[Any], path: str | Path, *, force: bool = False) -> None:
        """Write another RAS+ array (mask, labels, map) as NIfTI on this scan's own stored grid.

        Parameters
        ----------
        values
            Shape of `data`; bool becomes uint8, integers the smallest dtype that holds them, floats float32.
        path
            Ends in .nii or .nii.gz.
        force
            Overwrite an existing file.
        """
        path = Path(path)
        kind = suffix_of(path)
        if not kind.startswith(".nii"):
            msg = f"masks and labels are written as .nii or .nii.gz; received {path.name}"
            raise OutputError(msg)
        if values.shape != self.shape:
            msg = f"values must have the scan's shape {self.shape}; received {values.shape}"
            raise InputError(msg)
        stored = self.ras_to_stored(smallest_dtype(values))
        image = nib.Nifti1Image(stored, self.stored_affine)
        image.header.set_xyzt_units("mm")
        for name in ("set_sform", "set_qform"):
            getattr(image, name)(self.stored_affine, 1)
        check_output(path, force=force)
        write_atomically(path, compressed(image.to_bytes(), kind), force=force)


def load_scan(source: str | Path | Any) -> Scan:
    """Load and check a scan.

    Parameters
    ----------
    source
        Path of a NIfTI-1/2 (.nii, .nii.gz) or MGH (.mgz, .mgh) file, or a nibabel image.

    Raises
    ------
    InputError
        One line that says what is wrong with the file and what to do.
    """
    raw, name = raw_bytes(source)
    container, stored, warnings = parse(raw, name)
    stored.flags.writeable = False
    scan = Scan(Path(source) if isinstance(source, str | os.PathLike) else None, container, stored, tuple(warnings))
    _check_content(scan, name)
    return scan


def _decoded(stored: NDArray[Any], slope: float, inter: float) -> FloatVolume:
    values: FloatVolume = stored.astype(np.float32)
    if (slope, inter) != (1.0, 0.0):
        values = values * np.float32(slope) + np.float32(inter)
    return values


def _check_content(scan: Scan, name: str) -> None:
    if min(scan.stored.shape) < MINIMUM_SIDE_VOX:
        shape, least = scan.stored.shape, MINIMUM_SIDE_VOX
        msg = f"{name} has shape {shape}; expected a whole head, at least {least} voxels a side: give all of it"
        raise InputError(msg)
    if scan.stored.dtype.kind == "f" and not np.isfinite(scan.stored).all():
        bad = np.argwhere(~np.isfinite(scan.stored))
        where = tuple(int(i) for i in bad[0])
        mm = apply_affine(scan.stored_affine, bad[0])
        msg = (
            f"{name} has {len(bad)} NaN or infinite voxels, the first at voxel {where} "
            f"({mm[0]:.0f}, {mm[1]:.0f}, {mm[2]:.0f} mm); expected numbers: replace them first"
        )
        raise InputError(msg)
    stored = np.array([scan.stored.min(), scan.stored.max()])
    with np.errstate(all="ignore"):
        low, high = _decoded(stored, scan.slope, scan.inter)
    if not np.isfinite([low, high]).all():
        msg = (
            f"{name} holds intensities beyond 32-bit floating point (stored {stored[0]} to {stored[1]}, "
            f"times {scan.slope:g}, plus {scan.inter:g}); expected a head scan: check or rescale it"
        )
        raise InputError(msg)
    if low == high:
        what = "empty (all zero)" if low == 0 else f"constant (all {low:g})"
        msg = f"{name} is {what}; expected a head scan: check it, or convert it again"
        raise InputError(msg)


def _inverse(ornt: NDArray[Any]) -> NDArray[Any]:
    """Give the orientation that undoes `ornt`."""
    out = np.empty_like(ornt)
    for axis, (target, flip) in enumerate(ornt):
        out[int(target)] = (axis, flip)
    return out


def _converted(scan: Scan, kind: str) -> bytes:
    """Bytes of another container with the same stored dtype, scaling and affine (nibabel makes the header)."""
    if kind.startswith(".nii"):
        image = nib.Nifti1Image(np.asarray(scan.stored, dtype=scan.stored.dtype.newbyteorder("=")), scan.stored_affine)
        image.header.set_slope_inter(scan.slope, scan.inter)
        image.header.set_xyzt_units("mm")
        data: bytes = image.to_bytes()
        return data
    values = scan.ras_to_stored(scan.data) if (scan.slope, scan.inter) != (1.0, 0.0) else scan.stored
    dtype = values.dtype.newbyteorder("=")
    if dtype not in (np.uint8, np.int16, np.int32, np.float32):
        dtype = np.dtype(np.float32)
    mgh: bytes = nib.MGHImage(values.astype(dtype), scan.stored_affine).to_bytes()
    return mgh
