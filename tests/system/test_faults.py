"""A study that is killed, runs on a full or read-only disk, or is started twice: no result is lost or incomplete."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import bids_dataset
from efface.bids.query import find_scans
from efface.cli.main import main
from efface.cli.options import USAGE
from efface.errors import ClusterError, InputError, OutputError, StepTimeoutError
from efface.io.atomic import LEFTOVER
from efface.study import Settings, Study, collect
from efface.study.backends import Batch, Local, Remote, backend_of
from efface.study.output_folder import only_run
from efface.study.records import read_table
from efface.study.scan_job import ScanJob
from efface.study.watchdog import stop_notes, time_limit
from killed import is_killed

METHODS = ("quickshear", "defacer")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two scans, two methods, run in this process: other processes do not have the stand-ins for slow steps."""
    bids_dataset.stand_in(monkeypatch)
    monkeypatch.setattr("efface.study.run._outcomes", lambda _executor, jobs: (job.run() for job in jobs))
    root = bids_dataset.make(tmp_path / "bids", ("sub-01/ses-1", "sub-02/ses-1"))
    return Study(Settings(root, tmp_path / "out", METHODS, rescan="none"))


def again(study: Study, out_dir: Path) -> Study:
    return Study(Settings(study.settings.bids_dir, out_dir, METHODS, rescan="none"))


def files(folder: Path) -> dict[Path, bytes]:
    """Everything a study wrote but its timing; names from the folder on."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.endswith(("_timing.json", ".lock")))
    return {path.relative_to(folder): path.read_bytes() for path in found}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_twenty_moments_ends_with_the_bytes_of_one_that_was_not(study, tmp_path):
    whole = again(study, tmp_path / "whole")
    whole.run()
    whole.tables()
    rng = random.Random(7)
    kills = sum(is_killed(rng.randint(1, 9), bids_dataset.run_study, study.settings) for _ in range(20))
    assert kills == 20
    assert any(LEFTOVER.fullmatch(path.name) for path in study.settings.out_dir.rglob(".*"))
    study.run()
    study.tables()
    assert files(study.settings.out_dir) == files(tmp_path / "whole")


def test_a_second_run_on_the_same_folder_is_refused_in_one_line(study, tmp_path, capsys):
    study.run()
    before = files(study.settings.out_dir)
    holds = (
        "import sys; from pathlib import Path; from efface.study.output_folder import only_run\n"
        "with only_run(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", holds, str(study.settings.out_dir)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            options = ["--methods", ",".join(METHODS), "--rescan", "none", "--header", "keep"]
            code = main(["study", str(study.settings.bids_dir), str(study.settings.out_dir), "participant", *options])
            said = capsys.readouterr().err
            assert code == USAGE
            assert "another efface study is writing to" in said
            assert said.count("\n") == 1
        finally:
            other.kill()
    assert files(study.settings.out_dir) == before
    with only_run(study.settings.out_dir):  # a killed run holds nothing
        pass


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(["mount", *options], capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_disk_the_run_ends_in_one_line_and_goes_on_when_there_is_room(study, small_disk, tmp_path):
    here = again(study, small_disk / "out")
    (small_disk / "ballast").write_bytes(bytes(900 * 1024))
    with pytest.raises(OutputError, match=r"no space left to write .*: free some disk space and run again"):
        here.run()
    assert not [path for path in small_disk.rglob(".*") if LEFTOVER.fullmatch(path.name)]
    (small_disk / "ballast").unlink()
    here.run()
    study.run()
    found, expected = (files(one.settings.out_dir) for one in (here, study))
    links = [json.loads(one.pop(Path("dataset_description.json")))["DatasetLinks"] for one in (found, expected)]
    assert found == expected
    assert links == [{"raw": "../../bids"}, {"raw": "../bids"}]


def test_a_folder_that_becomes_read_only_ends_the_run_and_loses_nothing(study, small_disk, monkeypatch):
    here = again(study, small_disk / "out")
    first, second = find_scans(here.settings.bids_dir)
    ScanJob(first, here.settings).run()
    before = files(here.settings.out_dir)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for attempt in (here.run, lambda: ScanJob(second, here.settings).run()):
        with pytest.raises(OutputError, match="is read-only: choose a folder you can write to"):
            attempt()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert files(here.settings.out_dir) == before
    assert here.run().computed == 1
    assert len(here.tables().failures) == 0


def test_a_folder_that_becomes_read_only_in_the_middle_of_a_step_is_said_in_one_line(small_disk):
    def step():
        with time_limit(60, small_disk / ".a_step_stopped.txt", "step"):
            subprocess.run(["mount", "--bind", str(small_disk), str(small_disk)], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", str(small_disk)], check=True)

    try:
        with pytest.raises(OutputError, match="is read-only: choose a folder you can write to"):
            step()
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)


def test_a_corrupt_scan_amid_a_cohort_is_a_row_and_all_others_are_done(study):
    path = find_scans(study.settings.bids_dir)[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    summary = study.run()
    assert [row.scan for row in summary.failures] == ["sub-01_ses-1"]
    assert set(study.tables().dice.scan) == {"sub-02_ses-1"}


def test_a_finished_scan_job_is_known_without_opening_its_scan(study, monkeypatch):
    study.run()
    jobs = [ScanJob(source, study.settings) for source in find_scans(study.settings.bids_dir)]
    monkeypatch.setattr("efface.study.job.load_scan", lambda path: pytest.fail("a scan was opened"))
    assert all(job.is_up_to_date() for job in jobs)
    other = Settings(study.settings.bids_dir, study.settings.out_dir, METHODS, rescan="none", header="keep")
    assert not ScanJob(jobs[0].source, other).is_up_to_date()
    jobs[0].paths.mask("quickshear").unlink()
    assert not jobs[0].is_up_to_date()
    path = jobs[1].source.path
    os.utime(path, ns=(0, 1))
    assert not jobs[1].is_up_to_date()


def test_a_touched_scan_is_read_once_more_and_nothing_is_computed(study):
    study.run()
    source = find_scans(study.settings.bids_dir)[0]
    os.utime(source.path, ns=(0, 1))
    assert ScanJob(source, study.settings).run().computed == 0
    assert ScanJob(source, study.settings).is_up_to_date()


def test_a_step_that_was_stopped_is_a_row_and_its_trace_goes(study):
    source = find_scans(study.settings.bids_dir)[0]
    job = ScanJob(source, study.settings)
    job.paths.folder.mkdir(parents=True)
    trace = '  File "/x/efface/deface/quickshear.py", line 7 in plan\n  File "/x/efface/study/unit.py", line 9 in run\n'
    job.paths.stopped("deface quickshear").write_text(trace)
    assert len(stop_notes(job.paths.folder, source.stem)) == 1
    (failure,) = ScanJob(source, study.settings).run().failures
    assert failure.method == "quickshear"
    assert failure.reason.startswith("deface quickshear took more than 7200 s and was stopped in plan")
    assert stop_notes(job.paths.folder, source.stem) == []
    assert ScanJob(source, study.settings).run().failures == ()


def test_the_trace_of_a_neighbour_whose_name_begins_alike_is_left_alone(study):
    source = find_scans(study.settings.bids_dir)[0]
    job, neighbour = ScanJob(source, study.settings), replace(source, stem=f"{source.stem}_acq-mprage")
    job.paths.folder.mkdir(parents=True)
    trace = ScanJob(neighbour, study.settings).paths.stopped("deface quickshear")
    trace.write_text("a traceback")
    assert (job.count_stopped(), ScanJob(neighbour, study.settings).count_stopped()) == (0, 1)
    assert job.run().failures == ()
    assert trace.is_file()


def test_a_step_in_time_leaves_no_trace(tmp_path):
    with time_limit(60, tmp_path / ".a_step_stopped.txt", "step"):
        assert stop_notes(tmp_path, "a") == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".a_step_stopped.txt").write_text("hung")
    with (
        pytest.raises(StepTimeoutError, match="step took more than 60 s"),
        time_limit(60, tmp_path / ".a_step_stopped.txt", "step"),
    ):
        pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"where": None, "jobs": 0}, "--jobs must be 1 or more"),
        ({"where": None, "memory_gb": -1}, "--memory must be more than 0"),
        ({"where": "moon"}, "--cluster must be tcp://HOST:PORT, or one of slurm, pbs, sge, lsf; received moon"),
        ({"where": "tcp://h:1", "jobs": 2}, "--jobs is for workers that efface starts"),
        ({"where": "tcp://h:1", "dashboard": True}, "--dashboard is for a scheduler that efface starts"),
        ({"where": "slurm", "memory_gb": 3}, "--memory is for workers on this machine"),
        ({"where": None, "config": Path("x.yaml")}, "--cluster-config goes with --cluster slurm"),
        ({"where": "slurm", "config": Path("missing.yaml")}, "missing.yaml cannot be read as YAML"),
    ],
)
def test_words_about_clusters_that_do_not_go_together_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        backend_of(**words)


def test_words_about_clusters_mean_what_they_say(tmp_path):
    config = tmp_path / "slurm.yaml"
    config.write_text("cores: 4\nprocesses: 2\nmemory: 8GB\n")
    assert backend_of(None, 3, memory_gb=2) == Local(3, 2)
    assert backend_of("tcp://h:1") == Remote("tcp://h:1")
    made = backend_of("slurm", 5, config=config)
    assert made == Batch("slurm", 5, {"cores": 4, "processes": 2, "memory": "8GB"})
    assert made.at_most(2).jobs == 2
    assert [backend_of(where, 1, dashboard=True).dashboard for where in (None, "slurm")] == [True, True]
    config.write_text("- a list")
    with pytest.raises(InputError, match="must hold options of dask-jobqueue"):
        backend_of("slurm", config=config)


def test_a_scheduler_that_is_not_there_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr("efface.study.backends.CONNECT_S", 0.5)
    with (
        pytest.raises(ClusterError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"),
        Remote("tcp://127.0.0.1:9").connect(),
    ):
        pass


def test_tables_of_a_killed_run_are_those_of_its_finished_scans(study):
    ScanJob(find_scans(study.settings.bids_dir)[0], study.settings).run()
    collect(study.settings.out_dir)
    assert set(read_table(study.settings.out_dir / "dice.tsv").scan) == {"sub-01_ses-1"}
