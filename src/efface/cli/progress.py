"""Progress of long work: a bar with the time left on a terminal, plain lines otherwise."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from efface.study import Progress
from efface.study.executor import Outcome


@contextmanager
def show_progress(what: str = "scans") -> Iterator[Progress]:
    """Give an object to hand to `efface.study.Study.run`; `what` is counted."""
    if not sys.stderr.isatty():
        yield _Lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield _Bar(bars, what)


def _line(outcome: Outcome) -> str:
    state = f"{len(outcome.failures)} failed" if outcome.failures else "done" if outcome.computed else "up to date"
    return f"{outcome.name}: {state}"


class _Lines:
    def __init__(self, what: str) -> None:
        self.what, self.total, self.count = what, 0, 0

    def start(self, total: int) -> None:
        self.total = total
        sys.stderr.write(f"{total} {self.what}\n")

    def done(self, outcome: Outcome) -> None:
        self.count += 1
        sys.stderr.write(f"[{self.count}/{self.total}] {_line(outcome)}\n")
        sys.stderr.flush()


class _Bar:
    def __init__(self, bars: "object", what: str) -> None:
        from rich.progress import Progress as Bars

        assert isinstance(bars, Bars)
        self.bars = bars
        self.task = bars.add_task(what, total=None)

    def start(self, total: int) -> None:
        self.bars.update(self.task, total=total)

    def done(self, outcome: Outcome) -> None:
        self.bars.console.print(_line(outcome))
        self.bars.advance(self.task)
