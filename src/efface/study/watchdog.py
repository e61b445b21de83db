"""Time limit for a step of a scan; it holds even where a library hangs in C code and lets no other thread run."""

import contextlib
import faulthandler
import re
import time
from collections.abc import Iterator
from pathlib import Path

from efface.bids.derivatives import UnitPaths
from efface.errors import StepTimeoutError
from efface.io.atomic import cannot_write

ENDING = "_stopped.txt"


class StepTimer:
    """Measures the time of a scan's steps and stops those that exceed the limit.

    Parameters
    ----------
    paths
        Outputs of the scan; stop notes go into its folder.
    limit_s
        Time limit of each step, seconds.

    Attributes
    ----------
    seconds
        Duration of each completed step, by name.
    """

    def __init__(self, paths: UnitPaths, limit_s: float) -> None:
        self.paths, self.limit_s = paths, limit_s
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure and limit one step.

        Raises
        ------
        StepTimeoutError
            If an earlier process was stopped in this step.
        OutputError
            If the stop note cannot be written.
        """
        start = time.perf_counter()
        with time_limit(self.limit_s, self.paths.stopped(name), name):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 2)


@contextlib.contextmanager
def time_limit(seconds: float, path: Path, what: str) -> Iterator[None]:
    """End this process if a step exceeds its limit; the next process that reaches the step skips it.

    A thread that hangs inside a library cannot be interrupted; only ending its process stops it. A watchdog thread
    outside Python's control writes a traceback (the stop note) to `path` and ends the process. The executor runs the
    job again, and the step then fails with a reason.

    Parameters
    ----------
    seconds
        The limit.
    path
        Stop note of this step; it is removed when the step ends in time.
    what
        Name of the step, for the message.

    Raises
    ------
    StepTimeoutError
        At once, if `path` holds the note of an earlier process.
    OutputError
        If `path` cannot be written, or cannot be removed at the end.
    """
    trace = ""
    with contextlib.suppress(OSError):
        trace = path.read_text(encoding="utf-8", errors="replace")
    if trace:
        msg = f"{what} took more than {seconds:g} s and was stopped{_place(trace)}: give it more time (--step-limit)"
        raise StepTimeoutError(msg)
    try:
        stream = path.open("w", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with stream:
        faulthandler.dump_traceback_later(seconds, exit=True, file=stream)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            _forget(path)


def stop_notes(folder: Path, stem: str) -> list[Path]:
    """Notes of the steps of one scan that were stopped.

    Empty notes belong to steps under way and do not count; nor do notes of scans whose names begin with `stem`.

    Parameters
    ----------
    folder
        Folder of the scan's session.
    stem
        The scan's BIDS name up to its suffix.
    """
    with contextlib.suppress(OSError):
        return [path for path in _notes(folder, stem) if path.stat().st_size]
    return []


def remove_empty_notes(folder: Path, stem: str) -> None:
    """Remove notes of steps that were under way when an earlier process of one scan died, or could not write any more.

    No step of the scan may be under way. A step whose result was written already is not begun again, so that its note
    would stay for ever.

    Parameters
    ----------
    folder, stem
        As for `stop_notes`.
    """
    with contextlib.suppress(OSError):  # a folder that cannot be written to is said where something must be written
        for path in _notes(folder, stem):
            if not path.stat().st_size:
                path.unlink(missing_ok=True)


def _notes(folder: Path, stem: str) -> list[Path]:
    # A step's name is written in letters and digits only, so an entity (``acq-...``) is never taken for one.
    pattern = re.compile(rf"\.{re.escape(stem)}_[^\W_]+{re.escape(ENDING)}")
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # the folder has become read-only
        raise cannot_write(path, error) from error


def _place(trace: str) -> str:
    """Return the innermost function of efface in which the step hung, outside this package."""
    own = [line for line in trace.splitlines() if "/efface/" in line and "/study/" not in line]
    return f" in {own[0].rpartition(' in ')[2].strip()}" if own else ""
