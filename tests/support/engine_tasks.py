"""Tiny tasks that go wrong in every way a scan can; importable by worker processes, and light."""

import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from efface.errors import OutputError, StepTimeoutError
from efface.study.executor import Outcome
from efface.study.watchdog import stopped, time_limit


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

    def up_to_date(self) -> bool:
        return (self.folder / self.name).exists()

    def stopped(self) -> int:
        return len(stopped(self.folder, self.name))

    def times(self) -> int:
        """How often it has run."""
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
    def run(self) -> Outcome:
        self.times()
        held = []
        for _ in range(60):
            held.append(bytearray(os.urandom(1) * (64 * 2**20)))
            time.sleep(0.05)
        return super().run()


@dataclass(frozen=True)
class HangsTwice(Fine):
    """Two steps hang in C code that never lets go of the interpreter; the third is done."""

    def run(self) -> Outcome:
        self.times()
        failures = []
        for step in ("first", "second"):
            try:
                with time_limit(1.0, self.folder / f".{self.name}_{step}_stopped.txt", step):
                    ctypes.PyDLL(None).sleep(120)
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
    seconds: float = 0.3

    def run(self) -> Outcome:
        self.times()
        time.sleep(self.seconds)
        return super().run()


@dataclass(frozen=True)
class Threads(Fine):
    """Says how many threads its libraries may use."""

    def run(self) -> Outcome:
        (self.folder / self.name).write_text(os.environ["OMP_NUM_THREADS"])
        return Outcome(self.name, (), 1)
