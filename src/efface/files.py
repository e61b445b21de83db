"""Writing files so that a killed run, a full disk or a second writer never leaves half a file."""

import contextlib
import errno
import os
import secrets
from pathlib import Path

from efface.errors import OutputError


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
    path = Path(path)
    check_output(path, force=force)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(_os_reason(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _os_reason(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left to write {path}: free some disk space and run again"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"output folder {path.parent} is read-only: choose a folder you can write to"
    return f"cannot write {path} ({os.strerror(error.errno or 0)}): choose another output path"
