"""A head scan: loaded and checked, seen in RAS+, and written back on its own grid, dtype, scaling and header.

The guarantee rests on bytes. A scan keeps its file's decompressed bytes; a changed scan is those bytes with other
voxels, so header, extensions, byte order and everything outside the edit stay bit-identical. Only when the
output's container differs from the input's (.mgz to .nii.gz, say) is a new header made, by nibabel, with the same
stored dtype, scaling and affine.
"""

import functools
import gzip
import hashlib
import io
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from efface.errors import InputError, OutputError
from efface.io.atomic import check_output, write_atomically
from efface.io.nifti_mgh import Container, as_bytes, parse, read_bytes
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, LabelVolume, Volume

MINIMUM_SIDE_VOX = 32
GZIP_LEVEL = 4
"""Level 6 makes a 0.9 mm head 1% smaller in twice the time."""
SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")


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
        What was odd about the file but could be used.
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
        """What seeds every randomness: made from the intensities alone, however they are stored."""
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
        kind = _suffix(path)
        check_output(path, force=force)
        if kind.startswith(".nii") == self.container.is_nifti:
            data = as_bytes(self.container, self.stored)
        else:
            data = _converted(self, kind)
        write_atomically(path, _compressed(data, kind), force=force)

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
        kind = _suffix(path)
        if not kind.startswith(".nii"):
            msg = f"masks and labels are written as .nii or .nii.gz; received {path.name}"
            raise OutputError(msg)
        if values.shape != self.shape:
            msg = f"values must have the scan's shape {self.shape}; received {values.shape}"
            raise InputError(msg)
        stored = self.ras_to_stored(_smallest(values))
        image = nib.Nifti1Image(stored, self.stored_affine)
        image.header.set_xyzt_units("mm")
        for name in ("set_sform", "set_qform"):
            getattr(image, name)(self.stored_affine, 1)
        check_output(path, force=force)
        write_atomically(path, _compressed(image.to_bytes(), kind), force=force)


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
    raw, name = _raw(source)
    container, stored, warnings = parse(raw, name)
    stored.flags.writeable = False
    scan = Scan(Path(source) if isinstance(source, str | os.PathLike) else None, container, stored, tuple(warnings))
    _check_content(scan, name)
    return scan


def load_mask(path: str | Path, like: Scan) -> BoolVolume:
    """Load a mask (non-zero = inside) that lies on a scan's grid, as an RAS+ array.

    Raises
    ------
    InputError
        If its shape or affine differ from the scan's, or it is empty.
    """
    image = _plain_image(path)
    data = np.asanyarray(image.dataobj)
    data = data.reshape(data.shape[:3])
    if data.shape != like.stored.shape or not np.allclose(image.affine, like.stored_affine, atol=1e-2):
        received = "another affine" if data.shape == like.stored.shape else f"{data.shape}"
        msg = f"mask {path} must lie on the scan's grid {like.stored.shape}; received {received}: resample it"
        raise InputError(msg)
    if not data.any():
        msg = f"mask {path} is empty; expected at least one non-zero voxel: check it"
        raise InputError(msg)
    return np.ascontiguousarray(like.stored_to_ras(data) != 0)


def load_labels(source: str | Path | Any) -> tuple[LabelVolume, Affine]:
    """Load a segmentation (a path or a nibabel image) in its stored orientation, with its affine.

    Raises
    ------
    InputError
        If the file is not a 3-D image of whole, non-negative numbers.
    """
    path = source if isinstance(source, str | Path) else "image"
    image = _plain_image(source)
    data = np.asanyarray(image.dataobj)
    if data.ndim < 3 or any(n != 1 for n in data.shape[3:]) or data.dtype.kind not in "iufb":
        msg = f"segmentation {path} must be one 3-D image of label numbers; received shape {data.shape}, {data.dtype}"
        raise InputError(msg)
    data = data.reshape(data.shape[:3])
    labels = np.rint(data) if data.dtype.kind == "f" else data
    if data.dtype.kind == "f" and not np.allclose(labels, data, atol=1e-3):
        msg = f"segmentation {path} holds numbers that are not whole; expected labels: resample by nearest neighbour"
        raise InputError(msg)
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.int32).max):
        msg = f"segmentation {path} holds {labels.min()} to {labels.max()}; expected label numbers from 0: check it"
        raise InputError(msg)
    return labels.astype(np.int32), np.asarray(image.affine, dtype=np.float64)


def _plain_image(source: str | Path | Any) -> Any:
    """A nibabel image of scaled values; small images are fine here."""
    container, stored, _ = parse(*_raw(source))
    scaled = (container.slope, container.inter) != (1.0, 0.0)
    data = stored * container.slope + container.inter if scaled else stored
    return nib.Nifti1Image(data, container.affine, dtype=data.dtype)


def _raw(source: Any) -> tuple[bytes, str]:
    """Bytes and a name for messages, of a path or an image."""
    if isinstance(source, str | os.PathLike):
        return read_bytes(Path(source)), str(source)
    if isinstance(source, SpatialImage):
        return _image_bytes(source), "image"
    msg = f"an image must be a path or a nibabel image; received {type(source).__name__}: save the array as NIfTI"
    raise InputError(msg)


def _image_bytes(image: Any) -> bytes:
    """Give the bytes of an image in memory; of one that was loaded, with the stored numbers and scaling of its file."""
    proxy = image.dataobj
    if isinstance(image, nib.Nifti1Pair) and hasattr(proxy, "get_unscaled"):
        image_class = nib.Nifti2Image if isinstance(image.header, nib.Nifti2Header) else nib.Nifti1Image
        image = image_class(proxy.get_unscaled(), image.affine, image.header)
        image.header.set_slope_inter(proxy.slope, proxy.inter)
    elif not hasattr(image, "to_bytes"):
        image = nib.Nifti1Image.from_image(image)
    data: bytes = image.to_bytes()
    return data


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
        mm = scan.stored_affine[:3, :3] @ bad[0] + scan.stored_affine[:3, 3]
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


def _suffix(path: Path) -> str:
    for suffix in (".nii.gz", ".nii", ".mgz", ".mgh"):
        if path.name.lower().endswith(suffix):
            return suffix
    msg = f"output {path.name} must end in one of {', '.join(SUFFIXES)}"
    raise OutputError(msg)


def _compressed(data: bytes, kind: str) -> bytes:
    if kind not in (".nii.gz", ".mgz"):
        return data
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=GZIP_LEVEL, mtime=0) as stream:
        stream.write(data)
    return buffer.getvalue()


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


def _smallest(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    for dtype in (np.uint8, np.int16, np.int32):
        limits = np.iinfo(dtype)
        if values.size == 0 or (values.min() >= limits.min and values.max() <= limits.max):
            return values.astype(dtype)
    msg = f"label numbers must fit in 32 bits; received {values.min()} to {values.max()}"
    raise InputError(msg)
