"""The output folder of a study: made, checked, and locked against a second run."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from efface.bids.derivatives import GroupPaths, private_folder
from efface.errors import InputError, OutputError
from efface.io.atomic import cannot_write
from efface.io.json_files import read_object
from efface.io.scratch import make_private

log = logging.getLogger(__name__)

LOCK = ".efface.lock"
UNDEFACED = re.compile(
    r"\.?sub-.+_desc-(resampled|rescan(rigid|affine|deformable)|halfway(resampled)?)_T1w\.(json|nii\.gz)(\.[0-9a-f]{8}\.tmp)?"
)
"""Sessions resampled for ``--rescan``, and what was being written of them when a run was killed."""


def make_output_folder(bids_dir: Path, out_dir: Path) -> None:
    """Make the output folder of a study.

    Raises
    ------
    InputError
        If it is the data set itself.
    OutputError
        If it cannot be made, or holds a data set of another program.
    """
    out_dir = out_dir.resolve()
    if out_dir == bids_dir.resolve():
        msg = f"the output folder {out_dir} is the data set itself: choose another, for example {out_dir}-efface"
        raise InputError(msg)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"output folder {out_dir} cannot be made ({error.strerror}): choose one you can write to"
        raise OutputError(msg) from error
    path = GroupPaths(out_dir).description
    if path.is_file() and "efface" not in path.read_text(encoding="utf-8", errors="replace"):
        msg = f"{out_dir} holds another data set (its dataset_description.json is not efface's): choose another folder"
        raise OutputError(msg)


def make_private_folder(out_dir: Path) -> None:
    """Make the folder for what shows an undefaced face, beside the output folder; only this user can open it.

    Raises
    ------
    OutputError
        If it cannot be made, or belongs to somebody else.
    """
    folder = private_folder(out_dir)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        is_private = make_private(folder)
    except OSError as error:
        msg = f"private folder {folder} cannot be made ({error.strerror}): choose another output folder, or leave out "
        raise OutputError(msg + "--keep-rescans") from error
    if not is_private:
        msg = f"{folder} is for undefaced scans, but is no folder of yours: remove it, or leave out --keep-rescans"
        raise OutputError(msg)


def remove_undefaced(out_dir: Path) -> int:
    """Remove undefaced scans that earlier versions left in the output folder, and return how many there were.

    Raises
    ------
    OutputError
        If one cannot be removed.
    """
    count = 0
    for pattern in ("sub-*/anat", "sub-*/ses-*/anat"):
        for folder in out_dir.glob(pattern):
            for path in sorted(map(folder.joinpath, os.listdir(folder))):  # noqa: PTH208 - names alone are faster
                if UNDEFACED.fullmatch(path.name):
                    _remove(path)
                    count += path.suffix != ".json"
    if count:
        log.warning("%d undefaced scans of an earlier version were removed from %s", count, out_dir.name)
    return count


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{path} shows an undefaced face and cannot be removed ({error.strerror}): remove it"
        raise OutputError(msg) from error


@contextlib.contextmanager
def only_run(out_dir: Path) -> Iterator[None]:
    """Lock an output folder against every other run.

    Raises
    ------
    OutputError
        If another run holds the lock, or the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(out_dir / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        msg = f"another efface study is writing to {out_dir}: wait until it has ended, or choose another folder"
        raise OutputError(msg) from error
    except NotImplementedError:
        log.warning("%s cannot be locked on this file system: make sure that no second study writes to it", out_dir)
    except OSError as error:
        raise cannot_write(out_dir / LOCK, error) from error
    try:
        yield
    finally:
        lock.release()


def out_dir_of(path: str | Path) -> Path:
    """Return a path as the output folder of an earlier run.

    Raises
    ------
    InputError
        If it is none.
    """
    folder = Path(path)
    description = GroupPaths(folder).description
    if not description.is_file():
        msg = f"{folder} is no study output: run `efface study BIDS {folder} participant` first"
        raise InputError(msg)
    if not isinstance(read_object(description).get("Efface"), dict):
        msg = f"{description} is not that of a study by efface: give the output folder of `efface study`"
        raise InputError(msg)
    return folder
