"""A process-wide setting that several threads may change at the same time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

State = TypeVar("State")


class SharedSwitch(Generic[State]):
    """Changes a setting of the whole process while anyone needs it changed.

    The first thread that enters changes the setting, and the last one that leaves restores it. Saving and restoring
    in every thread would restore what another thread had changed.

    Parameters
    ----------
    change
        Changes the setting, and returns its state before.
    restore
        Sets the state again.
    """

    def __init__(self, change: Callable[[], State], restore: Callable[[State], None]) -> None:
        self._change, self._restore = change, restore
        self._lock = threading.Lock()
        self._users = 0
        self._before: State | None = None

    @contextmanager
    def on(self) -> Iterator[State]:
        """Keep the setting changed; gives the state before the first change."""
        with self._lock:
            if self._users == 0:
                self._before = self._change()
            self._users += 1
            before = self._before
        assert before is not None
        try:
            yield before
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._restore(before)
