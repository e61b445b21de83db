"""The executor with real processes: a task that dies, hangs, raises or takes all memory affects no other task.

No assertion depends on how fast the machine is: tasks wait for each other through files.
"""

import os

import pytest

from efface.errors import OutputError
from efface.study import executor as module
from efface.study.backends import Local, available_cores, default_jobs
from efface.study.executor import Executor, run_tasks
from executor_tasks import (
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
    Waits,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def executor():
    with Executor(Local(2, memory_gb=0.6)) as executor:
        yield executor


@pytest.fixture(scope="module")
def faults(executor, tmp_path_factory):
    """Everything that can go wrong, among tasks that are fine; the folder, and outcomes by name."""
    folder = tmp_path_factory.mktemp("faults")
    bad = (KilledOnce, KilledAlways, Stumbles, StumblesBadly, Hungry, HangsTwice)
    tasks = [kind(folder, kind.__name__) for kind in bad]
    tasks += [Fine(folder, f"fine{i}") for i in range(20)]
    return folder, {outcome.name: outcome for outcome in executor.run(tasks)}


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
    assert "probably out of memory" in reason(outcomes["Hungry"])


def test_an_unexpected_error_is_a_row_with_its_name(faults):
    _, outcomes = faults
    assert "unexpected KeyError: 'no such thing'" in reason(outcomes["Stumbles"])
    assert "Stubborn: stubborn" in reason(outcomes["StumblesBadly"])


def test_steps_that_hang_in_c_code_are_stopped_and_the_others_done(faults):
    folder, outcomes = faults
    words = [failure.reason for failure in outcomes["HangsTwice"].failures]
    assert [word.split(" was stopped")[0] for word in words] == [
        "first took more than 1 s and",
        "second took more than 1 s and",
    ]
    assert (folder / "HangsTwice").is_file()
    assert (folder / "HangsTwice.runs").read_text() == "xxx"


def test_after_all_that_the_workers_are_well(executor, faults, tmp_path):
    outcomes = list(executor.run([Fine(tmp_path, f"again{i}") for i in range(300)]))
    assert len({outcome.name for outcome in outcomes}) == 300
    assert all(outcome.computed == 1 for outcome in outcomes)


def test_slow_tasks_among_quick_ones_run_once(executor, tmp_path):
    tasks = [Slow(tmp_path, f"slow{i}") for i in range(8)]
    assert len(list(executor.run([*[Fine(tmp_path, f"quick{i}") for i in range(50)], *tasks]))) == 58
    assert all((tmp_path / f"slow{i}.runs").read_text() == "x" for i in range(8))


def test_two_tasks_run_at_the_same_time(executor, tmp_path):
    """Each is done only when the other has begun."""
    executor._connected().wait_for_workers(2)
    tasks = [Waits(tmp_path, "one", for_file="two.begun"), Waits(tmp_path, "two", for_file="one.begun")]
    outcomes = list(executor.run(tasks))
    assert sorted((outcome.name, outcome.failures) for outcome in outcomes) == [("one", ()), ("two", ())]
    assert len({(tmp_path / name).read_text().split()[1] for name in ("one", "two")}) == 2


def test_a_worker_returns_the_tasks_that_it_has_not_begun_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    tasks = tuple(Fine(tmp_path, f"fine{i}") for i in range(3))
    bundles = module._Bundles(iter(tasks))
    bundles.size = 3
    (bundle,) = bundles.take(1)
    bundles.flying["future"] = bundle
    result = module._run(bundle)
    assert [outcome.name for outcome in bundles.came_back("future", result)] == ["fine0"]
    assert list(bundles.rest()) == list(tasks[1:])


def test_what_cannot_be_written_ends_the_run(executor, tmp_path):
    with pytest.raises(OutputError, match="no space left"):
        list(executor.run([CannotWrite(tmp_path, "full"), *[Fine(tmp_path, f"fine{i}") for i in range(5)]]))


def test_threads_of_libraries_share_the_cores(executor, tmp_path):
    list(executor.run([Threads(tmp_path, "threads")]))
    assert (tmp_path / "threads").read_text() == str(max(1, available_cores() // 2))


def test_nothing_to_do_starts_no_worker(monkeypatch):
    monkeypatch.setattr(Local, "connect", lambda self: pytest.fail("a worker was started"))
    assert list(run_tasks([], 2)) == []


def test_jobs_are_at_least_one_and_at_most_the_cores():
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)
