"""Runs tasks in parallel, in processes of their own, and never loses one; knows nothing of what they do.

dask.distributed does the work, on this machine or on a cluster (`efface.study.backends`). The policy is here: how many
tasks are in flight, what is tried again, and what is given up with a reason.
"""

import contextlib
import itertools
import logging
import math
import pickle
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from efface.errors import ClusterError, OutputError
from efface.study.backends import Cluster, Local, available_cores, default_jobs

if TYPE_CHECKING:
    from efface.study.records import Row

__all__ = ["Engine", "Outcome", "Task", "available_cores", "default_jobs", "run_tasks"]

AHEAD, AT_LEAST = 3, 8
"""Messages on their way for each worker, and in all: so few that the scheduler's memory does not grow with a study."""
ATTEMPTS = 4
"""How often a scheduler that is gone is looked for; each takes half a minute."""
COUNT_S = 10.0
"""How often workers are counted; on a cluster they come and go."""
MOST_AT_ONCE, QUICK_S, PATIENCE_S = 64, 0.02, 0.5
"""Tasks of one message to a worker; below this many seconds a task counts as quick; when a worker reports back."""
LOST = "the worker process died twice, probably for want of memory: try a smaller --jobs, or more --memory"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    Attributes
    ----------
    name
        The task's.
    failures
        Its failed rows.
    computed
        How many steps were computed; 0 when everything was there from an earlier run.
    """

    name: str
    failures: tuple["Row", ...]
    computed: int


class Task(Protocol):
    """One piece of work that stands alone: picklable, and written to disk by itself."""

    @property
    def name(self) -> str:
        """What to call it, for example the scan's name."""

    def run(self) -> Outcome:
        """Do what is missing.

        Raises
        ------
        OutputError
            If results cannot be written. Everything else that goes wrong is a row with a reason.
        """

    def lost(self, reason: str) -> Outcome:
        """Write the row of a task that could not say itself what went wrong."""

    def up_to_date(self) -> bool:
        """Whether there is nothing to do; cheap, as it is asked of every task of a study."""

    def stopped(self) -> int:
        """How many steps were stopped for taking too long, and will be left out when it runs again."""


class Engine:
    """Workers, started when the first task comes and ended with the context.

    Parameters
    ----------
    cluster
        Where the workers are: `efface.study.backends`.

    Examples
    --------
    >>> with Engine(Local(2)) as engine:  # doctest: +SKIP
    ...     outcomes = list(engine.run(tasks))
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
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
        """Run every task, and give outcomes as they come; order depends on timing, results do not.

        A worker that dies (killed, out of memory, stopped in a step that took too long) takes no other task with it.
        What was with it is tried again at the end, one task at a time; what kills its worker again is a failed row.

        Raises
        ------
        OutputError
            If results cannot be written; nothing more is started.
        ClusterError
            If there are no workers, or the scheduler is gone and does not come back.
        """
        suspects: list[Task] = []
        yield from self._pass(iter(tasks), suspects)
        for task in suspects:
            tries, again = 1, [task]
            while again and tries <= 1 + task.stopped():
                again, tries = [], tries + 1
                yield from self._pass(iter([task]), again)
            if again:
                yield task.lost(LOST)

    def _pass(self, tasks: Iterator[Task], suspects: list[Task]) -> Iterator[Outcome]:
        """Run tasks; those that alone went down with a worker are put into `suspects`."""
        import distributed

        bundles = _Bundles(tasks)
        if not bundles.more():
            return
        done = distributed.as_completed(self._submit(bundles), loop=self._connected().loop)
        for batch in done.batches():
            gone = False
            for future in batch:
                try:
                    result = future.result()  # computed again where it went down with its worker
                except CancelledError:
                    gone = True
                except distributed.KilledWorker:
                    if len(bundles.flying[future]) > 1:  # which of them it was shows when each runs alone
                        bundles.give_back(future, alone=True)
                    else:
                        suspects.extend(bundles.flying.pop(future))
                else:
                    yield from bundles.came_back(future, result)
            if gone:
                for future in list(bundles.flying):  # the scheduler is gone, and with it all it was given
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
            self._client = self._stack.enter_context(self.cluster.connect())
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
    """The row of a task that raised an error; what ends the whole run is raised again."""
    if isinstance(error, OutputError | ClusterError):
        raise error
    log.error("%s: unexpected error", task.name, exc_info=error)  # a bug in one scan must not lose the others
    return task.lost(f"unexpected {type(error).__name__}: {error}")


def run_tasks(tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Run every task on this machine; see `Engine.run`."""
    with Engine(Local(max(1, min(jobs, len(tasks))))) as engine:
        yield from engine.run(tasks)


class _Bundles:
    """Tasks on their way: single where a task takes its time, many at once where most have nothing to do.

    A message to a worker and back costs more than a task that finds everything done; so a worker that is quick gets more
    at once, and gives back what it does not manage in `PATIENCE_S`.
    """

    def __init__(self, tasks: Iterator[Task]) -> None:
        self.tasks, self.size = tasks, 1
        self.alone: list[Task] = []
        self.flying: dict[Any, tuple[Task, ...]] = {}

    def more(self) -> bool:
        """Whether there is a task to take."""
        first = next(self.tasks, None)
        if first is not None:
            self.tasks = itertools.chain([first], self.tasks)
        return first is not None or bool(self.alone)

    def take(self, most: int) -> list[tuple[Task, ...]]:
        """At most so many bundles."""
        taken: list[tuple[Task, ...]] = []
        while len(taken) < most:
            bundle = (self.alone.pop(),) if self.alone else tuple(itertools.islice(self.tasks, self.size))
            if not bundle:
                break
            taken.append(bundle)
        return taken

    def came_back(self, future: Any, result: "tuple[list[Outcome], list[BaseException], float]") -> Iterator[Outcome]:
        """Outcomes of a bundle; what its worker did not come to is taken again."""
        tasks = self.flying.pop(future)
        outcomes, errors, seconds = result
        yield from outcomes
        for error in errors:
            yield _failed(tasks[len(outcomes)], error)
        done = len(outcomes) + len(errors)
        self.tasks = itertools.chain(tasks[done:], self.tasks)
        self.size = min(MOST_AT_ONCE, 2 * self.size) if seconds / max(1, done) < QUICK_S else 1

    def give_back(self, future: Any, *, alone: bool = False) -> None:
        """Take a bundle's tasks again."""
        tasks = self.flying.pop(future)
        if alone:
            self.alone.extend(tasks)
        else:
            self.tasks = itertools.chain(tasks, self.tasks)

    def rest(self) -> Iterator[Task]:
        """Everything that is left."""
        return itertools.chain(self.alone, self.tasks)


_ONE = threading.Lock()


def _run(tasks: tuple[Task, ...]) -> tuple[list[Outcome], list[BaseException], float]:
    """Run tasks until one fails, or patience ends; outcomes, the error of the next task, and seconds."""
    outcomes: list[Outcome] = []
    with _ONE:  # a worker with several threads would run several scans in one process
        start = time.perf_counter()
        for task in tasks:
            try:
                outcomes.append(task.run())
            except Exception as error:  # noqa: BLE001 - the engine says what it means
                return outcomes, [_portable(error)], time.perf_counter() - start
            if time.perf_counter() - start > PATIENCE_S:
                break
        return outcomes, [], time.perf_counter() - start


def _portable(error: Exception) -> Exception:
    """The error, or one of the same words where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever it is, its words are kept
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
