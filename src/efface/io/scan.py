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
from efface.io.atomic import as_private_as, check_output, write_atomically
from efface.io.encoding import compressed, raw_bytes, smallest_dtype, suffix_of
from efface.io.header_geometry import NIBABEL_UNITS, check_head_sized
from efface.io.nifti_mgh import Container, as_bytes, parse
from efface.spatial.affine import apply_affine
from efface.spatial.types import Affine, FloatVolume, Grid, Volume

MINIMUM_SIDE_MM, MINIMUM_SIDE_VOX = 60.0, 16
"""No brain fits into a thinner slab, and no face is to be seen in fewer slices."""
ENOUGH_VOX = 32
"""With so many voxels a side, an image is not refused here: registration says whether it shows a head."""
COLUMN_VOX = 16
"""Files have the first axis fastest, arrays the last: copied in columns this wide, it takes a third of the time."""


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
        return _decoded(_ordered(self.stored_to_ras(self.stored)), self.slope, self.inter)

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
        return self.container.encode(values)

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
        """Write this scan; the container follows the name (.nii, .nii.gz, .mgz, .mgh), permissions those of its file.

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
        self._write(path, compressed(data, kind), force=force)

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
        image = self._image_like(values)
        check_output(path, force=force)
        self._write(path, compressed(image.to_bytes(), kind), force=force)

    def with_values(self, values: NDArray[Any]) -> "Scan":
        """Return another RAS+ array (shape of `data`) as a scan on this scan's own stored grid, in memory.

        Raises
        ------
        InputError
            If the shape differs, or the values are those of no head scan.
        """
        return load_scan(self._image_like(values))

    def _image_like(self, values: NDArray[Any]) -> Any:
        if values.shape != self.shape:
            msg = f"values must have the scan's shape {self.shape}; received {values.shape}"
            raise InputError(msg)
        return self.image_like(smallest_dtype(values))

    def _write(self, path: Path, data: bytes, *, force: bool) -> None:
        with as_private_as([] if self.path is None else [self.path]):
            write_atomically(path, data, force=force)

    def image_like(self, values: NDArray[Any]) -> Any:
        """Give another RAS+ array, of a dtype that NIfTI has, as a nibabel image on this scan's own stored grid.

        Its affine is in the unit of the scan's header, so that programs that do not read units show it in its place.
        """
        affine = self.container.header_affine
        image = nib.Nifti1Image(self.ras_to_stored(values), affine)
        image.header.set_xyzt_units(NIBABEL_UNITS[self.container.unit_mm])
        for name in ("set_sform", "set_qform"):
            getattr(image, name)(affine, 1)
        return image

    def plain(self) -> "Scan":
        """Give this scan if every program finds its voxels where they are; else one with a new header, in mm."""
        if self.container.is_plain:
            return self
        container, stored, _ = parse(_converted(self, ".nii"), str(self.path or "image"))
        stored.flags.writeable = False
        return Scan(self.path, container, stored, self.warnings)


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
    x, y, z = stored.shape
    check_head_sized(Grid((x, y, z), container.affine), name)
    return scan


def _decoded(stored: NDArray[Any], slope: float, inter: float) -> FloatVolume:
    values: FloatVolume = stored.astype(np.float32, copy=False)
    if (slope, inter) != (1.0, 0.0):
        values = values * np.float32(slope) + np.float32(inter)
    return values


def _ordered(values: NDArray[Any]) -> FloatVolume:
    """Copy to single precision, the last axis fastest."""
    ordered = np.empty(values.shape, np.float32)
    for x in range(0, values.shape[0], COLUMN_VOX):
        for y in range(0, values.shape[1], COLUMN_VOX):
            column = (slice(x, x + COLUMN_VOX), slice(y, y + COLUMN_VOX))
            ordered[column] = values[column]
    return ordered


def _check_content(scan: Scan, name: str) -> None:
    _check_field_of_view(scan, name)
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


def _check_field_of_view(scan: Scan, name: str) -> None:
    """Refuse a slab: what counts is millimetres, because a whole head can have few slices."""
    sides_mm = scan.spacing_mm * scan.shape
    thin = (sides_mm < MINIMUM_SIDE_MM) & (np.array(scan.shape) < ENOUGH_VOX)
    if not thin.any() and min(scan.shape) >= MINIMUM_SIDE_VOX:
        return
    sides = " x ".join(f"{side:.3g}" for side in sides_mm)
    shape = " x ".join(str(n) for n in scan.shape)
    msg = (
        f"{name} shows {sides} mm ({shape} voxels, right x anterior x superior); expected a whole head, at least "
        f"{MINIMUM_SIDE_MM:.0f} mm and {MINIMUM_SIDE_VOX} voxels a side: give all of it"
    )
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
