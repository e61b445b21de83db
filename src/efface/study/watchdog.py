"""A time limit for a step of a scan, which holds even where a library hangs in C code and lets nothing else run."""

import contextlib
import faulthandler
from collections.abc import Iterator
from pathlib import Path

from efface.errors import StepTimeoutError
from efface.io.atomic import cannot_write

ENDING = "_stopped.txt"


@contextlib.contextmanager
def time_limit(seconds: float, path: Path, what: str) -> Iterator[None]:
    """End this process where the step is not done in time; the next process that comes to the step leaves it out.

    Nothing short of the end of its process stops a thread that hangs in a library. A watchdog outside Python's control
    writes to `path` where the step hung, and ends the process; the engine then runs the task again, and the step fails
    with a reason.

    Parameters
    ----------
    seconds
        The limit.
    path
        Where it is written; not there when the step ends in time.
    what
        The step's name.

    Raises
    ------
    StepTimeoutError
        At once, where `path` says that the step was stopped before.
    OutputError
        If `path` cannot be written, or not be removed at the end.
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


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # the folder became read-only meanwhile
        raise cannot_write(path, error) from error


def _place(trace: str) -> str:
    """Where in efface it hung: the innermost of our own functions, not of this machinery."""
    own = [line for line in trace.splitlines() if "/efface/" in line and "/study/" not in line]
    return f" in {own[0].rpartition(' in ')[2].strip()}" if own else ""


def stopped(folder: Path, stem: str) -> list[Path]:
    """The traces of a scan's steps that were stopped; others' steps, and steps under way, do not count."""
    with contextlib.suppress(OSError):
        return [path for path in folder.glob(f".{stem}_*{ENDING}") if path.stat().st_size]
    return []
