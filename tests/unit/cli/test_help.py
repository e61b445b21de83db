"""Help of every command, and what it costs."""

import importlib
import subprocess
import sys

import pytest

from cli_runner import run
from efface.cli import build_parser
from efface.cli.main import COMMANDS

HEAVY = {"numpy", "torch", "nibabel", "SimpleITK", "pandas", "matplotlib", "scipy", "distributed"}


def test_the_parser_of_all_commands_imports_nothing_heavy():
    code = "import sys, efface.cli; efface.cli.build_parser(); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_the_contract_holds_these_commands():
    expected = {"deface", "segment", "compare", "qc", "study", "report", "review", "dataset", "demo", "methods", "train"}
    assert set(COMMANDS) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    code, said, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"usage: efface {command}" in said
    help_text = importlib.import_module(f"efface.cli.{command}").HELP
    assert " ".join(help_text.split()).lower() in " ".join(said.split()).lower()


def test_the_list_of_commands_has_a_line_for_each(capsys):
    code, said, _ = run(capsys, "--help")
    assert code == 0
    assert "Exit codes:" in said
    for command in COMMANDS:
        assert f"\n    {command} " in said


def test_every_option_has_help():
    parser = build_parser()
    commands = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    for name, command in commands.choices.items():
        undescribed = [a.dest for a in command._actions if not a.help and a.dest != "out_dir"]
        assert not undescribed, name


@pytest.mark.parametrize("what", ["slant", "defacer", "priors"])
def test_training_commands_say_what_they_want(capsys, what):
    code, said, _ = run(capsys, "train", what, "--help")
    assert code == 0
    assert f"efface train {what}" in said


def test_python_m_efface_cli_is_the_command():
    done = subprocess.run([sys.executable, "-m", "efface.cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("efface ")
