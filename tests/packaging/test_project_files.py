"""Citation, extras, links, containers: what a newcomer meets first is right."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from efface import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_citation_file_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["preferred-citation"]["doi"] == "10.1117/12.2613175"
    assert {"message", "title", "authors"} <= set(citation)


def test_every_extra_that_is_named_exists():
    named = set(re.findall(r"efface\[([a-z,]+)\]|'\.\[([a-z]+)\]'", (ROOT / "README.md").read_text(encoding="utf-8")))
    extras = set(PROJECT["project"]["optional-dependencies"])
    assert {one for pair in named for one in pair if one} <= extras


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_into_the_repository_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        if not target.startswith(("http", "#")):
            assert (ROOT / target.partition("#")[0]).exists(), target


def test_every_package_is_in_a_layer():
    """An exhaustive contract: a new package without a place in the layers fails `make layers`."""
    (contract,) = PROJECT["tool"]["importlinter"]["contracts"]
    assert contract["exhaustive"] is True
    named = {name.strip(" ()") for layer in contract["layers"] for name in re.split(r"[|:]", layer)}
    there = {p.stem if p.is_file() else p.name for p in (ROOT / "src/efface").iterdir() if not p.name.startswith("__")}
    assert there - {"data", "py", "py.typed"} - {"py"} <= named | {"py"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/data", "/out", "participant"], "study /data /out participant"),
        (["/data", "/out", "group", "--include-originals"], "study /data /out group --include-originals"),
        (["study", "/data", "/out", "participant"], "study /data /out participant"),
        (["deface", "a.nii", "b.nii"], "deface a.nii b.nii"),
        (["--help"], "--help"),
        ([], ""),
    ],
)
def test_the_entry_point_of_the_containers_takes_commands_and_bids_app_arguments(tmp_path, words, expected):
    program = tmp_path / "efface"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", str(ROOT / "containers/entrypoint.sh"), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_containers_copy_files_that_are_there():
    recipe = (ROOT / "containers/Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.*)$", recipe, flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
