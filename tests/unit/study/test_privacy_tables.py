"""The privacy tables of a study: right, made once, and never those of another state of the study."""

from dataclasses import replace

import pytest

import privacy_study
from cli_runner import run
from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.errors import InputError
from efface.privacy.registry import ATTACKS
from efface.study import load_tables, privacy_tables, provenance
from efface.study.privacy_tables import (
    PROBE_COLUMNS,
    RANK_COLUMNS,
    measure_privacy,
    read_privacy,
    refresh_privacy,
)
from efface.study.records import PRIVACY_SUMMARY


@pytest.fixture
def study(tmp_path, monkeypatch):
    privacy_study.stand_in(monkeypatch)
    return privacy_study.make(tmp_path)


def test_the_tables_say_who_was_found(study):
    made = measure_privacy(study)
    summary = made.summary.set_index("method")
    assert summary.rank1.to_dict() == {
        "untouched": 1.0, "flat": pytest.approx(1 / 12), "quickshear": 1.0, "pydeface": pytest.approx(1 / 12),
    }  # fmt: skip
    assert (summary.unusable == "").all()
    assert summary.auc["quickshear"] == 1
    assert len(made.probes) == 12 * 4
    assert set(made.probes.status) == {"attacked"}
    ranks = made.ranks[made.ranks.method == "pydeface"]
    assert ranks["rank"].tolist() == list(range(1, 13))
    assert ranks.share.iloc[-1] == 1


def test_tables_read_back_as_they_were_written(study):
    made, read = measure_privacy(study), read_privacy(study)
    assert tuple(read.probes.columns) == PROBE_COLUMNS
    assert tuple(read.summary.columns) == PRIVACY_SUMMARY
    assert tuple(read.ranks.columns) == RANK_COLUMNS
    assert read.summary.auc.tolist() == pytest.approx(made.summary.auc.tolist(), rel=1e-5)
    assert read.probes.subject.iloc[0] == "00"
    assert load_tables(study).privacy.equals(read.summary)


def test_nothing_is_done_twice_and_a_new_scan_is_attacked_again(study):
    first = measure_privacy(study)
    assert measure_privacy(study) is None
    defaced = UnitPaths(study, "03", None, "sub-03").defaced("quickshear")
    defaced.write_text("500.25")
    again = measure_privacy(study)
    assert again.summary.set_index("method").rank1["quickshear"] < first.summary.set_index("method").rank1["quickshear"]


def test_the_same_study_gives_the_same_bytes(study):
    measure_privacy(study)
    paths = (GroupPaths(study).privacy, GroupPaths(study).privacy_summary, GroupPaths(study).privacy_ranks)
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    measure_privacy(study)
    assert [path.read_bytes() for path in paths] == before


def test_an_image_that_cannot_be_read_is_a_row_with_a_reason(study):
    UnitPaths(study, "03", None, "sub-03").defaced("quickshear").write_text("broken")
    made = measure_privacy(study)
    (row,) = made.probes[made.probes.status == "not attacked"].to_dict("records")
    assert (row["subject"], row["method"]) == ("03", "quickshear")
    assert "is no image" in row["reason"]
    mine = made.summary.set_index("method").loc["quickshear"]
    assert (mine.probes, mine.not_attacked, mine.rank1) == (12, 1, pytest.approx(11 / 12))


@pytest.mark.parametrize("name", ["dice", "edits", "failures"])
def test_a_table_without_a_column_is_one_clear_line(study, name):
    getattr(GroupPaths(study), name).write_text("person\tvalue\n", encoding="utf-8")
    with pytest.raises(InputError, match="lacks the columns subject, session"):
        load_tables(study)


def test_the_tables_depend_on_the_packages_of_an_attack(study, monkeypatch):
    attack = next(iter(ATTACKS.values()))
    with_package = replace(attack, packages=("some-package",))

    def recipe():
        cohort = privacy_tables.cohort_of(study, load_tables(study))
        return privacy_tables._recipe(cohort, [with_package])["versions"]["some-package"]

    assert recipe() == "not installed"
    monkeypatch.setattr(provenance, "installed", lambda package: "2.0")
    assert recipe() == "2.0"


def test_without_an_original_there_is_one_clear_line(study):
    (study.parent / "bids/sub-04/anat/sub-04_T1w.nii.gz").unlink()
    with pytest.raises(InputError, match=r"the original of sub-04_desc-quickshear_T1w.nii.gz is needed"):
        measure_privacy(study)


def test_a_small_study_is_not_attacked_by_itself_and_stale_tables_go(tmp_path, monkeypatch):
    privacy_study.stand_in(monkeypatch)
    out = privacy_study.make(tmp_path, people=9)
    measure_privacy(out)
    assert refresh_privacy(out, load_tables(out)) == ""  # of this very state: kept
    UnitPaths(out, "03", None, "sub-03").defaced("quickshear").write_text("500.25")
    assert "9 subjects" in refresh_privacy(out, load_tables(out))
    assert not GroupPaths(out).privacy.exists()
    assert not GroupPaths(out).privacy_summary.exists()


def test_the_group_level_goes_on_where_it_cannot_be_measured(study):
    (study.parent / "bids/sub-04/anat/sub-04_T1w.nii.gz").unlink()
    why = refresh_privacy(study, load_tables(study))
    assert "sub-04_desc-quickshear" in why
    assert str(study.parent) not in why


def test_a_large_study_is_attacked_by_itself(study):
    assert refresh_privacy(study, load_tables(study)) == ""
    assert GroupPaths(study).privacy.is_file()


def test_a_list_of_attacks_that_names_none_is_refused(study, capsys):
    code, _, error = run(capsys, "privacy", study, "--attacks", ",")
    assert code == 2
    assert "must name at least one attack; received ','" in error
