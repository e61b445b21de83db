"""Which scans passed the quality check with every method, and what of the tables is about them."""

import pandas as pd
import pytest

from efface.study.passed_scans import final_verdicts, passed_by_all

FACE, BRAIN, S = "Failure I", "Failure II", "Success"


def quality(rows):
    return pd.DataFrame(rows, columns=["scan", "method", "verdict", "manual"])


def test_reviewers_overrule_the_check_where_they_decided():
    rows = [("s", "a", S, FACE), ("s", "b", FACE, ""), ("s", "c", BRAIN, "tied"), ("s", "d", "", S), ("s", "e", "", "")]
    assert final_verdicts(quality(rows)) == {("s", "a"): FACE, ("s", "b"): FACE, ("s", "c"): BRAIN, ("s", "d"): S}


def test_a_scan_must_pass_with_every_method_that_passes_at_all():
    """Method c changes nothing, and never passes; s2 failed with b; on s3 b has no verdict."""
    rows = [("s1", "a", S, ""), ("s1", "b", S, ""), ("s1", "c", FACE, ""), ("s2", "a", S, ""), ("s2", "b", BRAIN, ""),
            ("s3", "a", S, "")]  # fmt: skip
    passed = passed_by_all(quality(rows), ["a", "b", "c"])
    assert (passed.scans, passed.methods) == ({"s1"}, ("a", "b"))
    frame = quality(rows)
    assert list(passed.rows(frame).method) == ["a", "b"]


@pytest.mark.parametrize("rows", [[], [("s", "a", FACE, "")]])
def test_without_a_success_no_scan_passed(rows):
    passed = passed_by_all(quality(rows), ["a"])
    assert not passed.scans
    assert not passed.methods


def test_rescans_of_the_subjects_that_remain_stay():
    rows = [(s, scan, m) for s, scan in (("01", "s1"), ("02", "s2")) for m in ("a", "rescan-1-2", "resampled")]
    rescan = pd.DataFrame(rows, columns=["subject", "scan", "method"])
    passed = passed_by_all(quality([("s1", "a", S, ""), ("s2", "a", FACE, "")]), ["a"])
    assert list(passed.rescan_rows(rescan).itertuples(index=False, name=None)) == rows[:3]
