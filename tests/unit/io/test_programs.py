"""Programs are found on PATH, then beside the interpreter, whether its environment is activated or not."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from efface.io.programs import beside_interpreter, find_program, search_path


def install(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder on PATH, the folder of the interpreter, and the folder of its scripts."""
    on_path, beside, scripts = (tmp_path / name for name in ("path", "python", "scripts"))
    monkeypatch.setenv("PATH", str(on_path))
    monkeypatch.setattr("sys.executable", str(beside / "python"))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(scripts))
    return on_path, beside, scripts


def test_path_comes_first_then_the_interpreter_then_its_scripts(places):
    assert find_program("quickshear") is None
    for folder in reversed(places):
        path = install(folder, "quickshear")
        assert find_program("quickshear") == path
    assert search_path() == os.pathsep.join(map(str, places))


def test_a_path_is_taken_as_it_is(places, tmp_path):
    path = install(tmp_path / "elsewhere", "quickshear")
    install(places[0], "quickshear")
    assert find_program(path) == path
    assert find_program(tmp_path / "missing" / "quickshear") is None


def test_what_cannot_be_run_is_no_program(places):
    install(places[1], "quickshear").chmod(0o644)
    assert find_program("quickshear") is None


def test_an_embedded_interpreter_has_its_scripts_only(places, monkeypatch):
    monkeypatch.setattr("sys.executable", "")
    assert beside_interpreter() == (places[2],)


@pytest.mark.skipif(os.name != "posix", reason="the layout of POSIX")
def test_methods_by_full_path_from_an_environment_that_is_not_activated(tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    path = install(tmp_path / "env" / "bin", "quickshear")
    done = subprocess.run(
        [str(tmp_path / "env/bin/python"), "-m", "efface.cli", "methods"],
        env={"PATH": os.devnull, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True, text=True, check=True, cwd=Path.cwd(),
    )  # fmt: skip
    assert f"original  at {path}" in done.stdout
