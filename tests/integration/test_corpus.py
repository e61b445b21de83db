"""Hundreds of malformed and hostile inputs: one line, exit code 2 or a failed row, and nothing left behind."""

import contextlib
import io

import pytest

import bids_dataset
import corpus
import phantom
from efface.bids.query import T1wScan
from efface.cli import main
from efface.study import Settings
from efface.study.records import rows_to_tsv
from efface.study.scan_job import ScanJob


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return folder, corpus.write(folder / "inputs")


def run(*words):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), error.getvalue()


def refused(code, said, error):
    return code == 2 and said == "" and error.count("\n") == 1 and error[:-1].isprintable()


def test_there_are_more_than_two_hundred(inputs):
    assert len(inputs[1]) > 250


@pytest.mark.parametrize("command", ["deface", "segment"])
def test_a_bad_scan_ends_in_one_line_and_leaves_nothing(inputs, command, tmp_path):
    folder, cases = inputs
    before = sorted(folder.rglob("*"))
    wrong = {}
    for case in cases:
        result = run(command, case.path, tmp_path / "out.nii.gz")
        if not refused(*result):
            wrong[case.name] = result
    assert wrong == {}
    assert sorted(folder.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [True, False])
def test_a_bad_segmentation_ends_in_one_line(inputs, first, tmp_path):
    _, cases = inputs
    good = phantom.write(tmp_path / "good.nii.gz", "RAS", "uint8").path
    wrong = {}
    for case in cases:
        pair = (case.path, good) if first else (good, case.path)
        result = run("compare", *pair, "--out", tmp_path / "out.tsv", "--force")
        if not refused(*result) and not (case.labels and result[0] == 0):
            wrong[case.name] = result
    assert wrong == {}


def test_no_verdict_on_a_bad_scan_nor_against_one(inputs, tmp_path):
    _, cases = inputs
    good = phantom.write(tmp_path / "good.nii.gz", "RAS", "int16").path
    wrong = {}
    for number, case in enumerate(cases):  # both places read scans alike: every second one in each
        pair = (case.path, good) if number % 2 else (good, case.path)
        result = run("qc", *pair, "--json", tmp_path / "verdict.json")
        if not refused(*result):
            wrong[case.name] = result
    assert wrong == {}
    assert [p.name for p in tmp_path.iterdir()] == ["good.nii.gz"]


def test_in_a_study_every_bad_scan_is_a_row_with_one_line(inputs, tmp_path, monkeypatch, caplog):
    bids_dataset.stand_in(monkeypatch)
    folder, cases = inputs
    settings = Settings(folder, tmp_path / "out")
    wrong = {}
    for number, case in enumerate(cases):
        outcome = ScanJob(T1wScan(f"{number:03d}", None, f"sub-{number:03d}", case.path), settings).run()
        rows = rows_to_tsv(outcome.failures).decode().split("\n")
        if len(rows) != 3 or not rows[1].replace("\t", " ").isprintable() or outcome.failures[0].measure != "load":
            wrong[case.name] = outcome
    assert wrong == {}
    assert [m for m in caplog.messages if not m.isprintable()] == []
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
