"""Runs tasks in parallel, in processes of their own, and never loses one; knows nothing of what they do."""

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol

from efface.errors import OutputError
from efface.study.rows import Row

MEMORY_GB = 3.0
"""What one worker may need at its peak on a 1 mm scan."""
ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def default_jobs() -> int:
    """Workers that cores and free memory allow."""
    cores = available_cores()
    try:
        free_gb = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (ValueError, OSError):  # not told on this system
        return cores
    return max(1, min(cores, int(free_gb / MEMORY_GB)))


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    failures: tuple[Row, ...]
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


def run_tasks(tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Run every task, and give outcomes as they come; order depends on timing, results do not.

    A worker that dies (killed, out of memory) takes no other task with it: the tasks that were with it are tried
    again one by one, and one that kills its worker again is a failed row.

    Raises
    ------
    OutputError
        If results cannot be written; nothing more is started.
    """
    if not tasks:
        return
    suspects: list[Task] = []
    yield from _pool(tasks, jobs, suspects)
    for task in suspects:
        again: list[Task] = []
        yield from _pool([task], 1, again)
        if again:
            yield task.lost("the worker process died, probably for want of memory: try a smaller --jobs")


def _pool(tasks: Sequence[Task], jobs: int, suspects: list[Task]) -> Iterator[Outcome]:
    jobs = min(jobs, len(tasks))
    threads = max(1, available_cores() // max(1, jobs))
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(dict.fromkeys(ENVIRONMENT, str(threads)))  # spawned workers read it when they load libraries
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(threads,))
    try:
        futures: dict[Future[Outcome], Task] = {pool.submit(_run, task): task for task in tasks}
        for future in as_completed(futures):
            task = futures[future]
            try:
                yield future.result()
            except BrokenProcessPool:
                suspects.append(task)
            except OutputError:
                raise
            except Exception as error:  # a bug in one scan must not lose the others
                logging.getLogger(__name__).exception("%s: unexpected error", task.name)
                yield task.lost(f"unexpected {type(error).__name__}: {error}")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run(task: Task) -> Outcome:
    return task.run()


def _start_worker(threads: int) -> None:
    """Keep libraries that do not read the environment to their share of the cores."""
    import SimpleITK
    import torch

    torch.set_num_threads(threads)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
