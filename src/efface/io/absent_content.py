"""Files whose content is elsewhere: links and pointers that git-annex (DataLad) and Git LFS leave in their place."""

import os
from pathlib import Path

from efface.errors import InputError

ANNEX_POINTER = b"/annex/objects/"
"""How the small file begins that stands for an unlocked file whose content was not fetched."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LARGEST_POINTER_BYTES = 32 * 2**10
"""git-annex takes no larger file for a pointer."""
ANNEX_FOLDER = os.path.join("annex", "objects")  # noqa: PTH118 - a part of a path


def check_content(path: Path) -> None:
    """Refuse a file whose content was not fetched.

    Raises
    ------
    InputError
        With the command that fetches it.
    """
    why = why_absent(path)
    if why:
        msg = f"{path} {why}"
        raise InputError(msg)


def why_absent(path: Path) -> str:
    """Why a file's content is not here, and the command that fetches it; empty where this is not known."""
    try:
        if path.is_file():
            if path.stat().st_size > LARGEST_POINTER_BYTES:
                return ""
            with path.open("rb") as file:
                return why_pointer(file.read(len(LFS_POINTER)), path)
        if path.is_symlink() and ANNEX_FOLDER in os.path.realpath(path):
            return f"is a link of git-annex to content that is not here: {_fetch(path)}"
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return ""
    return ""


def why_pointer(start: bytes, path: str | Path) -> str:
    """The same by the first bytes of a file."""
    if start.startswith(ANNEX_POINTER):
        return f"is a pointer of git-annex to content that is not here: {_fetch(path)}"
    if start.startswith(LFS_POINTER):
        return f"is a pointer of Git LFS to content that is not here: fetch it with `git lfs pull --include {path}`"
    return ""


def _fetch(path: str | Path) -> str:
    return f"fetch it with `datalad get {path}` or `git annex get {path}`"
