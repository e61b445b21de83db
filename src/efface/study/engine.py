"""Runs units in parallel, in processes of their own, and never loses one."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from efface.dataset import Source
from efface.errors import OutputError
from efface.files import write_atomically
from efface.paths import UnitPaths
from efface.study.rows import rows_to_tsv
from efface.study.settings import Settings
from efface.study.unit import Outcome, failed_row, run_unit

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


Work = Callable[[Source, Settings], Outcome]


def run_units(sources: Sequence[Source], settings: Settings, jobs: int, work: Work = run_unit) -> Iterator[Outcome]:
    """Run every unit, and give outcomes as they come; order depends on timing, results do not.

    A worker that dies (killed, out of memory) takes no other unit with it: the units that were with it are tried
    again one by one, and one that kills its worker again is a failed row.

    Raises
    ------
    OutputError
        If results cannot be written; nothing more is started.
    """
    suspects: list[Source] = []
    yield from _pool(sources, settings, jobs, work, suspects)
    for source in suspects:
        again: list[Source] = []
        yield from _pool([source], settings, 1, work, again)
        if again:
            yield _record(source, settings, "the worker process died, probably for want of memory: try a smaller --jobs")


def _pool(
    sources: Sequence[Source], settings: Settings, jobs: int, work: Work, suspects: list[Source]
) -> Iterator[Outcome]:
    threads = max(1, available_cores() // max(1, jobs))
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(dict.fromkeys(ENVIRONMENT, str(threads)))  # spawned workers read it when they load libraries
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(threads,))
    try:
        futures: dict[Future[Outcome], Source] = {pool.submit(work, s, settings): s for s in sources}
        for future in as_completed(futures):
            source = futures[future]
            try:
                yield future.result()
            except BrokenProcessPool:
                suspects.append(source)
            except OutputError:
                raise
            except Exception as error:  # a bug in one scan must not lose the others
                logging.getLogger(__name__).exception("%s: unexpected error", source.stem)
                yield _record(source, settings, f"unexpected {type(error).__name__}: {error}")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker(threads: int) -> None:
    """Keep libraries that do not read the environment to their share of the cores."""
    import SimpleITK
    import torch

    torch.set_num_threads(threads)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _record(source: Source, settings: Settings, reason: str) -> Outcome:
    row = failed_row(source, settings, "unit", reason)
    paths = UnitPaths(settings.out_dir, source.subject, source.session, source.stem)
    paths.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(paths.results, rows_to_tsv([row]), force=True)
    return Outcome(source, (row,), 0)
