"""Tiny tasks that go wrong in every way a scan can; importable by worker processes, and light.

No task depends on how fast the machine is: tasks wait for events (a file appears, a signal arrives). The guards below
only end a test that hangs.
"""

import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from efface.errors import OutputError, StepTimeoutError
from efface.study.executor import Outcome
from efface.study.watchdog import stop_notes, time_limit

GUARD_S = 300.0
"""A task waits no longer than this for an event."""


def wait_for(path: Path) -> None:
    """Return when a file exists."""
    end = time.monotonic() + GUARD_S
    while not path.exists():
        if time.monotonic() > end:
            msg = f"{path} did not appear in {GUARD_S:.0f} s"
            raise TimeoutError(msg)
        time.sleep(0.01)


@dataclass(frozen=True)
class Failure:
    """Stands for a failed row."""

    reason: str


@dataclass(frozen=True)
class Fine:
    """Writes its name."""

    folder: Path
    name: str

    def run(self) -> Outcome:
        (self.folder / self.name).write_text(f"{self.name} {os.getpid()}")
        return Outcome(self.name, (), 1)

    def lost(self, reason: str) -> Outcome:
        (self.folder / f"{self.name}.lost").write_text(reason)
        return Outcome(self.name, (Failure(reason),), 0)

    def is_up_to_date(self) -> bool:
        return (self.folder / self.name).exists()

    def count_stopped(self) -> int:
        return len(stop_notes(self.folder, self.name))

    def times(self) -> int:
        """Count this run; returns how often it has run."""
        path = self.folder / f"{self.name}.runs"
        with path.open("a") as stream:
            stream.write("x")
        return path.stat().st_size


@dataclass(frozen=True)
class KilledOnce(Fine):
    def run(self) -> Outcome:
        if self.times() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run()


@dataclass(frozen=True)
class KilledAlways(Fine):
    def run(self) -> Outcome:
        self.times()
        os.kill(os.getpid(), signal.SIGKILL)
        return super().run()


@dataclass(frozen=True)
class Stumbles(Fine):
    def run(self) -> Outcome:
        return {}["no such thing"]


class Stubborn(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("stubborn")
        self.held = sys.stdout


@dataclass(frozen=True)
class StumblesBadly(Fine):
    def run(self) -> Outcome:
        raise Stubborn


@dataclass(frozen=True)
class Hungry(Fine):
    """Takes 1.3 GB and keeps it until it is killed."""

    def run(self) -> Outcome:
        self.times()
        held = [bytearray(os.urandom(1) * (64 * 2**20)) for _ in range(20)]
        wait_for(self.folder / "nothing writes this")
        return Outcome(f"{self.name} {len(held)}", (), 1)


@dataclass(frozen=True)
class HangsTwice(Fine):
    """Two steps hang in C code that never releases the interpreter; the third is done."""

    def run(self) -> Outcome:
        self.times()
        failures = []
        for step in ("first", "second"):
            try:
                with time_limit(1.0, self.folder / f".{self.name}_{step}_stopped.txt", step):
                    ctypes.PyDLL(None).sleep(int(GUARD_S))  # holds the interpreter's lock
            except StepTimeoutError as error:
                failures.append(Failure(str(error)))
        super().run()
        return Outcome(self.name, tuple(failures), 1)


@dataclass(frozen=True)
class CannotWrite(Fine):
    def run(self) -> Outcome:
        msg = f"no space left to write {self.folder}: free some disk space and run again"
        raise OutputError(msg)


@dataclass(frozen=True)
class Slow(Fine):
    """Takes longer than tasks that are sent to a worker in bundles."""

    seconds: float = 0.3

    def run(self) -> Outcome:
        self.times()
        time.sleep(self.seconds)
        return super().run()


@dataclass(frozen=True)
class Waits(Fine):
    """Is done when a file appears; says that it has begun."""

    for_file: str = "go"

    def run(self) -> Outcome:
        self.times()
        (self.folder / f"{self.name}.begun").touch()
        wait_for(self.folder / self.for_file)
        return super().run()


@dataclass(frozen=True)
class Threads(Fine):
    """Says how many threads its libraries may use."""

    def run(self) -> Outcome:
        (self.folder / self.name).write_text(os.environ["OMP_NUM_THREADS"])
        return Outcome(self.name, (), 1)
