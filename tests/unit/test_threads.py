"""Calls beside others: where there is a core for them, with one core each, and their errors where they are asked for."""

import threading

import pytest
import torch

from efface._threads import alongside, default_threads, on_one_core


def here() -> tuple[int, int]:
    return threading.get_ident(), torch.get_num_threads()


def test_a_call_runs_in_a_thread_of_its_own_in_which_torch_has_one_core(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = torch.get_num_threads()
    thread, count = alongside(here).result()
    assert thread != threading.get_ident()
    assert count == 1
    assert torch.get_num_threads() == before


def test_a_call_is_made_at_once_where_there_is_one_core(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    begun = alongside(here)
    assert begun.done()
    assert begun.result()[0] == threading.get_ident()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_an_error_is_raised_where_the_result_is_asked_for(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    begun = alongside(int, "no number")
    with pytest.raises(ValueError, match="no number"):
        begun.result()


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("0", None), ("many", None), ("", None)])
def test_the_number_of_threads_is_what_the_environment_says(asked, expected, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert default_threads() == (expected or 7)


def test_the_calling_thread_has_one_core_for_a_while_and_new_threads_have_all():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        with on_one_core():
            seen.append(torch.get_num_threads())
            other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            other.start()
            other.join()
        seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 3, 3]
