"""Private folders for temporary files that show a face; leftovers of killed runs are removed at the next start.

All of them lie in ``efface-UID`` in the temporary folder, which only this user can open. Each is locked while it is in
use. The system frees the lock of a process that ends, so a folder that can be locked is a dead run's.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_RUN, _LOCK = "run-", ".lock"


@contextlib.contextmanager
def private_temporary_folder() -> Iterator[Path]:
    """Give a new folder that only this user can open; it is removed at the end, or, after a kill, by `clean_up`."""
    from filelock import FileLock

    root = _root()
    place = root or Path(tempfile.mkdtemp(prefix="efface-"))
    descriptor, name = tempfile.mkstemp(prefix=_RUN, suffix=_LOCK, dir=place)
    os.close(descriptor)
    lock, folder = Path(name), Path(name.removesuffix(_LOCK))
    try:
        with FileLock(lock):  # before the folder is there, so that no run can take it for a dead run's
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.unlink(missing_ok=True)
        if root is None:
            shutil.rmtree(place, ignore_errors=True)


def clean_up() -> int:
    """Remove what dead runs of this user left in private folders, and say how many there were."""
    root = _root(make=False)
    if root is None:
        return 0
    left = {root / entry.name.removesuffix(_LOCK) for entry in os.scandir(root) if entry.name.startswith(_RUN)}
    return sum(_removed(folder) for folder in left) if left else 0


def _removed(folder: Path) -> bool:
    from filelock import FileLock, Timeout

    lock = folder.with_name(folder.name + _LOCK)
    try:
        with FileLock(lock, timeout=0):
            there = folder.is_dir()
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
            return there and not folder.exists()
    except (Timeout, OSError):  # in use, or gone meanwhile
        return False


def _root(*, make: bool = True) -> Path | None:
    """The folder of all private folders; None where it does not exist, or is not this user's."""
    root = Path(tempfile.gettempdir(), f"efface-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
    if make:
        with contextlib.suppress(FileExistsError):
            root.mkdir(mode=0o700)
    try:
        return root if make_private(root) else None
    except OSError:
        return None


def make_private(folder: Path) -> bool:
    """Close a folder to everybody else; false where it is no folder of this user.

    Raises
    ------
    OSError
        If it does not exist or cannot be changed.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        return False
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    return True
