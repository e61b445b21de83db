"""The engine with real processes: what dies, hangs, stumbles or eats the memory takes nothing else with it."""

import os

import pytest

from efface.errors import OutputError
from efface.study.backends import Local, available_cores, default_jobs
from efface.study.executor import Engine, run_tasks
from engine_tasks import (
    CannotWrite,
    Fine,
    HangsTwice,
    Hungry,
    KilledAlways,
    KilledOnce,
    Slow,
    Stumbles,
    StumblesBadly,
    Threads,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine():
    with Engine(Local(2, memory_gb=0.6)) as engine:
        yield engine


@pytest.fixture(scope="module")
def faults(engine, tmp_path_factory):
    """Everything that can go wrong, among tasks that are fine; the folder, and outcomes by name."""
    folder = tmp_path_factory.mktemp("faults")
    bad = (KilledOnce, KilledAlways, Stumbles, StumblesBadly, Hungry, HangsTwice)
    tasks = [kind(folder, kind.__name__) for kind in bad]
    tasks += [Fine(folder, f"fine{i}") for i in range(20)]
    return folder, {outcome.name: outcome for outcome in engine.run(tasks)}


def reason(outcome) -> str:
    (failure,) = outcome.failures
    return failure.reason


def test_every_task_has_one_outcome_and_what_is_fine_is_done(faults):
    folder, outcomes = faults
    assert len(outcomes) == 26
    for i in range(20):
        assert outcomes[f"fine{i}"].failures == ()
        assert (folder / f"fine{i}").is_file()


def test_another_worker_finishes_what_a_killed_one_had(faults):
    folder, outcomes = faults
    assert outcomes["KilledOnce"].failures == ()
    assert (folder / "KilledOnce").is_file()
    assert (folder / "KilledOnce.runs").read_text() == "xx"


def test_what_kills_every_worker_is_a_row_after_two_tries(faults):
    folder, outcomes = faults
    assert "the worker process died twice" in reason(outcomes["KilledAlways"])
    assert (folder / "KilledAlways.runs").read_text() == "xx"
    assert (folder / "KilledAlways.lost").is_file()


def test_a_worker_beyond_its_memory_is_ended_and_the_row_says_so(faults):
    _, outcomes = faults
    assert "probably for want of memory" in reason(outcomes["Hungry"])


def test_an_unexpected_error_is_a_row_with_its_name(faults):
    _, outcomes = faults
    assert "unexpected KeyError: 'no such thing'" in reason(outcomes["Stumbles"])
    assert "Stubborn: stubborn" in reason(outcomes["StumblesBadly"])


def test_steps_that_hang_in_c_code_are_stopped_and_the_others_done(faults):
    folder, outcomes = faults
    words = [failure.reason for failure in outcomes["HangsTwice"].failures]
    assert [word.split(":")[0] for word in words] == [
        "first took more than 1 s and was stopped",
        "second took more than 1 s and was stopped",
    ]
    assert (folder / "HangsTwice").is_file()
    assert (folder / "HangsTwice.runs").read_text() == "xxx"


def test_after_all_that_the_workers_are_well(engine, faults, tmp_path):
    outcomes = list(engine.run([Fine(tmp_path, f"again{i}") for i in range(300)]))
    assert len({outcome.name for outcome in outcomes}) == 300
    assert all(outcome.computed == 1 for outcome in outcomes)


def test_a_slow_task_runs_once_and_beside_another(engine, tmp_path):
    engine._connected().wait_for_workers(2)
    tasks = [Slow(tmp_path, f"slow{i}") for i in range(8)]
    assert len(list(engine.run([*[Fine(tmp_path, f"quick{i}") for i in range(50)], *tasks]))) == 58
    assert all((tmp_path / f"slow{i}.runs").read_text() == "x" for i in range(8))
    assert len({(tmp_path / f"slow{i}").read_text().split()[1] for i in range(8)}) == 2


def test_what_cannot_be_written_ends_the_run(engine, tmp_path):
    with pytest.raises(OutputError, match="no space left"):
        list(engine.run([CannotWrite(tmp_path, "full"), *[Fine(tmp_path, f"fine{i}") for i in range(5)]]))


def test_threads_of_libraries_share_the_cores(engine, tmp_path):
    list(engine.run([Threads(tmp_path, "threads")]))
    assert (tmp_path / "threads").read_text() == str(max(1, available_cores() // 2))


def test_nothing_to_do_starts_no_worker(monkeypatch):
    monkeypatch.setattr(Local, "connect", lambda self: pytest.fail("a worker was started"))
    assert list(run_tasks([], 2)) == []


def test_jobs_are_at_least_one_and_at_most_the_cores():
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)
