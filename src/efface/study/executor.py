"""Run tasks in parallel worker processes; every task ends with an outcome, whatever happens to its worker.

dask.distributed runs the workers, on this machine or on a cluster (`efface.study.backends`). The policy is here: how
many tasks are submitted at once, which are tried again, and which are given up with a reason.
"""

import contextlib
import itertools
import logging
import math
import pickle
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from efface.bids.shareable import without_paths
from efface.errors import ClusterError, OutputError
from efface.study.backends import Backend, Local, available_cores, default_jobs

if TYPE_CHECKING:
    from efface.study.records import Row

__all__ = ["Executor", "Outcome", "Task", "available_cores", "default_jobs", "run_tasks"]

AHEAD, AT_LEAST = 3, 8
"""Bundles submitted for each worker, and in all: few, so that the scheduler's memory does not grow with a study."""
ATTEMPTS = 4
"""Attempts to reconnect to a lost scheduler; each takes half a minute."""
COUNT_S = 10.0
"""Interval at which workers are counted; on a cluster they come and go."""
MOST_AT_ONCE, QUICK_S, PATIENCE_S = 64, 0.02, 0.5
"""Most tasks in a bundle; duration below which a task counts as quick; time after which a worker reports back."""
LOST = "the worker process died twice, probably out of memory: try a smaller --jobs, or more --memory"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Result of one task.

    Attributes
    ----------
    name
        Name of the task.
    failures
        Its failed rows.
    computed
        Number of computed steps; 0 when everything was there from an earlier run.
    """

    name: str
    failures: tuple["Row", ...]
    computed: int


class Task(Protocol):
    """An independent piece of work: it can be pickled and writes its own results to disk."""

    @property
    def name(self) -> str:
        """Name for progress and messages, for example the scan's name."""

    def run(self) -> Outcome:
        """Do what is missing.

        Raises
        ------
        OutputError
            If results cannot be written. Every other expected error is a row with a reason.
        """

    def lost(self, reason: str) -> Outcome:
        """Write the failed row of a task whose process died or that raised an unexpected error."""

    def is_up_to_date(self) -> bool:
        """Whether there is nothing to do; must be cheap: it is asked of every task of a study."""

    def count_stopped(self) -> int:
        """Count the steps that were stopped because they took too long; the next run skips them."""


class Executor:
    """Runs tasks on workers, which start with the first task and end with the context.

    Parameters
    ----------
    backend
        Where the workers are: `efface.study.backends`.

    Examples
    --------
    >>> with Executor(Local(2)) as executor:  # doctest: +SKIP
    ...     outcomes = list(executor.run(tasks))
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._stack = contextlib.ExitStack()
        self._client: Any = None
        self._count, self._counted = 0, -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Run every task and yield outcomes as they arrive; their order depends on timing, their content does not.

        A worker that dies (killed, out of memory, stopped in a step that took too long) affects no other task. Its
        tasks are tried again at the end, one at a time; a task whose worker dies again becomes a failed row.

        Raises
        ------
        OutputError
            If results cannot be written; no further task is started.
        ClusterError
            If there are no workers, or the scheduler is lost and does not come back.
        """
        suspects: list[Task] = []
        yield from self._pass(iter(tasks), suspects)
        for task in suspects:
            tries, again = 1, [task]
            while again and tries <= 1 + task.count_stopped():
                again, tries = [], tries + 1
                yield from self._pass(iter([task]), again)
            if again:
                yield task.lost(LOST)

    def _pass(self, tasks: Iterator[Task], suspects: list[Task]) -> Iterator[Outcome]:
        """Run tasks; one that ran alone on a worker that died is added to `suspects`."""
        import distributed

        bundles = _Bundles(tasks)
        if not bundles.more():
            return
        done = distributed.as_completed(self._submit(bundles), loop=self._connected().loop)
        for batch in done.batches():
            gone = False
            for future in batch:
                try:
                    result = future.result()
                except CancelledError:
                    gone = True
                except distributed.KilledWorker:
                    if len(bundles.flying[future]) > 1:  # run each alone to find the one that killed the worker
                        bundles.give_back(future, alone=True)
                    else:
                        suspects.extend(bundles.flying.pop(future))
                else:
                    yield from bundles.came_back(future, result)
            if gone:
                for future in list(bundles.flying):  # the scheduler is lost, and with it all submitted tasks
                    bundles.give_back(future)
                self._reconnect()
                yield from self._pass(bundles.rest(), suspects)
                return
            done.update(self._submit(bundles))

    def _submit(self, bundles: "_Bundles") -> list[Any]:
        chunk = bundles.take(max(AT_LEAST, AHEAD * self._workers()) - len(bundles.flying))
        if not chunk:
            return []
        futures: list[Any] = self._connected().map(_run, chunk, pure=False, key="efface")
        bundles.flying.update(zip(futures, chunk, strict=True))
        return futures

    def _workers(self) -> int:
        if time.monotonic() - self._counted > COUNT_S:
            self._count, self._counted = len(self._connected().nthreads()), time.monotonic()
        return self._count

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._stack.enter_context(self.backend.connect())
        return self._client

    def _reconnect(self) -> None:
        log.warning("the connection to the scheduler was lost; trying to reach it again")
        self._stack.close()
        self._client = None
        for attempt in range(ATTEMPTS):
            try:
                self._connected()
            except ClusterError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return


def _failed(task: Task, error: BaseException) -> Outcome:
    """Return the outcome of a task that raised an error; an error that ends the whole run is raised again."""
    if isinstance(error, OutputError | ClusterError):
        raise error
    trace = without_paths("".join(traceback.format_exception(error)))
    log.error("%s: unexpected error\n%s", task.name, trace)  # a bug in one scan must not lose the others
    return task.lost(f"unexpected {type(error).__name__}: {error}")


def run_tasks(tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Run every task on this machine; see `Executor.run`."""
    with Executor(Local(max(1, min(jobs, len(tasks))))) as executor:
        yield from executor.run(tasks)


class _Bundles:
    """Groups tasks into bundles: one task each while tasks are slow, many while most have nothing to do.

    A message to a worker and back costs more than a task that finds everything done. So bundles grow while tasks are
    quick, and a worker returns the tasks that it has not started within `PATIENCE_S`.
    """

    def __init__(self, tasks: Iterator[Task]) -> None:
        self.tasks, self.size = tasks, 1
        self.alone: list[Task] = []
        self.flying: dict[Any, tuple[Task, ...]] = {}

    def more(self) -> bool:
        """Whether a task is left."""
        first = next(self.tasks, None)
        if first is not None:
            self.tasks = itertools.chain([first], self.tasks)
        return first is not None or bool(self.alone)

    def take(self, most: int) -> list[tuple[Task, ...]]:
        """Take at most so many bundles."""
        taken: list[tuple[Task, ...]] = []
        while len(taken) < most:
            bundle = (self.alone.pop(),) if self.alone else tuple(itertools.islice(self.tasks, self.size))
            if not bundle:
                break
            taken.append(bundle)
        return taken

    def came_back(self, future: Any, result: "tuple[list[Outcome], list[BaseException], float]") -> Iterator[Outcome]:
        """Yield the outcomes of a bundle; tasks that its worker did not start are queued again."""
        tasks = self.flying.pop(future)
        outcomes, errors, seconds = result
        yield from outcomes
        for error in errors:
            yield _failed(tasks[len(outcomes)], error)
        done = len(outcomes) + len(errors)
        self.tasks = itertools.chain(tasks[done:], self.tasks)
        self.size = min(MOST_AT_ONCE, 2 * self.size) if seconds / max(1, done) < QUICK_S else 1

    def give_back(self, future: Any, *, alone: bool = False) -> None:
        """Queue the tasks of a bundle again."""
        tasks = self.flying.pop(future)
        if alone:
            self.alone.extend(tasks)
        else:
            self.tasks = itertools.chain(tasks, self.tasks)

    def rest(self) -> Iterator[Task]:
        """All tasks that are left."""
        return itertools.chain(self.alone, self.tasks)


_ONE = threading.Lock()


def _run(tasks: tuple[Task, ...]) -> tuple[list[Outcome], list[BaseException], float]:
    """Run tasks until one raises or `PATIENCE_S` is over; return outcomes, the error of the next task, and seconds."""
    outcomes: list[Outcome] = []
    with _ONE:  # a worker with several threads would run several scans in one process
        start = time.perf_counter()
        for task in tasks:
            try:
                outcomes.append(task.run())
            except Exception as error:  # noqa: BLE001 - the executor decides what it means
                return outcomes, [_portable(error)], time.perf_counter() - start
            if time.perf_counter() - start > PATIENCE_S:
                break
        return outcomes, [], time.perf_counter() - start


def _portable(error: Exception) -> Exception:
    """Return the error, or one with the same text where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever it is, its text is kept
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
