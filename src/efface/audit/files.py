"""The images of a file, a folder or a BIDS data set: every NIfTI and MGH file below it, links read through."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from efface.errors import InputError
from efface.io.absent_content import why_absent
from efface.io.encoding import SUFFIXES


@dataclass(frozen=True)
class FoundImage:
    """One image that is audited.

    Attributes
    ----------
    path
        Where it is.
    name
        Its path below the folder that was given, with ``/``; the file's name alone where a file was given.
    problem
        Why it cannot be read: a broken link, content that was not fetched. Empty otherwise.
    """

    path: Path
    name: str
    problem: str = ""


def find_images(path: Path) -> list[FoundImage]:
    """List the images of a file or a folder, by name.

    Parameters
    ----------
    path
        A NIfTI or MGH file, or a folder: all of it is looked at, hidden folders (``.git``) left out. Symbolic links to
        files and folders are followed, each folder once.

    Raises
    ------
    InputError
        If there is nothing, or no image.
    """
    if not path.exists() and not path.is_symlink():
        msg = f"{path} does not exist; expected a NIfTI or MGH file, or a folder of them: check the path"
        raise InputError(msg)
    if not path.is_dir():
        if not path.name.lower().endswith(SUFFIXES):
            endings = ", ".join(SUFFIXES)
            msg = f"{path} is no image by its name; expected a file that ends in {endings}, or a folder of images"
            raise InputError(msg)
        return [FoundImage(path, path.name, problem_of(path))]
    found = [FoundImage(one, one.relative_to(path).as_posix(), problem_of(one)) for one in _walked(path)]
    if not found:
        msg = f"{path} holds no image; expected files that end in {', '.join(SUFFIXES)}: check the path"
        raise InputError(msg)
    return sorted(found, key=lambda image: image.name)


def problem_of(path: Path) -> str:
    """Why a file cannot be read, in words without its path; empty where it can be tried."""
    if path.is_symlink() and not path.exists():
        return "a symbolic link to a file that is not here"
    return "its content was not fetched (git-annex or Git LFS)" if why_absent(path) else ""


def _walked(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link to a folder above it, or a second one to the same
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(root) / name
