"""The engine's hold on the standard output."""

import subprocess
import sys

import pytest

from efface._switch import SharedSwitch

PROGRAM = """
import os, threading
from efface.spatial._greedy import QUIET_STDOUT

inside, leave = threading.Barrier(2), threading.Event()

def first():
    with QUIET_STDOUT.on():
        inside.wait(30)
        leave.wait(30)

def second():
    with QUIET_STDOUT.on():
        inside.wait(30)
        os.write(1, b"noise of the engine")

threads = [threading.Thread(target=run) for run in (first, second)]
for thread in threads:
    thread.start()
threads[1].join(30)
os.write(1, b"still silent")
leave.set()
threads[0].join(30)
os.write(1, b"heard")
"""


def test_overlapping_registrations_give_the_standard_output_back():
    """Two threads that each save and restore it would leave it on the null device for good."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "heard"


def test_an_error_inside_restores_the_setting():
    state = ["before"]
    switch = SharedSwitch(lambda: state.append("changed") or "before", state.append)
    with pytest.raises(KeyError), switch.on():
        raise KeyError
    assert state == ["before", "changed", "before"]


def test_the_first_changes_and_the_last_restores():
    calls = []
    switch = SharedSwitch(lambda: calls.append("change") or 7, lambda before: calls.append(f"restore {before}"))
    with switch.on() as outer, switch.on() as inner:
        assert (outer, inner) == (7, 7)
        assert calls == ["change"]
    assert calls == ["change", "restore 7"]
