"""How many threads to use, and calls that run beside others where there is a core for them."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def default_threads() -> int:
    """Threads to use: what ``OMP_NUM_THREADS`` says, as for every other library here, else all cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else os.cpu_count() or 1


def alongside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
    """Begin a call in a thread of its own, in which torch uses one core; with one core for all, make the call now.

    Returns
    -------
    concurrent.futures.Future
        Its result, or the error that it ended with, which is raised where the result is asked for.
    """
    if default_threads() < 2:
        return made_now(lambda: function(*args, **kwargs))
    pool = ThreadPoolExecutor(1)
    begun = pool.submit(_on_one_core, lambda: function(*args, **kwargs))
    pool.shutdown(wait=False)
    return begun


def made_now(call: Callable[[], T]) -> "Future[T]":
    """Make a call; an error is raised where the result is asked for."""
    made: Future[T] = Future()
    try:
        made.set_result(call())
    except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
        made.set_exception(error)
    return made


def _on_one_core(call: Callable[[], T]) -> T:
    use_one_core(cores())
    return call()


@contextmanager
def on_one_core() -> Iterator[None]:
    """Let torch use one core in the calling thread, while other threads use the others."""
    before = cores()
    use_one_core(before)
    try:
        yield
    finally:
        _set_threads(before)


def cores() -> int:
    """Torch's number of threads in the calling thread."""
    import torch

    with _THREAD_COUNT:  # while another thread is limited to one core, a new thread would take that for the default
        return torch.get_num_threads()


_THREAD_COUNT = threading.Lock()


def use_one_core(default: int) -> None:
    """Limit torch to one core in the calling thread only.

    `torch.set_num_threads` also sets the number that other threads start with. Another thread sets that back to
    `default` at once: every thread but this one keeps its number, also when several are limited at the same time.
    """
    import torch

    with _THREAD_COUNT:
        torch.get_num_threads()  # a thread takes the default at its first torch call, which must not come later
        torch.set_num_threads(1)
        other = threading.Thread(target=torch.set_num_threads, args=(default,))
        other.start()
        other.join()


def _set_threads(count: int) -> None:
    import torch

    with _THREAD_COUNT:
        torch.set_num_threads(count)
