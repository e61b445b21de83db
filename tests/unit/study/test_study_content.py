"""The group level counts what belongs to the study now, says what it left out, and counts failed runs as Failure I."""

import logging
from dataclasses import replace

import pytest

import study_results
from efface.bids.derivatives import GroupPaths
from efface.errors import InputError
from efface.review.cases import find_cases
from efface.study import Settings, collect, load_tables, provenance
from efface.study.quality_tables import write_quality
from efface.study.ratings import Rating, append_rating
from efface.study.records import OK
from efface.study.rescan_job import GROUPS_KEY, RESCAN_GROUPS
from efface.study.session_pairs import SessionPair
from efface.study.study_content import (
    EARLIER_IMAGE,
    EARLIER_VERDICT,
    EXCHANGED,
    NO_MEASURE,
    NO_METHOD,
    NO_PAIR,
    NO_RESCANS,
    NO_SCAN,
    NO_SEGMENTER,
    OTHER_IMPLEMENTATION,
    OTHER_SETTINGS,
    UNFINISHED,
)

METHODS = ("quickshear", "pydeface")


@pytest.fixture(autouse=True)
def no_statistics(monkeypatch):
    """They have tests of their own, and cost most of the time."""
    monkeypatch.setattr("efface.study.tables.compute_statistics", lambda dice, *_others: dice.head(0))


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "bids").mkdir()
    return Settings(tmp_path / "bids", tmp_path / "out", METHODS)


@pytest.fixture
def scans(settings):
    """Two scans with results."""
    found = [study_results.source(settings, subject, "1") for subject in ("01", "02")]
    for scan in found:
        study_results.write(settings, scan)
    study_results.record(settings, found)
    return found


def left_out(tables, what="results"):
    rows = tables.left_out[tables.left_out.what == what]
    return set(rows[["scan", "method", "reason"]].itertuples(index=False, name=None))


def row(tables, method="all", source="automatic"):
    return tables.table1.set_index(["method", "source"]).loc[(method, source)]


def test_everything_of_the_study_is_counted_and_nothing_is_left_out(settings, scans):
    tables = collect(settings.out_dir)
    assert (len(tables.dice), len(tables.edits), len(tables.quality)) == (4, 4, 4)
    assert tables.left_out.empty
    assert load_tables(settings.out_dir).left_out.empty


def test_a_scan_that_is_not_in_the_study_any_more_is_left_out_and_said(settings, scans, caplog):
    study_results.record(settings, scans[:1])
    with caplog.at_level(logging.WARNING):
        tables = collect(settings.out_dir)
    for frame in (tables.dice, tables.edits, tables.quality):
        assert set(frame.scan) == {"sub-01_ses-1"}
    assert row(tables).scans == 2
    assert left_out(tables) == {("sub-02_ses-1", "", NO_SCAN)}
    assert left_out(tables, "verdict") == {("sub-02_ses-1", method, NO_SCAN) for method in METHODS}
    assert "left out: verdict of 1 scans, the first sub-02_ses-1 (the scan is not in the study any more)" in caplog.text
    assert len(load_tables(settings.out_dir).left_out) == 3


def test_a_method_that_is_not_run_any_more_is_left_out(settings, scans):
    study_results.record(replace(settings, methods=("pydeface",)), scans)
    tables = collect(settings.out_dir)
    for frame in (tables.dice, tables.edits, tables.quality, tables.table1[tables.table1.method != "all"]):
        assert set(frame.method) == {"pydeface"}
    expected = {(scan.stem, "quickshear", NO_METHOD) for scan in scans}
    assert left_out(tables) == left_out(tables, "verdict") == expected


@pytest.mark.parametrize(
    ("change", "reason", "methods"),
    [
        ({"protect_brain": True}, OTHER_SETTINGS, METHODS),
        ({"method_params": {"quickshear": {"buffer": 2.0}}}, OTHER_SETTINGS, ("quickshear",)),
        ({"originals": ("pydeface",)}, OTHER_IMPLEMENTATION, ("pydeface",)),
    ],
)
def test_results_of_other_settings_are_left_out(settings, scans, change, reason, methods):
    """The second scan was run again, with new settings."""
    new = replace(settings, **change)
    study_results.write(new, scans[1])
    study_results.record(new, scans)
    tables = collect(settings.out_dir)
    assert left_out(tables) == left_out(tables, "verdict") == {("sub-01_ses-1", method, reason) for method in methods}
    assert (len(tables.dice), len(tables.quality)) == (4 - len(methods), 4 - len(methods))


def test_a_segmenter_and_a_measure_that_are_not_run_any_more_are_left_out(settings, scans):
    old = replace(settings, segmenter="atlas", also=("slant",))
    paths = study_results.write(old, scans[0])
    text = paths.results.read_text()
    line = next(line for line in text.splitlines() if "\tslant\tdice\t" in line)
    paths.results.write_text(text + line.replace("\tdice\t", "\tvolume_ml\t") + "\n")
    tables = collect(settings.out_dir)
    assert left_out(tables) == {
        *(("sub-01_ses-1", method, NO_SEGMENTER) for method in METHODS),
        ("sub-01_ses-1", "quickshear", NO_MEASURE),
    }
    assert set(tables.dice.segmenter) == {"slant"}
    assert tables.volumes.empty
    assert len(tables.edits) == 4, "what was edited is no matter of the segmenter"


def test_results_that_were_not_made_again_to_the_end_are_left_out(settings, scans):
    provenance.mark_unfinished(settings.out_dir / "sub-01/ses-1/sub-01_ses-1_results.tsv")
    tables = collect(settings.out_dir)
    assert set(tables.dice.scan) == set(tables.quality.scan) == {"sub-02_ses-1"}
    assert left_out(tables) == {("sub-01_ses-1", "", UNFINISHED)}


def test_a_study_of_which_nothing_belongs_says_so(settings, scans):
    study_results.record(settings, [study_results.source(settings, "03", "1")])
    with pytest.raises(InputError, match=r"no results that belong to the study now .* run the participant level"):
        collect(settings.out_dir)


def test_a_study_without_a_record_counts_all_its_scans(settings, scans):
    GroupPaths(settings.out_dir).scans.unlink()
    assert len(collect(settings.out_dir).dice) == 4


def test_a_review_shows_the_scans_of_the_study_only(settings, scans):
    for scan in scans:
        study_results.write(settings, scan).defaced("pydeface").touch()
    assert {case.paths.stem for case in find_cases(settings.out_dir)} == {"sub-01_ses-1", "sub-02_ses-1"}
    study_results.record(settings, scans[:1])
    assert {case.paths.stem for case in find_cases(settings.out_dir)} == {"sub-01_ses-1"}


# Rescans


@pytest.fixture
def pair(settings, scans):
    """The sessions of the first subject, with results."""
    second = study_results.source(settings, "01", "2")
    study_results.write(settings, second)
    found = SessionPair(scans[0], second)
    study_results.write_rescan(settings, found)
    study_results.record(settings, [*scans, second], (found,))
    return found


def test_rescans_of_the_study_are_counted(settings, pair):
    tables = collect(settings.out_dir)
    assert set(tables.rescan.method) == {*METHODS, *RESCAN_GROUPS}
    assert set(tables.rescan[tables.rescan.method.isin(METHODS)].scan) == {pair.first.stem}
    assert tables.left_out.empty


def test_sessions_that_are_no_rescan_any_more_are_left_out(settings, pair, scans):
    third = study_results.source(settings, "01", "3")
    study_results.write(settings, third)
    everything = [*scans, pair.second, third]
    for change, record, reason in (
        ({}, (everything, (SessionPair(pair.first, third),)), NO_PAIR),
        ({}, (everything, ()), NO_PAIR),
        ({"rescan": "none"}, (everything, ()), NO_RESCANS),
        ({}, ([*scans, third], ()), NO_SCAN),
    ):
        study_results.record(replace(settings, **change), *record)
        tables = collect(settings.out_dir)
        assert tables.rescan.empty
        assert {r for _, method, r in left_out(tables) if method in RESCAN_GROUPS} == {reason}


def test_rescans_under_the_exchanged_names_of_earlier_versions_are_left_out(settings, pair):
    paths = study_results.write_rescan(settings, pair)
    stored = provenance.read_recipe(paths.results)[provenance.KEY]
    provenance.write_recipe(paths.results, {name: value for name, value in stored.items() if name != GROUPS_KEY})
    tables = collect(settings.out_dir)
    assert tables.rescan.empty
    assert {reason for *_, reason in left_out(tables)} == {EXCHANGED}


# Failed runs


def test_a_failed_run_is_a_failure_i_and_the_rows_of_table_1_sum_to_the_scans(settings, scans):
    for scan, failed in zip(scans, ({"pydeface": "deface"}, {}), strict=True):
        study_results.write(settings, scan, failed)
    tables = collect(settings.out_dir)
    columns = ["scans", "success", "failure_i", "failure_ii", "failed_runs", "not_judged"]
    assert row(tables, "pydeface")[columns].tolist() == [2, 1, 1, 0, 1, 0]
    assert row(tables, "quickshear")[columns].tolist() == [2, 2, 0, 0, 0, 0]
    assert row(tables)[columns].tolist() == [4, 3, 1, 0, 1, 0]
    assert (tables.table1[["success", "failure_i", "failure_ii"]].sum(axis=1) == tables.table1.scans).all()
    assert left_out(tables, "verdict") == {("sub-01_ses-1", "pydeface", EARLIER_IMAGE)}, "of an earlier run"
    assert load_tables(settings.out_dir).table1.failed_runs.tolist() == tables.table1.failed_runs.tolist()


@pytest.mark.parametrize("step", ["load", "unit"])
def test_a_scan_that_failed_as_a_whole_is_a_failed_run_of_every_method(settings, scans, step):
    study_results.write(settings, scans[0], {"original": step})
    tables = collect(settings.out_dir)
    for method in METHODS:
        assert row(tables, method)[["scans", "success", "failure_i", "failed_runs"]].tolist() == [2, 1, 1, 1]


def test_a_method_that_only_ever_failed_has_its_row(settings, scans):
    for scan in scans:
        study_results.write(settings, scan, {"pydeface": "deface"})
    assert row(collect(settings.out_dir), "pydeface")[["scans", "failure_i", "failed_runs"]].tolist() == [2, 2, 2]


def test_a_check_that_failed_is_no_failed_run_and_its_earlier_verdict_does_not_count(settings, scans):
    study_results.write(settings, scans[0], {"pydeface": "qc"})
    tables = collect(settings.out_dir)
    assert row(tables, "pydeface")[["scans", "success", "failed_runs", "not_judged"]].tolist() == [1, 1, 0, 1]
    assert left_out(tables, "verdict") == {("sub-01_ses-1", "pydeface", EARLIER_VERDICT)}
    unjudged = tables.quality[(tables.quality.scan == "sub-01_ses-1") & (tables.quality.method == "pydeface")]
    assert unjudged[["verdict", "reason"]].to_numpy().tolist() == [["", "planted"]]


def test_a_segmentation_that_failed_is_no_failed_run(settings, scans):
    study_results.write(settings, scans[0], {"pydeface": "segment"})
    assert row(collect(settings.out_dir)).failed_runs == 0


def test_failed_runs_are_in_the_manual_rows_and_votes_on_earlier_images_are_not(settings, scans):
    study_results.write(settings, scans[0], {"pydeface": "deface"})
    for subject in ("01", "02"):
        about = (subject, "1", f"sub-{subject}_ses-1", "pydeface")
        append_rating(settings.out_dir, Rating("2026-01-01T00:00:00Z", "ann", *about, "Success"))
    _, table1 = write_quality(settings.out_dir)
    manual = table1.set_index(["method", "source"]).loc[("pydeface", "manual")]
    assert manual[["scans", "success", "failure_i", "failed_runs", "blind_scans"]].tolist() == [2, 1, 1, 1, 1]


def test_the_settings_of_a_run_that_failed_are_kept(settings, scans):
    """So failures of a method that is not run any more are left out, too."""
    study_results.write(replace(settings, protect_brain=True), scans[0], {"pydeface": "deface"})
    tables = collect(settings.out_dir)
    assert tables.failures.empty
    assert row(tables).failed_runs == 0
    assert ("sub-01_ses-1", "pydeface", OTHER_SETTINGS) in left_out(tables)
    assert set(tables.dice.scan) == {"sub-02_ses-1"}
    assert OK not in set(tables.left_out.reason)
