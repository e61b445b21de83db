"""Where the workers of a study run: on this machine, on a running scheduler, or in the jobs of a batch system."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from efface.errors import ClusterError, InputError, MissingDependencyError
from efface.io.absent_content import check_content

MEMORY_GB = 3.0
"""Peak memory of one worker on a 1 mm scan."""
ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
BATCH_SYSTEMS = {"slurm": ("SLURMCluster", "sbatch"), "pbs": ("PBSCluster", "qsub"),
                 "sge": ("SGECluster", "qsub"), "lsf": ("LSFCluster", "bsub")}  # fmt: skip
CONNECT_S = 30.0
"""Time limit for a scheduler to answer."""
TERMINATE = 0.95
"""Share of its memory limit at which a worker is killed."""
QUIET: Mapping[str, Any] = {
    "distributed.scheduler.allowed-failures": 0,  # the executor decides what is tried again
    "distributed.scheduler.worker-saturation": 1.0,  # no task waits at a worker that may die
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": TERMINATE,
    "distributed.admin.tick.limit": "1h",  # do not warn on a busy machine
    "distributed.comm.timeouts.connect": "60s",
    "distributed.deploy.lost-worker-timeout": "1h",  # a worker may take long to start again on a busy machine
    "distributed.logging.distributed": "critical",
}
DASHBOARD = "127.0.0.1:0"
"""Where the dashboard is: on this machine only, on a free port."""
NO_PAGES: Mapping[str, Any] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""dask opens its web servers in any case; without a route they answer nothing but "not found"."""

log = logging.getLogger(__name__)


class Backend(Protocol):
    """A place where workers run."""

    def at_most(self, tasks: int) -> "Backend":
        """Return the same backend with no more workers than there are tasks."""

    def connect(self) -> "contextlib.AbstractContextManager[Any]":
        """Connect a dask client; workers that were started for it end with the context.

        Raises
        ------
        ClusterError
            If no scheduler answers.
        """


def default_jobs() -> int:
    """Number of workers that cores and free memory allow."""
    free_gb = _free_gb()
    return available_cores() if free_gb is None else max(1, min(available_cores(), int(free_gb / MEMORY_GB)))


def available_cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_gb() -> float | None:
    import psutil

    return float(psutil.virtual_memory().available) / 2**30


@dataclass(frozen=True)
class Local:
    """Workers on this machine, one scan each; other users cannot connect to them.

    Attributes
    ----------
    jobs
        Number of workers.
    memory_gb
        Memory of each worker, above which it is killed; None divides the free memory among them.
    dashboard
        Serve dask's dashboard on this machine. It has no password.
    """

    jobs: int
    memory_gb: float | None = None
    dashboard: bool = False

    def at_most(self, tasks: int) -> "Local":
        """Return the same backend with no more workers than there are tasks."""
        return replace(self, jobs=max(1, min(self.jobs, tasks)))

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        """Start the workers."""
        import dask
        import distributed

        threads = max(1, available_cores() // self.jobs)
        free_gb = _free_gb()
        memory_gb = self.memory_gb or max(MEMORY_GB, (free_gb or 0) / self.jobs)
        libraries = dict.fromkeys(ENVIRONMENT, str(threads))
        before = {name: os.environ.get(name) for name in libraries}
        config = {**QUIET, **_pages(dashboard=self.dashboard), "distributed.nanny.pre-spawn-environ": libraries}
        try:
            with dask.config.set(config), _quiet(), _scratch() as scratch:
                cluster = distributed.LocalCluster(
                    n_workers=self.jobs, threads_per_worker=1, processes=True, memory_limit=int(memory_gb * 2**30),
                    dashboard_address=DASHBOARD, scheduler_kwargs={"dashboard": self.dashboard},
                    silence_logs=logging.CRITICAL, host="127.0.0.1", security=True,
                    local_directory=str(scratch), worker_class=distributed.Nanny,
                )  # fmt: skip
                with cluster, distributed.Client(cluster, set_as_default=False) as client:
                    _prepare(client, threads)
                    _tell(client, dashboard=self.dashboard)
                    yield client
        finally:
            for name, value in before.items():  # dask sets them here so that new processes inherit them
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@dataclass(frozen=True)
class Remote:
    """The workers of a running scheduler.

    Attributes
    ----------
    address
        ``tcp://host:port``, or ``tls://host:port`` with certificates configured in dask.
    """

    address: str

    def at_most(self, tasks: int) -> "Remote":
        """Return itself: the workers run already."""
        return self

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        """Connect to the scheduler; wait up to `CONNECT_S` for it."""
        import dask
        import distributed

        with dask.config.set({"distributed.logging.distributed": "critical"}), _quiet():
            try:
                client = distributed.Client(self.address, timeout=CONNECT_S, set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                msg = f"no dask scheduler answers at {self.address}: start it, and run the same command again"
                raise ClusterError(msg) from error
            with client:
                _prepare(client)
                yield client


@dataclass(frozen=True)
class Batch:
    """Workers in the jobs of a batch system, which are submitted at the start and cancelled at the end.

    Attributes
    ----------
    system
        A name in `BATCH_SYSTEMS`.
    jobs
        Number of jobs to submit.
    options
        Options of dask-jobqueue: ``cores``, ``memory``, ``processes``, ``queue``, ``account``, ``walltime`` and so on.
    dashboard
        Serve dask's dashboard on this machine. It has no password.
    """

    system: str
    jobs: int
    options: Mapping[str, Any] = field(default_factory=dict)
    dashboard: bool = False

    def at_most(self, tasks: int) -> "Batch":
        """Return the same backend with no more jobs than there are tasks."""
        return replace(self, jobs=max(1, min(self.jobs, tasks)))

    @contextlib.contextmanager
    def connect(self) -> Iterator[Any]:
        """Submit the jobs."""
        import dask
        import dask_jobqueue
        import distributed

        kind, program = BATCH_SYSTEMS[self.system]
        if shutil.which(program) is None:
            msg = f"--cluster {self.system} needs {program} on PATH: run it where jobs are submitted"
            raise MissingDependencyError(msg)
        allowed = {
            **QUIET,
            **_pages(dashboard=self.dashboard),
            "distributed.scheduler.allowed-failures": 3,
        }  # jobs may be preempted
        with dask.config.set(allowed), _quiet():
            try:
                cluster = getattr(dask_jobqueue, kind)(**self._cluster_options())
            except (TypeError, ValueError) as error:
                msg = f"the batch jobs cannot be described ({error}): see --cluster-config in the documentation"
                raise InputError(msg) from error
            with cluster, distributed.Client(cluster, set_as_default=False) as client:
                cluster.scale(jobs=self.jobs)
                _prepare(client)
                _tell(client, dashboard=self.dashboard)
                yield client

    def _cluster_options(self) -> dict[str, Any]:
        """The user's options, with our limits of threads, and without web pages in the workers."""
        options = dict(self.options)
        threads = max(1, int(options.get("cores", 1)) // int(options.get("processes", 1)))
        exports = [f"export {name}={threads}" for name in (*ENVIRONMENT, "EFFACE_THREADS")]
        exports.append("export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'")
        options["job_script_prologue"] = [*options.get("job_script_prologue", ()), *exports]
        options["worker_extra_args"] = [*options.get("worker_extra_args", ()), "--nthreads", "1", "--no-dashboard"]
        scheduler = {"dashboard_address": DASHBOARD, **(options.get("scheduler_options") or {})}
        options["scheduler_options"] = {**scheduler, "dashboard": self.dashboard}
        return options


def backend_of(
    where: str | None,
    jobs: int | None = None,
    *,
    memory_gb: float | None = None,
    config: Path | None = None,
    dashboard: bool = False,
) -> Backend:
    """Make the backend that ``--cluster``, ``--jobs``, ``--memory``, ``--cluster-config``, ``--dashboard`` describe.

    Parameters
    ----------
    where
        Address of a scheduler, a name in `BATCH_SYSTEMS`, or None for this machine.
    jobs
        Number of workers, or of batch jobs.
    memory_gb
        Memory of each worker on this machine.
    config
        YAML file with options of dask-jobqueue.
    dashboard
        Serve dask's dashboard, without a password, on this machine.

    Raises
    ------
    InputError
        If one of them cannot be used, or they contradict each other.
    """
    if jobs is not None and jobs < 1:
        msg = f"--jobs must be 1 or more; received {jobs}"
        raise InputError(msg)
    if memory_gb is not None and not memory_gb > 0:
        msg = f"--memory must be more than 0 GB; received {memory_gb:g}"
        raise InputError(msg)
    if config is not None and where not in BATCH_SYSTEMS:
        msg = f"--cluster-config goes with --cluster {'|'.join(BATCH_SYSTEMS)}; received {where or 'none'}"
        raise InputError(msg)
    if where is None:
        return Local(jobs or default_jobs(), memory_gb, dashboard)
    if memory_gb is not None:
        msg = "--memory is for workers on this machine: say it where the cluster's workers are started"
        raise InputError(msg)
    if where in BATCH_SYSTEMS:
        return Batch(where, jobs or 1, _options(config) if config else {}, dashboard)
    if "://" not in where:
        msg = f"--cluster must be tcp://HOST:PORT, or one of {', '.join(BATCH_SYSTEMS)}; received {where}"
        raise InputError(msg)
    if jobs is not None:
        msg = f"--jobs is for workers that efface starts; those of {where} run already: leave it out"
        raise InputError(msg)
    if dashboard:
        msg = f"--dashboard is for a scheduler that efface starts; that of {where} runs already: leave it out"
        raise InputError(msg)
    return Remote(where)


def _options(path: Path) -> dict[str, Any]:
    import yaml

    check_content(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        msg = f"{path} cannot be read as YAML ({' '.join(str(error).split())[:120]}): the documentation has an example"
        raise InputError(msg) from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        msg = f"{path} must hold options of dask-jobqueue, one NAME: VALUE a line; the documentation has an example"
        raise InputError(msg)
    return content


def _prepare(client: Any, threads: int | None = None) -> None:
    from efface.study.worker import WorkerSetup

    client.register_plugin(WorkerSetup(threads))


def _pages(*, dashboard: bool) -> Mapping[str, Any]:
    return {} if dashboard else NO_PAGES


def _tell(client: Any, *, dashboard: bool) -> None:
    if dashboard:
        log.warning("dashboard, for everybody on this machine, without a password: %s", client.dashboard_link)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence dask's messages about workers: the executor reports what they mean for a scan."""
    logger = logging.getLogger("distributed")
    level, logger_level = logger.level, logging.CRITICAL + 1
    logger.setLevel(logger_level)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    from efface.io.scratch import private_temporary_folder

    with private_temporary_folder() as folder:
        yield folder
