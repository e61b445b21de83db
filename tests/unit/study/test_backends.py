"""A scheduler and workers that run by themselves, killed and started again; batch jobs of a stand-in for SLURM."""

import contextlib
import http.client
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from efface.errors import ClusterError
from efface.study.backends import Batch, Local, Remote
from efface.study.executor import Executor
from executor_tasks import Fine, Slow, Threads, Waits

pytestmark = pytest.mark.slow


class Dask:
    """A scheduler and a worker, as `docs/how-to/cluster.md` starts them."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        worker = ["worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        for words in (scheduler, worker):
            command = [sys.executable, "-m", "dask", *words]
            self.running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def kill(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()
        self.running.clear()


@pytest.fixture
def dask(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))  # workers import the tests' tasks
    dask = Dask()
    dask.start()
    yield dask
    dask.kill()


def test_a_scheduler_killed_and_started_again_loses_nothing(dask, tmp_path):
    tasks = [Slow(tmp_path, f"slow{i}") for i in range(12)]
    done = []
    with Executor(Remote(dask.address)) as executor:
        for outcome in executor.run(tasks):
            done.append(outcome.name)
            if len(done) == 3:
                dask.kill()
                dask.start()
    assert sorted(done) == sorted(task.name for task in tasks)
    assert all((tmp_path / name).is_file() for name in done)


def test_a_scheduler_that_stays_away_ends_the_run_in_one_line(dask, tmp_path, monkeypatch):
    monkeypatch.setattr("efface.study.backends.CONNECT_S", 20.0)
    with Executor(Remote(dask.address)) as executor:
        outcomes = executor.run([Fine(tmp_path, "first"), *[Waits(tmp_path, f"waits{i}") for i in range(12)]])
        assert next(outcomes).name == "first"
        dask.kill()
        monkeypatch.setattr("efface.study.backends.CONNECT_S", 0.5)
        with pytest.raises(ClusterError, match=f"no dask scheduler answers at {dask.address}"):
            list(outcomes)
    assert not any((tmp_path / f"waits{i}").exists() for i in range(12))


PAGES = ("", "status", "info/main/workers.html", "json/counts.json", "metrics", "health", "sitemap")


def listening():
    """Ports of this process and of the ones it started."""
    this = psutil.Process()
    connections = [c for one in (this, *this.children(recursive=True)) for c in one.net_connections("tcp")]
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}


def answered(ports):
    """Every page of dask that a program on this machine gets there."""
    found = set()
    for port in ports:
        for page in PAGES:
            with contextlib.suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=60).close()
                found.add(page)
    return found


def test_no_page_of_dask_is_served_unless_asked_for(caplog):
    with Local(1).connect():
        ports = listening()
        assert ports
        assert answered(ports) == set()
    assert caplog.text == ""
    with Local(1, dashboard=True).connect() as client:
        assert {"info/main/workers.html", "json/counts.json"} <= answered(listening())
        assert f"without a password: {client.dashboard_link}" in caplog.text


SBATCH = """#!{python}
import subprocess, sys
from pathlib import Path
here = Path(__file__).parent
job = subprocess.Popen(["bash", sys.argv[-1]], stdout=open(here / "job.log", "wb"), stderr=subprocess.STDOUT)
(here / "script").write_text(Path(sys.argv[-1]).read_text())
(here / "pids").open("a").write(f"{{job.pid}} ")
print("Submitted batch job", job.pid)
"""
SCANCEL = """#!/bin/bash
kill -TERM "$@"
"""


def test_batch_jobs_are_asked_for_used_and_cancelled(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH.format(python=sys.executable)), ("scancel", SCANCEL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    options = {"cores": 2, "processes": 1, "memory": "2GB", "walltime": "00:10:00", "interface": "lo"}
    with Executor(Batch("slurm", 1, {**options, "python": sys.executable})) as executor:
        outcomes = list(executor.run([Threads(tmp_path, "threads"), *[Fine(tmp_path, f"fine{i}") for i in range(5)]]))
        assert answered([urlsplit(executor._client.dashboard_link).port]) == set()
    assert len(outcomes) == 6
    assert (tmp_path / "threads").read_text() == "2"
    script = (programs / "script").read_text()
    assert "#SBATCH --mem=2G" in script
    assert "--nthreads 1 --no-dashboard" in script
    assert "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'" in script
    for pid in (programs / "pids").read_text().split():
        subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60, check=True)  # the job has ended
        assert not Path(f"/proc/{pid}/stat").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
