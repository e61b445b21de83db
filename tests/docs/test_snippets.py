"""The documentation shows commands and options that exist, and Python that runs."""

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest

import bids_dataset
import phantom
from efface.cli import build_parser
from efface.defacing import METHODS
from efface.errors import InputError
from efface.parameters import pairs_to_mapping, parse
from efface.segmentation import SEGMENTERS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"^(?:\s{4,}|\$ |\s*)(efface .*)$")


def commands(page):
    """Every line of a page's code blocks that calls efface, with its continuation lines, without comments."""
    lines = page.read_text(encoding="utf-8").splitlines()
    inside = False
    found, number = [], 0
    while number < len(lines):
        line = lines[number]
        if line.lstrip().startswith("```"):
            inside = not inside
        indented = line.startswith("    ") and not line.lstrip().startswith(("-", "*", "|", "1", "2", "3"))
        match = COMMAND.match(line) if inside or indented else None
        if match:
            text = match.group(1)
            while text.endswith("\\"):
                number += 1
                text = text[:-1] + lines[number].strip()
            found.append(text)
        number += 1
    return [words for text in found if (words := shlex.split(text, comments=True))[0] == "efface" and len(words) > 1]


def cases():
    return [(page.relative_to(ROOT).as_posix(), words) for page in PAGES for words in commands(page)]


CASES = cases()


def test_the_pages_hold_commands():
    """The tests below would pass on nothing."""
    assert len(CASES) > 60
    pages = {page for page, _ in CASES}
    assert {"README.md", "docs/getting-started/first-scan.md", "docs/methods/quickshear.md"} <= pages


@pytest.mark.parametrize(("page", "words"), CASES, ids=[f"{page}: {' '.join(words)[:60]}" for page, words in CASES])
def test_every_command_of_the_documentation_can_be_parsed(monkeypatch, page, words):
    parser = build_parser()
    if "--help" in words:
        assert words[1] in parser.format_help()
        return

    def fail(_parser, message):
        pytest.fail(f"{page}: {' '.join(words)}: {message}")

    monkeypatch.setattr(argparse.ArgumentParser, "error", fail)
    monkeypatch.setattr(type(parser), "error", fail)
    check_params(parser.parse_args(words[1:]))


def check_params(options: argparse.Namespace) -> None:
    """Parameters in the documentation exist and have values that are allowed."""
    pairs = getattr(options, "param", [])
    method = getattr(options, "method", None)
    if method is not None:
        spec = METHODS[method]
        is_native = getattr(options, "implementation", "native") == "native"
        params = spec.params if is_native else spec.external.params
        parse(params, pairs_to_mapping(pairs), what=method)
    elif pairs:
        segmenter = SEGMENTERS[options.segmenter or "slant"]
        parse(segmenter.params, pairs_to_mapping(pairs), what=segmenter.name)


def test_a_wrong_option_would_be_found():
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args(["deface", "a", "b", "--methd", "quickshear"])
    assert stop.value.code == 2
    with pytest.raises(InputError):
        check_params(build_parser().parse_args(["deface", "a", "b", "--method", "quickshear", "--param", "bufer=1"]))


def python_blocks(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/getting-started/first-scan.md", "docs/methods/quickshear.md", "docs/methods/pydeface.md"]
)
def test_python_of_the_first_pages_runs(tmp_path, monkeypatch, page):
    bids_dataset.stand_in(monkeypatch)
    for name in ("T1w.nii.gz", "sub-01_T1w.nii.gz"):
        phantom.write(tmp_path / name, "LPS")
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(page)
    assert blocks
    for block in blocks:
        code = block if "import efface" in block else f"import efface\n{block}"
        exec(compile(code, page, "exec"), {})


def test_python_of_the_study_page_runs(tmp_path, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    monkeypatch.setattr("efface.study.run._outcomes", lambda executor, jobs: (job.run() for job in jobs))
    bids_dataset.make(tmp_path / "BIDS", scans=("sub-01",))
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks("docs/getting-started/first-study.md")
    exec(compile(block, "first-study", "exec"), {})
    assert (tmp_path / "OUT" / "dataset_description.json").is_file()
    assert json.loads((tmp_path / "OUT" / "dataset_description.json").read_text())["Efface"]["Methods"] == [
        "quickshear",
        "pydeface",
    ]


def test_every_method_has_a_page_and_every_page_a_method():
    pages = {path.stem for path in (ROOT / "docs/methods").glob("*.md")} - {"index"}
    assert pages == set(METHODS)
