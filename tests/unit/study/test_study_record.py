"""The record of a study: the scans of its runs, and the pairs of sessions."""

import pytest

from efface.bids.derivatives import GroupPaths
from efface.bids.query import T1wScan
from efface.errors import InputError
from efface.study import Study
from efface.study.session_pairs import NoRescan, SessionPair, load_pairs
from efface.study.study_record import StudyRecord, recorded_pairs, recorded_scans


@pytest.fixture
def record(tmp_path):
    (tmp_path / "out").mkdir()
    return StudyRecord(tmp_path / "bids", tmp_path / "out")


@pytest.fixture
def scan(record):
    def make(subject, session):
        stem = f"sub-{subject}_ses-{session}"
        path = record.bids_dir / f"sub-{subject}/ses-{session}/anat/{stem}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return T1wScan(subject, session, stem, path)

    return make


def test_a_run_of_all_writes_the_record_anew_and_a_limited_one_replaces_its_own_rows(record, scan):
    assert recorded_scans(record.out_dir) is None
    scans = {name: scan(*name) for name in (("01", "1"), ("01", "2"), ("02", "1"), ("03", "1"))}
    record.add_scans([scans["01", "1"], scans["02", "1"], scans["03", "1"]], (), ())
    assert recorded_scans(record.out_dir) == {"sub-01_ses-1", "sub-02_ses-1", "sub-03_ses-1"}
    record.add_scans([scans["01", "2"]], ["sub-01"], ["ses-2"])
    assert recorded_scans(record.out_dir) == {"sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "sub-03_ses-1"}
    record.add_scans([scans["01", "2"]], ["01"], [])
    assert recorded_scans(record.out_dir) == {"sub-01_ses-2", "sub-02_ses-1", "sub-03_ses-1"}
    scans["03", "1"].path.unlink()
    record.add_scans([scans["02", "1"]], ["02"], [])
    assert recorded_scans(record.out_dir) == {"sub-01_ses-2", "sub-02_ses-1"}, "it is not in the data set any more"
    record.add_scans([scans["02", "1"]], (), ())
    assert recorded_scans(record.out_dir) == {"sub-02_ses-1"}


def test_the_pairs_used_are_a_table_and_it_can_be_given_again(record, scan):
    scans = [[scan(subject, session) for session in "12"] for subject in ("01", "02")]
    record.add_scans([one for pair in scans for one in pair], (), ())
    record.add_pairs([SessionPair(*scans[0], 3.0), NoRescan(SessionPair(*scans[1], 400.0))], (), ())
    path = GroupPaths(record.out_dir).rescan_pairs
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert lines == [
        ["participant_id", "session_1", "session_2", "scan_1", "scan_2", "interval_days", "used", "reason"],
        ["01", "1", "2", "sub-01_ses-1", "sub-01_ses-2", "3", "yes", "n/a"],
        ["02", "1", "2", "sub-02_ses-1", "sub-02_ses-2", "400", "no",
         "400 days apart: more than 30 days are no rescan"],
    ]  # fmt: skip
    assert recorded_pairs(record.out_dir) == {"01": ("sub-01_ses-1", "sub-01_ses-2")}
    assert load_pairs(path) == {"01": ("1", "2")}


def test_a_run_of_one_session_or_participant_keeps_the_other_pairs(record, scan):
    scans = [[scan(subject, session) for session in "12"] for subject in ("01", "02")]
    both = [SessionPair(*pair) for pair in scans]
    record.add_scans([one for pair in scans for one in pair], (), ())
    record.add_pairs(both, (), ())
    record.add_pairs([], (), ["1"])
    assert set(recorded_pairs(record.out_dir)) == {"01", "02"}
    record.add_pairs([], ["01"], ())
    assert set(recorded_pairs(record.out_dir)) == {"02"}
    record.add_scans(scans[0], (), ())
    record.add_pairs(both[:1], (), ())
    assert set(recorded_pairs(record.out_dir)) == {"01"}


@pytest.fixture
def study(record, scan, monkeypatch):
    """A study of three sessions of one participant whose jobs are not run."""
    for session in ("1", "2", "10"):
        scan("01", session)
    (record.bids_dir / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    monkeypatch.setattr(Study, "_run", lambda _study, _sources, pairs, *_others: pairs)

    def make(**options):
        return Study(record.bids_dir, record.out_dir.with_name("new"), methods=["quickshear"], **options)

    return make


def test_a_run_records_its_scans_and_its_pairs(study):
    (pair,) = study().run(jobs=1)
    out_dir = study().settings.out_dir
    assert (pair.first.session, pair.second.session) == ("1", "2")
    assert recorded_scans(out_dir) == {"sub-01_ses-1", "sub-01_ses-2", "sub-01_ses-10"}
    assert recorded_pairs(out_dir) == {"01": ("sub-01_ses-1", "sub-01_ses-2")}
    for source in study().scans():
        source.path.chmod(0o600)
    study().run(jobs=1)
    for path in (GroupPaths(out_dir).scans, GroupPaths(out_dir).rescan_pairs):
        assert path.stat().st_mode & 0o077 == 0, "as private as the scans"
    assert study(rescan="none").run(jobs=1) == []
    assert recorded_pairs(out_dir) == {}


def test_a_run_takes_the_pairs_it_is_given_and_ends_before_its_output_where_they_are_not_there(study, tmp_path):
    table = tmp_path / "pairs.tsv"
    head = "participant_id\tsession_1\tsession_2\n"
    table.write_text(f"{head}01\t2\t11\n")
    with pytest.raises(InputError, match="session 11 of sub-01"):
        study(rescan_pairs=table).run(jobs=1)
    assert not study().settings.out_dir.exists()
    table.write_text(f"{head}01\t2\t10\n")
    (pair,) = study(rescan_pairs=table).run(jobs=1)
    assert (pair.first.session, pair.second.session) == ("2", "10")
    assert study(rescan_pairs=table).run(jobs=1, sessions=["2"]) == [], "a run without both sessions has no pair"
    assert recorded_pairs(study().settings.out_dir) == {"01": ("sub-01_ses-2", "sub-01_ses-10")}


def test_a_broken_record_is_named(record):
    GroupPaths(record.out_dir).scans.write_text("scan\nx\n")
    with pytest.raises(InputError, match=r"study_scans\.tsv lacks one of the columns"):
        recorded_scans(record.out_dir)
