"""Set-up of every worker process; imported only where dask runs."""

import contextlib
import os
import signal
import sys

from distributed import Worker, WorkerPlugin

from efface.study.backends import ENVIRONMENT

THREADS = "EFFACE_THREADS"
"""Environment variable: number of threads of a worker's libraries, where the command does not set it."""


class WorkerSetup(WorkerPlugin):  # type: ignore[misc]
    """Limits the threads of libraries; ignores Ctrl-C, which the command handles by ending the workers.

    Parameters
    ----------
    threads
        For torch, SimpleITK and greedy; None takes `THREADS` from the environment, or one.
    """

    name = "efface"

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def setup(self, worker: Worker) -> None:
        """Called by dask whenever a worker starts."""
        threads = self.threads or int(os.environ.get(THREADS, "1"))
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ.update(dict.fromkeys(ENVIRONMENT, str(threads)))  # read by libraries when they are first used
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        if "SimpleITK" in sys.modules:
            sys.modules["SimpleITK"].ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
