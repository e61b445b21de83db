"""Bytes of NIfTI and MGH files, and the position of the voxels in them; checked before memory is allocated."""

import contextlib
import gzip
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.io.absent_content import check_content, why_pointer
from efface.io.header_geometry import Geometry, in_header_unit, mgh_geometry, nifti_geometry, no_affine
from efface.spatial.grid_limits import MAXIMUM_VOXELS
from efface.spatial.types import Affine

MAXIMUM_BYTES = 2**30
TRAILING_BYTES = 16 * 2**20
"""What may follow the voxels: tags of MGH files, padding."""
HEAD_BYTES = 4096
GZIP_MAGIC = b"\x1f\x8b"
MAXIMUM_RATIO = 1040
"""gzip makes nothing smaller than a 1032nd."""
BAD_QUATERNION = "w2 should be positive"
"""What nibabel says of a qform that is no rotation, where there is no sform."""
MGH_GOOD = slice(28, 30)
"""Where an MGH header says whether it knows how the head lies."""


@dataclass(frozen=True, eq=False)
class Container:
    """What surrounds the voxels of a file.

    Attributes
    ----------
    before, after
        Bytes before and after the voxel block.
    dtype
        Stored dtype with its byte order.
    affine
        Stored voxel index to RAS+ mm, shape (4, 4).
    slope, inter
        Value = stored * slope + inter; 1 and 0 where the file has none.
    is_nifti
        False for MGH.
    unit_mm
        How many mm one unit of the header's numbers is: 1,000 in a header in metres.
    is_plain
        Whether a program that takes the header's first affine, in mm, finds `affine`.
    """

    before: bytes
    after: bytes
    dtype: np.dtype[Any]
    affine: Affine
    slope: float
    inter: float
    is_nifti: bool
    unit_mm: float = 1.0
    is_plain: bool = True

    @property
    def header_affine(self) -> Affine:
        """Stored voxel index to RAS+, in the header's unit, shape (4, 4)."""
        return in_header_unit(self.affine, self.unit_mm)

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn intensities into stored numbers: unscaled, rounded half to even and clipped for integer dtypes."""
        raw = (np.asarray(values, dtype=np.float64) - self.inter) / self.slope
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            raw = np.clip(np.rint(raw), limits.min, limits.max)
        return raw.astype(self.dtype)


def read_bytes(path: Path) -> bytes:
    """Read a file, decompressed if it is gzip; not more than its header announces, plus a tolerance.

    The header is read and checked first, so that a hostile file costs neither memory nor time.

    Raises
    ------
    InputError
        If it is missing, no file, unreadable, truncated, corrupt or absurdly large, or its header shows that it is no
        scan.
    """
    try:
        if not path.is_file():
            check_content(path)
            msg = f"{path} {_what_is_there(path)}; expected a NIfTI or MGH file: check the path"
            raise InputError(msg)
        with path.open("rb") as file:
            compressed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if compressed else file
            head = stream.read(HEAD_BYTES)
            limit = _announced(head, path, compressed=compressed) + TRAILING_BYTES
            data = head + stream.read(max(0, limit + 1 - len(head)))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"{path} is a truncated or corrupt gzip file ({error}): copy or download it again"
        raise InputError(msg) from error
    except InputError:
        raise
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}): check its name and permissions"
        raise InputError(msg) from error
    if len(data) > limit:
        msg = f"{path} goes on for more than {TRAILING_BYTES >> 20} MiB after its voxels: convert it again"
        raise InputError(msg)
    return data


def announced_shape(path: Path) -> tuple[int, int, int]:
    """Shape of a file's voxels by its header alone.

    Raises
    ------
    InputError
        As `read_bytes`, as far as the header shows it.
    """
    try:
        if not path.is_file():  # a pipe would block
            read_bytes(path)
        with path.open("rb") as file:
            compressed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            head = (gzip.GzipFile(fileobj=file) if compressed else file).read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        head = read_bytes(path)  # says what is wrong
    with _noted([]):
        return _checked_shape(tuple(int(n) for n in _image(head, str(path)).shape), str(path))


def _what_is_there(path: Path) -> str:
    if path.is_dir():
        return "is a folder"
    if path.is_symlink():
        return "is a link to a file that is not there"
    return "is no regular file" if path.exists() else "does not exist"


def _announced(head: bytes, path: Path, *, compressed: bool) -> int:
    """Bytes up to the end of the voxels, by the header."""
    with _noted([]):
        image = _image(head, str(path))
    shape, dtype = _checked_shape(tuple(int(n) for n in image.shape), str(path)), _dtype(image.header, str(path))
    announced = max(0, int(image.dataobj.offset)) + math.prod(shape) * dtype.itemsize
    size = path.stat().st_size
    if announced > (size * MAXIMUM_RATIO if compressed else size):
        msg = f"{path} is truncated: its header announces {announced} bytes, the file has {size}; copy it again"
        raise InputError(msg)
    if announced > MAXIMUM_BYTES or math.prod(shape) > MAXIMUM_VOXELS:
        msg = (
            f"{path} has shape {shape}, {announced >> 20} MiB; expected a head scan of at most {MAXIMUM_VOXELS >> 20} "
            f"million voxels and {MAXIMUM_BYTES >> 20} MiB: crop or resample it"
        )
        raise InputError(msg)
    return announced


def parse(raw: bytes, name: str) -> tuple[Container, NDArray[Any], list[str]]:
    """Split a file's bytes into container and voxels.

    Returns
    -------
    container
        Everything but the voxels.
    stored
        Raw voxels, shape (x, y, z), stored dtype.
    warnings
        What was odd but usable.

    Raises
    ------
    InputError
        If it is no image, not 3-D, not real-valued, truncated, or has no usable affine.
    """
    notes: list[str] = []
    with _noted(notes):
        image = _image(raw, name)
    header = image.header
    shape, dtype = _checked_shape(tuple(int(n) for n in image.shape), name), _dtype(header, name)
    is_nifti = isinstance(image, nib.Nifti1Image)
    place = _geometry(image, shape, raw, name)
    # nibabel resets offset and scaling in the header it hands out; the array proxy has the file's own.
    offset = int(image.dataobj.offset)
    size = math.prod(shape) * dtype.itemsize
    if offset < _header_bytes(raw):
        msg = f"{name} has its voxels at byte {offset}, inside its own header: convert it again"
        raise InputError(msg)
    if offset + size > len(raw):
        msg = f"{name} is truncated: its header announces {offset + size} bytes, the file has {len(raw)}; copy it again"
        raise InputError(msg)
    stored = np.frombuffer(raw, dtype, count=size // dtype.itemsize, offset=offset).reshape(shape, order="F")
    if not stored.flags.aligned:
        stored = stored.copy("F")
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    plain = bool(np.allclose(image.affine, place.affine, rtol=1e-6, atol=1e-4))
    before, after = raw[:offset], raw[offset + size :]
    container = Container(before, after, dtype, place.affine, slope or 1.0, inter, is_nifti, place.unit_mm, plain)
    return container, stored, [f"{name}: {note}" for note in (*notes, *place.warnings)]


def _geometry(image: Any, shape: tuple[int, int, int], raw: bytes, name: str) -> Geometry:
    if isinstance(image, nib.Nifti1Image):
        header = image.header.copy()
        stored = type(header)(raw[: len(header.binaryblock)], header.endianness, check=False)
        header["pixdim"][1:4][stored["pixdim"][1:4] == 0] = 0  # nibabel makes 1 of it, which is a guess
        return nifti_geometry(header, shape, name)
    return mgh_geometry(np.asarray(image.affine, np.float64), shape, good=any(raw[MGH_GOOD]), name=name)


def as_bytes(container: Container, stored: NDArray[Any]) -> bytes:
    """Join container and voxels to a file's (uncompressed) bytes."""
    return container.before + stored.astype(container.dtype, copy=False).tobytes(order="F") + container.after


def _header_bytes(raw: bytes) -> int:
    """Bytes that no voxel may lie in."""
    if raw[4:7] == b"n+2":
        return 540
    return 348 if raw[344:347] == b"n+1" else 284


def header_image(raw: bytes, name: str) -> Any:
    """The image of a file by the bytes of its header, without voxels; `name` is for messages.

    Raises
    ------
    InputError
        If it is no NIfTI or MGH header.
    """
    with _noted([]):
        return _image(raw, name)


def _image(raw: bytes, name: str) -> Any:
    """Let nibabel read the header only; voxels and extensions are never touched here."""
    for image_class, size, field in (
        (nib.Nifti1Image, 348, slice(344, 348)),
        (nib.Nifti2Image, 540, slice(4, 12)),
    ):
        if len(raw) >= size and raw[field][:3] == b"n+" + (b"1" if size == 348 else b"2"):
            return _read_header(image_class, raw[:size] + bytes(4), name)  # four zeros: no extensions
    if len(raw) >= 284 and struct.unpack(">i", raw[:4])[0] == 1:
        return _read_header(nib.MGHImage, raw, name)
    why = why_pointer(raw, name) or (
        "is not a NIfTI (.nii, .nii.gz) or MGH (.mgz) image: convert it first, for example with dcm2niix"
    )
    msg = f"{name} {why}"
    raise InputError(msg)


@contextlib.contextmanager
def _noted(notes: list[str]) -> Iterator[None]:
    """Collect what nibabel logs and warns about a header, instead of printing it."""

    def collect(record: logging.LogRecord) -> bool:
        notes.append(" ".join(record.getMessage().split()))
        return False

    logger = logging.getLogger("nibabel.global")
    logger.addFilter(collect)
    try:
        with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
            warnings.simplefilter("always")
            yield
        notes.extend(" ".join(str(warning.message).split()) for warning in caught)
    finally:
        logger.removeFilter(collect)


def _read_header(image_class: Any, raw: bytes, name: str) -> Any:
    try:
        return image_class.from_bytes(raw)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        if reason.startswith(BAD_QUATERNION):
            raise no_affine(name, "a qform with an invalid quaternion, the sform is not set") from error
        msg = f"{name} has a header that cannot be read ({reason}): copy or convert it again"
        raise InputError(msg) from error


def _checked_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    if len(shape) < 3 or min(shape[:3], default=0) <= 1:
        msg = f"{name} has shape {shape}; expected a 3-D head scan, not a slice: give the whole volume"
        raise InputError(msg)
    if any(n != 1 for n in shape[3:]):
        msg = f"{name} has {math.prod(shape[3:])} volumes (shape {shape}); expected one: extract a volume first"
        raise InputError(msg)
    return shape[0], shape[1], shape[2]


def _dtype(header: Any, name: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(header.get_data_dtype()).newbyteorder(getattr(header, "endianness", ">"))
    if dtype.kind not in "iuf":
        msg = f"{name} holds {dtype} voxels; expected one real number a voxel: convert it first"
        raise InputError(msg)
    return dtype
