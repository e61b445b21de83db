"""What is done once in every worker process; imported only where dask runs."""

import contextlib
import os
import signal
import sys

from distributed import Worker, WorkerPlugin

ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
THREADS = "EFFACE_THREADS"
"""Environment variable: threads that the libraries of a worker may use, where the command does not say it."""


class WorkerSetup(WorkerPlugin):  # type: ignore[misc]
    """Keep libraries to their share of the cores; leave Ctrl-C to the command, which then ends the workers.

    Parameters
    ----------
    threads
        For torch, SimpleITK and greedy; None takes what the environment says, or one.
    """

    name = "efface"

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def setup(self, worker: Worker) -> None:
        """Called by dask when a worker starts, and when it starts again."""
        threads = self.threads or int(os.environ.get(THREADS, "1"))
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ.update(dict.fromkeys(ENVIRONMENT, str(threads)))  # read by libraries when they are first used
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
        if "SimpleITK" in sys.modules:
            sys.modules["SimpleITK"].ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
