"""Which two sessions are a rescan: order, dates, intervals, and the table of pairs that a user gives."""

import logging

import pytest

from efface.bids.query import T1wScan
from efface.errors import InputError
from efface.study.session_pairs import (
    NoRescan,
    SessionPair,
    check_pairs,
    find_pairs,
    load_pairs,
    natural,
    pairs_of,
    warn_of_intervals,
)


@pytest.fixture
def source(tmp_path):
    def make(subject, session, name=""):
        stem = f"sub-{subject}" + (f"_ses-{session}" if session else "") + name
        folder = tmp_path / f"sub-{subject}" / f"ses-{session}"
        return T1wScan(subject, session, stem, folder / "anat" / f"{stem}_T1w.nii.gz")

    return make


def write_dates(root, subject, **dates):
    """The sessions.tsv of a subject."""
    path = root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"ses-{label}\t{date}" for label, date in dates.items()]
    path.write_text("\n".join(["session_id\tacq_time", *lines]) + "\n")


def labels(pairs):
    return [(pair.first.session, pair.second.session) for pair in pairs]


def test_pairs_are_the_first_two_sessions_of_subjects_that_have_them(source):
    one, two, three = (source("01", s) for s in ("1", "2", "3"))
    assert pairs_of([source("02", "1"), three, two, one, source("03", None)]) == [SessionPair(one, two)]
    assert pairs_of([source("01", "1"), source("01", "1", "_run-2")]) == []


def test_of_several_scans_a_session_those_of_the_same_name_are_paired(source):
    scans = [source("01", "1", n) for n in ("_acq-a", "_acq-b")] + [source("01", "2", "_acq-b")]
    (pair,) = pairs_of(scans)
    assert (pair.first.stem, pair.second.stem) == ("sub-01_ses-1_acq-b", "sub-01_ses-2_acq-b")
    (other,) = pairs_of([source("01", "1", "_acq-a"), source("01", "2", "_acq-b")])
    assert other.second.stem == "sub-01_ses-2_acq-b"


def test_session_2_comes_before_session_10(source):
    assert labels(pairs_of([source("01", s) for s in ("1", "10", "2")])) == [("1", "2")]
    assert sorted(["m12", "m2", "baseline", "10", "9", "09"], key=natural) == ["09", "9", "10", "baseline", "m2", "m12"]


def test_dates_put_pre_before_post(source, tmp_path):
    scans = [source("01", "post"), source("01", "pre")]
    assert labels(pairs_of(scans)) == [("post", "pre")], "the labels alone do not say"
    write_dates(tmp_path, "01", pre="2020-01-01T10:00:00", post="2020-01-15T22:00:00")
    (pair,) = pairs_of(scans)
    assert labels([pair]) == [("pre", "post")]
    assert pair.interval_days == 14.5


@pytest.mark.parametrize(("second", "is_rescan"), [("2020-01-31", True), ("2020-02-01", False)])
def test_more_than_30_days_are_no_rescan_and_it_is_said(source, tmp_path, caplog, second, is_rescan):
    write_dates(tmp_path, "01", **{"1": "2020-01-01", "2": second})
    scans = [source("01", "1"), source("01", "2")]
    found = find_pairs(scans)
    assert labels(pairs_of(scans)) == ([("1", "2")] if is_rescan else [])
    with caplog.at_level(logging.WARNING):
        warn_of_intervals(found)
    assert isinstance(found[0], NoRescan) != is_rescan
    assert ("sub-01 (sessions 1 and 2, 31 days apart" in caplog.text) != is_rescan


def test_the_first_two_sessions_within_30_days_are_taken(source, tmp_path):
    write_dates(tmp_path, "01", **{"1": "2010-01-01", "2": "2015-01-01", "3": "2015-01-03"})
    assert labels(pairs_of([source("01", s) for s in "123"])) == [("2", "3")]


def test_the_date_of_the_scan_itself_comes_first(source, tmp_path):
    write_dates(tmp_path, "01", **{"1": "2010-01-01", "2": "2010-01-02"})
    scans = [source("01", "1"), source("01", "2")]
    table = scans[1].path.parent.parent / "sub-01_ses-2_scans.tsv"
    table.parent.mkdir(parents=True)
    table.write_text(f"filename\tacq_time\nanat/{scans[1].path.name}\t2012-01-01T00:00:00Z\n")
    assert pairs_of(scans) == []


@pytest.mark.parametrize("date", ["n/a", "", "yesterday"])
def test_a_date_that_is_none_is_not_used(source, tmp_path, caplog, date):
    write_dates(tmp_path, "01", **{"1": "2010-01-01", "2": date})
    with caplog.at_level(logging.WARNING):
        (pair,) = pairs_of([source("01", "1"), source("01", "2")])
    assert pair.interval_days is None
    assert caplog.text.count("is no date") == (date == "yesterday")


def test_a_table_names_the_pairs(source, tmp_path, caplog):
    write_dates(tmp_path, "01", **{"1": "2010-01-01", "3": "2015-01-01"})
    path = tmp_path / "pairs.tsv"
    path.write_text("participant_id\tsession_1\tsession_2\tnote\nsub-01\tses-3\t1\tx\n09\t1\t2\t\n")
    chosen = load_pairs(path)
    assert chosen == {"01": ("3", "1"), "09": ("1", "2")}
    found = find_pairs([source(subject, s) for subject in ("01", "02") for s in "123"], chosen)
    assert labels(found) == [("3", "1")], "only participants of the table"
    with caplog.at_level(logging.WARNING):
        warn_of_intervals(found)
    assert "the first of sub-01 (1826 days); they are used" in caplog.text


HEAD = "participant_id\tsession_1\tsession_2\n"
BAD = {
    "no column": ("participant_id\tsession_1\n01\t1\n", "lack the column session_2: expected a table with tabs"),
    "no tabs": ("participant_id session_1 session_2\n", "lack the column participant_id"),
    "nothing": ("", "received 'nothing'"),
    "no row": (HEAD, "hold no pair"),
    "a cell is missing": (HEAD + "01\t1\n", "line 2: session_2 must be a BIDS label; received ''"),
    "no label": (HEAD + "01\t1\t2\n02\t../x\t2\n", "line 3: session_1 must be a BIDS label; received '../x'"),
    "one session twice": (HEAD + "01\t2\tses-2\n", "received 2 twice"),
    "a participant twice": (HEAD + "01\t1\t2\nsub-01\t1\t3\n", "line 3: sub-01 is there twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_of_pairs_gets_one_line(tmp_path, case):
    text, expected = BAD[case]
    path = tmp_path / "pairs.tsv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_pairs(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"participant_id\xff")
    with pytest.raises(InputError, match="not a text table"):
        load_pairs(path)


def test_a_session_that_is_not_there_is_refused(source):
    sources = [source("01", s) for s in ("1", "2", "10")]
    check_pairs({"01": ("1", "10")}, sources)
    with pytest.raises(InputError, match=r"names session 3 of sub-01.* its sessions are: 1, 2, 10: correct"):
        check_pairs({"01": ("1", "3")}, sources)
    with pytest.raises(InputError, match=r"session 1 of sub-02.* none"):
        check_pairs({"02": ("1", "2")}, sources)
    check_pairs({"01": ("1", "2"), "02": ("1", "2")}, sources, {"01"})
