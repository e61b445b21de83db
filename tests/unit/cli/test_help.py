"""Help of every command, and what it costs."""

import argparse
import importlib
import re
import subprocess
import sys

import pytest

from cli_runner import run
from efface.cli import build_parser
from efface.cli.main import COMMANDS
from efface.cli.train import TRAINERS

HEAVY = {"numpy", "torch", "nibabel", "SimpleITK", "pandas", "matplotlib", "scipy", "distributed"}


def test_the_parser_of_all_commands_imports_nothing_heavy():
    code = "import sys, efface.cli; efface.cli.build_parser(); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_the_contract_holds_these_commands():
    expected = {"deface", "segment", "compare", "qc", "audit", "study", "report", "review", "dataset", "demo", "methods"}
    expected |= {"train", "share", "privacy"}
    assert set(COMMANDS) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    code, said, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"usage: efface {command}" in said
    help_text = importlib.import_module(f"efface.cli.{command}").HELP
    assert " ".join(help_text.split())[1:] in " ".join(said.split())  # but for the capital at the beginning


NAMES = ("BIDS", "DICOM", "NIfTI", "MGH", "MRI", "JSON", "YAML", "T1w", "T2w", "MPRAGE", "FLAIR", "NITRC", "OASIS",
         "SLANT", "RAS", "PATH", "PyTorch", "SLURM", "Ctrl-C", "N4", "fMRIPrep")  # fmt: skip
"""How the field writes them; a lower-case ``slant`` is the name of the segmenter."""
WORD = re.compile(r"(?<![\w`/_.\-\"'])(?:" + "|".join(NAMES) + r")(?![\w`/_\-\"'])", re.IGNORECASE)
OTHERWISE = {"slant", "slurm"}


def texts(parser):
    """Every sentence of a parser and of the commands below it."""
    yield from filter(None, (parser.description, parser.epilog))
    for group in parser._action_groups:
        yield from filter(None, (group.title, group.description))
    for action in parser._actions:
        if action.help and action.help != argparse.SUPPRESS:
            yield action.help
        if isinstance(action, argparse._SubParsersAction):
            yield from filter(None, (one.help for one in action._choices_actions))
            for command in action.choices.values():
                yield from texts(command)


def misspelt(text):
    return [word for word in WORD.findall(text) if word not in NAMES and word not in OTHERWISE]


def test_no_help_text_changes_the_case_of_a_name(monkeypatch):
    parsers = [build_parser()]

    class Stop(Exception):
        pass

    def keep(parser, *_args, **_kwargs):
        parsers.append(parser)
        raise Stop

    monkeypatch.setattr("argparse.ArgumentParser.parse_args", keep)
    for name in TRAINERS:
        with pytest.raises(Stop):
            importlib.import_module(f"efface.training.{name}").main([])
    found = [text for parser in parsers for text in texts(parser)]
    assert len(found) > 150
    assert sum(bool(WORD.search(text)) for text in found) > 20
    assert [(text, misspelt(text)) for text in found if misspelt(text)] == []


def test_a_help_text_that_was_capitalised_is_noticed():
    assert misspelt("deface a whole BIDS data set (a BIDS App)".capitalize()) == ["bids", "bids"]
    assert misspelt('see `bids_dir` and {"t1w": 1}; a BIDS data set, T1w, the segmenter slant') == []


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
