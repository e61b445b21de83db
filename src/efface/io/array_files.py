"""Arrays in .npy and .npz files, checked before memory is given to them."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from efface.io.untrusted import Packed, read_limited, refusing

LARGEST_BYTES = 2**31
"""Of one file of arrays, unpacked: a head on a fine grid, with masks and labels, has 0.3 GB."""


def read_array(path: Path, *, what: str, expected: str, largest: int = LARGEST_BYTES) -> NDArray[Any]:
    """Read the array of a .npy file.

    Parameters
    ----------
    path
        The file.
    what, expected
        For messages: what it is, and what it should have been.
    largest
        Most bytes it may have.

    Raises
    ------
    InputError
        If it cannot be read, or is larger.
    """
    with refusing(f"{what} {path}", expected):
        return _array(read_limited(path, largest))


def read_arrays(
    path: Path, names: Sequence[str], *, what: str, expected: str, largest: int = LARGEST_BYTES
) -> dict[str, NDArray[Any]]:
    """Read the arrays of these names of a .npz file; others stay packed.

    Parameters
    ----------
    path
        The file.
    names
        Without ``.npy``.
    what, expected
        For messages: what it is, and what it should have been.
    largest
        Most bytes of all arrays in the file together.

    Raises
    ------
    InputError
        If it cannot be read, an array is missing, or it is larger.
    """
    with refusing(f"{what} {path}", expected):
        packed = Packed(read_limited(path, largest), largest)
        return {name: _array(packed.read(f"{name}.npy")) for name in names}


def _array(raw: bytes) -> NDArray[Any]:
    """An array of numbers; its bytes must be as many as its header says."""
    stream = io.BytesIO(raw)
    version = npy.read_magic(stream)
    read_header = _HEADERS.get(version)
    if read_header is None:
        msg = f"its arrays have the format {version}"
        raise ValueError(msg)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers written by Python 2
        shape, fortran, dtype = read_header(stream)
    if dtype.kind not in "biuf" or any(n < 0 for n in shape):
        msg = f"it holds {dtype} of shape {shape}, no numbers"
        raise ValueError(msg)
    if math.prod(shape) * dtype.itemsize != len(raw) - stream.tell():
        msg = f"its header announces {dtype} of shape {shape}, and {len(raw) - stream.tell()} bytes follow"
        raise ValueError(msg)
    flat = np.frombuffer(raw, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()


_HEADERS: Mapping[tuple[int, int], Any] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
