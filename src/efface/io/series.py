"""Images of several volumes (bold, dwi, ...): their mean as one scan, and a copy that lost the same voxels in every one.

A volume at a time is in memory, so the length of a series costs time only. As with `Scan`, a changed series is the
file's own bytes with other voxels: header, byte order, scaling and everything outside the edit stay bit-identical.
"""

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.io.absent_content import check_content
from efface.io.atomic import as_private_as, opened_atomically
from efface.io.deidentify import without_text
from efface.io.encoding import GZIP_LEVEL, suffix_of
from efface.io.nifti_mgh import GZIP_MAGIC, HEAD_BYTES, Container, header_image
from efface.io.scan import Scan, load_scan
from efface.spatial.grid_limits import MAXIMUM_VOXELS
from efface.spatial.types import BoolVolume

MAXIMUM_VOLUMES = 100_000
COPIED_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class Series:
    """A NIfTI file of several volumes on one grid.

    Attributes
    ----------
    path
        The file.
    container
        What precedes the voxels, and how they are stored; what follows them is copied when the series is written.
    shape
        Of one volume, stored orientation.
    volumes
        How many there are, over all axes behind the third.
    """

    path: Path
    container: Container
    shape: tuple[int, int, int]
    volumes: int

    def mean(self) -> Scan:
        """The mean of all volumes as a scan.

        Raises
        ------
        InputError
            If the file is truncated, or its mean is no head scan, as `efface.io.scan.load_scan` says.
        """
        total = np.zeros(self.shape, np.float64)
        for volume in self._each():
            total += volume
        values = (total / self.volumes * self.container.slope + self.container.inter).astype(np.float32)
        header = header_image(self.container.before, str(self.path)).header.copy()
        header.set_data_dtype(np.float32)
        header.set_data_shape(self.shape)
        header.set_slope_inter(1, 0)
        header.extensions.clear()
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        scan = load_scan(kind(values, None, header))
        return replace(scan, path=self.path)

    def save(
        self, path: Path, removed: BoolVolume | None = None, air: float = 0.0, *, policy: str, force: bool = False
    ) -> tuple[str, ...]:
        """Write the series, with voxels set to `air` in every volume; permissions are those of its file.

        Parameters
        ----------
        path
            Ends in .nii or .nii.gz.
        removed
            Voxels to set, stored orientation, shape of one volume; None for none.
        air
            Their new intensity.
        policy
            What happens to text in the header (`efface.io.deidentify`).
        force
            Overwrite an existing file.

        Returns
        -------
        tuple of str
            Names of the header fields that were removed.

        Raises
        ------
        InputError
            If the file is truncated.
        OutputError
            If it cannot be written.
        """
        container, gone = without_text(self.container, policy)
        value = self.container.encode(np.asarray(air))
        with as_private_as([self.path]), opened_atomically(path, force=force) as file, _packed(file, path) as stream:
            stream.write(container.before)
            for volume in self._each():
                if removed is not None:
                    volume = volume.copy(order="F")
                    volume[removed] = value
                stream.write(volume.tobytes(order="F"))
            trailing = self._after_the_voxels(stream if policy == "keep" else None)
        return (*gone, "bytes after the voxels") if trailing and policy != "keep" else gone

    def _each(self) -> Iterator[NDArray[Any]]:
        """Every volume, stored numbers."""
        size = math.prod(self.shape) * self.container.dtype.itemsize
        with self._voxels() as stream:
            for number in range(self.volumes):
                block = stream.read(size)
                if len(block) < size:
                    msg = (
                        f"{self.path} is truncated: its header announces {self.volumes} volumes, the file ends in "
                        f"volume {number + 1}; copy it again"
                    )
                    raise InputError(msg)
                yield np.frombuffer(block, self.container.dtype).reshape(self.shape, order="F")

    def _after_the_voxels(self, to: BinaryIO | None) -> bool:
        """Whether anything follows the voxels; copied where a stream is given."""
        size = self.volumes * math.prod(self.shape) * self.container.dtype.itemsize
        with self._voxels() as stream:
            stream.seek(len(self.container.before) + size)
            block = stream.read(COPIED_BYTES)
            found = bool(block)
            while block and to is not None:
                to.write(block)
                block = stream.read(COPIED_BYTES)
        return found

    @contextlib.contextmanager
    def _voxels(self) -> Iterator[BinaryIO]:
        """The decompressed file from its first voxel on."""
        try:
            with self.path.open("rb") as file, _unpacked(file) as stream:
                stream.seek(len(self.container.before))
                yield stream
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            msg = f"{self.path} is a truncated or corrupt gzip file ({error}): copy or download it again"
            raise InputError(msg) from error


def open_series(path: Path) -> Series | None:
    """Read the header of a file of several volumes; None where it has one volume, or is no NIfTI file.

    Raises
    ------
    InputError
        If it cannot be read, or its volumes cannot be those of a scan.
    """
    try:
        check_content(path)
        with path.open("rb") as file, _unpacked(file) as stream:
            head = stream.read(HEAD_BYTES)
            image = header_image(head, str(path))
            if not isinstance(image, nib.Nifti1Image) or math.prod(image.shape[3:]) == 1 or len(image.shape) < 4:
                return None
            offset = int(image.dataobj.offset)
            if not 0 < offset <= MAXIMUM_VOXELS:
                msg = f"{path} has its voxels at byte {offset}: convert it again"
                raise InputError(msg)
            before = head + stream.read(max(0, offset - len(head)))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"{path} is a truncated or corrupt gzip file ({error}): copy or download it again"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}): check its name and permissions"
        raise InputError(msg) from error
    return _checked(path, image, before[:offset])


def _checked(path: Path, image: Any, before: bytes) -> Series:
    shape, volumes = tuple(int(n) for n in image.shape[:3]), math.prod(image.shape[3:])
    dtype = np.dtype(image.get_data_dtype()).newbyteorder(image.header.endianness)
    if dtype.kind not in "iuf":
        msg = f"{path} holds {dtype} voxels; expected one real number a voxel: convert it first"
        raise InputError(msg)
    if min(shape) <= 1 or math.prod(shape) > MAXIMUM_VOXELS or not 0 < volumes <= MAXIMUM_VOLUMES:
        msg = f"{path} has shape {image.shape}; expected volumes of a head: check it, or convert it again"
        raise InputError(msg)
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    container = Container(before, b"", dtype, np.asarray(image.affine), slope or 1.0, inter, is_nifti=True)
    return Series(path, container, (shape[0], shape[1], shape[2]), volumes)


@contextlib.contextmanager
def _unpacked(file: BinaryIO) -> Iterator[BinaryIO]:
    is_packed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    if not is_packed:
        yield file
        return
    with gzip.GzipFile(fileobj=file) as stream:
        yield stream  # type: ignore[misc]


@contextlib.contextmanager
def _packed(file: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    if suffix_of(path) != ".nii.gz":
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=GZIP_LEVEL, mtime=0) as stream:
        yield stream  # type: ignore[misc]
