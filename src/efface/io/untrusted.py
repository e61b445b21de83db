"""Bytes of files that anybody may have made: weights and arrays are checked before memory is given to them.

A small file can announce, or inflate to, any size. So a file is read only up to a limit that the caller knows, and what
is packed in it is unpacked only where its directory stays within the limit, and only as far as the directory says.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from efface.errors import InputError, one_line
from efface.io.absent_content import check_content

MOST_ENTRIES = 2000
_ENTRY = b"PK\x01\x02"
"""Begins each line of a zip file's directory."""
LONGEST_REASON = 160


@contextlib.contextmanager
def refusing(what: str, expected: str) -> Iterator[None]:
    """Turn everything that goes wrong while hostile bytes are read into one line.

    Parameters
    ----------
    what
        Which file, for example ``label prior weights/label_prior.npz``.
    expected
        What it should have been, and what to do.

    Raises
    ------
    InputError
        For any error but those that say so already.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the parsers of other libraries raise whatever a byte makes them stumble over
        strerror = error.strerror if isinstance(error, OSError) else None
        reason = one_line(strerror or str(error) or type(error).__name__)[:LONGEST_REASON]
        msg = f"{what} cannot be read ({reason}): expected {expected}"
        raise InputError(msg) from error


def read_limited(path: Path, largest: int) -> bytes:
    """Bytes of a regular file of at most `largest` bytes.

    Raises
    ------
    ValueError
        If it is larger, or no regular file.
    OSError
        If it cannot be read.
    InputError
        If its content was not fetched (git-annex, Git LFS).
    """
    check_content(path)
    if path.exists() and not path.is_file():
        msg = "it is no regular file"
        raise ValueError(msg)
    with path.open("rb") as stream:
        raw = stream.read(largest + 1)
    if len(raw) > largest:
        msg = f"it has {path.stat().st_size} bytes, at most {largest} can be right"
        raise ValueError(msg)
    return raw


class Packed:
    """The files in a zip file, of which none is larger than it may be.

    Parameters
    ----------
    raw
        The zip file.
    largest
        Most bytes of all files in it together, unpacked.

    Raises
    ------
    ValueError
        If there are more, or more than `MOST_ENTRIES` files, or two of one name.
    zipfile.BadZipFile
        If it is no zip file.
    """

    def __init__(self, raw: bytes, largest: int) -> None:
        if raw.count(_ENTRY) > MOST_ENTRIES:  # before the directory is read: it alone may fill the memory
            msg = f"more than {MOST_ENTRIES} files are packed in it"
            raise ValueError(msg)
        self._zip = zipfile.ZipFile(io.BytesIO(raw))
        entries = self._zip.infolist()
        self.sizes = {entry.filename: entry.file_size for entry in entries}
        total = sum(entry.file_size for entry in entries)
        if len(self.sizes) < len(entries):
            msg = "two files of one name are packed in it"
            raise ValueError(msg)
        if total > largest:
            msg = f"it would unpack to {total} bytes, at most {largest} can be right"
            raise ValueError(msg)

    def read(self, name: str) -> bytes:
        """Bytes of one file, as many as the directory says; a check sum that is wrong is an error.

        Raises
        ------
        ValueError
            If there is no such file, or it has another size.
        zipfile.BadZipFile
            If it is damaged.
        """
        if name not in self.sizes:
            msg = f"{name} is missing in it"
            raise ValueError(msg)
        with self._zip.open(name) as stream:
            content = stream.read(self.sizes[name])
            if len(content) != self.sizes[name] or stream.read(1):  # the second read checks the sum
                msg = f"{name} has another size than it says"
                raise ValueError(msg)
        return content
