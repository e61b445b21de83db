"""Writing files so that a killed run, a full disk or a second writer never leaves half a file."""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from efface.errors import InputError, OutputError

_ANYONE = 0o666
_OWNER = 0o600
_LIMITS: ContextVar[tuple[tuple[int, int], ...]] = ContextVar("efface_limits", default=())
"""Permission bits and group of the files that what is being written comes from; a thread starts without them."""


@contextlib.contextmanager
def as_private_as(sources: Iterable[Path], *, owner_only: bool = False) -> Iterator[None]:
    """Let nobody open what the body writes who may not open every one of `sources`; the umask counts as well.

    Parameters
    ----------
    sources
        Files that the outputs are made from; those that do not exist do not count. The owner can always read and write.
    owner_only
        Nobody but the owner, whatever the sources are.
    """
    found = [(0, -1)] if owner_only else []
    for path in sources:
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mode & _ANYONE, _group_of(status)))
    token = _LIMITS.set(tuple({*_LIMITS.get(), *found}))
    try:
        yield
    finally:
        _LIMITS.reset(token)


def _group_of(status: os.stat_result) -> int:
    return status.st_gid


def check_output(path: Path, *, force: bool) -> None:
    """Refuse an output path that cannot or must not be written.

    Raises
    ------
    OutputError
        If the folder is missing or closed, the path is a folder, or the file exists and `force` is false.
    """
    try:
        has_folder, is_folder, exists = path.parent.is_dir(), path.is_dir(), path.exists()
    except OSError as error:
        raise OutputError(_os_reason(path, error)) from error
    if not has_folder:
        msg = f"output folder {path.parent} does not exist: create it, or choose another output path"
        raise OutputError(msg)
    if is_folder:
        msg = f"output {path} is a folder; expected a file name: add one"
        raise OutputError(msg)
    if exists and not force:
        msg = f"output {path} exists already: give --force to overwrite it, or choose another path"
        raise OutputError(msg)


def write_atomically(path: str | Path, data: bytes, *, force: bool = False) -> None:
    """Write `data` under a temporary name in the same folder, then rename.

    Raises
    ------
    OutputError
        As `check_output`, and if the disk is full or the folder is read-only; nothing is left behind.
    """
    with _placed(Path(path), force=force) as temporary:
        _create(temporary)
        temporary.write_bytes(data)


@contextlib.contextmanager
def opened_atomically(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Give a stream to write to under a temporary name; the file is renamed when the body ends without an error.

    Raises
    ------
    OutputError
        As `write_atomically`.
    """
    with _placed(path, force=force) as temporary:
        _create(temporary)
        with temporary.open("wb") as stream:
            yield stream


def copy_atomically(source: Path, path: Path) -> None:
    """Copy a file, with its time and for the same readers, under a temporary name, then rename.

    Raises
    ------
    InputError
        If the source cannot be read.
    OutputError
        As `write_atomically`.
    """
    try:
        stream = source.open("rb")
        status = source.stat()
    except OSError as error:
        msg = f"{source} cannot be read ({error.strerror}): check its permissions, or fetch it if it is a link"
        raise InputError(msg) from error
    with stream, as_private_as([source]), _placed(path, force=False) as temporary:
        _create(temporary)
        with temporary.open("wb") as copy:
            shutil.copyfileobj(stream, copy, 2**20)
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))


def link_atomically(source: Path, path: Path) -> None:
    """Make a symbolic link to `source` at `path`.

    Raises
    ------
    OutputError
        As `write_atomically`.
    """
    with _placed(path, force=False) as temporary:
        temporary.symlink_to(source)


LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""How `write_atomically` names what is not whole yet."""


def make_folder(path: Path) -> None:
    """Make a folder, with all above it.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run had not finished writing to this folder; only where no other run writes to it."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if LEFTOVER.fullmatch(entry.name):
                Path(entry.path).unlink(missing_ok=True)


@contextlib.contextmanager
def _placed(path: Path, *, force: bool) -> Iterator[Path]:
    """A temporary name in the same folder, renamed to `path` at the end; nothing is left behind if that fails."""
    check_output(path, force=force)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _create(path: Path) -> None:
    """Make an empty file that has its permissions before anything is in it."""
    limits, mode = _LIMITS.get(), _ANYONE
    for bits, _ in limits:
        mode &= bits | _OWNER
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        status = os.fstat(descriptor)
        if any(group != _group_of(status) for _, group in limits) and hasattr(os, "fchmod"):
            given = status.st_mode & _ANYONE  # the group is another: it may do what everybody may
            os.fchmod(descriptor, given & (_OWNER | 0o006 | (given & 0o006) << 3))
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The error that says why a path cannot be written."""
    return OutputError(_os_reason(path, error))


def _os_reason(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left to write {path}: free some disk space and run again"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"output folder {path.parent} is read-only: choose a folder you can write to"
    return f"cannot write {path} ({os.strerror(error.errno or 0)}): choose another output path"
