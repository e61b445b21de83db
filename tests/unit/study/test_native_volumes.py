"""Volumes of two sessions on their own grids: which scans are compared, and in what unit."""

import pandas as pd
import pytest

from efface.study.native_volumes import OWN_GRIDS, UNREGISTERED, native_volume_changes
from efface.study.records import COLUMNS


def rows(*given):
    """Rows (subject, session, method, segmenter, measure, region, value) of scans named by subject and session."""
    made = [(s, t, f"sub-{s}_ses-{t}", m, "native", g, x, "region", r, v, "ok", "") for s, t, m, g, x, r, v in given]
    return pd.DataFrame(made, columns=list(COLUMNS))


AGAIN = rows(
    *[(s, t, m, "", "register", "", 0.0) for s in ("01", "02") for t, m in (("2", "rescan-1-2"), ("1", "rescan-2-1"))]
)


def test_the_second_session_is_compared_with_the_first_of_the_same_subject_region_and_segmenter():
    good = rows(
        ("01", "1", "pydeface", "slant", "volume_ml", "thalamus", 8.0),
        ("01", "1", "quickshear", "slant", "volume_ml", "thalamus", 8.0),  # the same original
        ("01", "2", "pydeface", "slant", "volume_ml", "thalamus", 8.4),
        ("01", "1", "pydeface", "atlas", "volume_ml", "thalamus", 10.0),
        ("01", "2", "pydeface", "atlas", "volume_ml", "thalamus", 9.0),
        ("01", "3", "pydeface", "slant", "volume_ml", "thalamus", 99.0),  # of no pair
        ("01", "2", "pydeface", "slant", "volume_change_ml", "thalamus", 99.0),  # by defacing
        ("02", "1", "pydeface", "slant", "volume_ml", "thalamus", 7.0),  # whose second session failed
    )
    found = native_volume_changes(good, AGAIN)
    assert set(found.method) == {UNREGISTERED}
    assert set(found.implementation) == {OWN_GRIDS}
    assert set(found.scan) == {"sub-01_ses-1"}
    values = {(r.segmenter, r.measure): r.value for r in found.itertuples()}
    assert values == pytest.approx({
        ("slant", "volume_ml"): 8.0, ("slant", "volume_change_ml"): 0.4, ("slant", "volume_change_percent"): 5.0,
        ("atlas", "volume_ml"): 10.0, ("atlas", "volume_change_ml"): -1.0, ("atlas", "volume_change_percent"): -10.0,
    })  # fmt: skip


def test_a_region_that_is_empty_at_first_has_no_percent_and_without_volumes_there_is_nothing():
    both = [("01", t, "pydeface", "slant", "volume_ml", "thalamus", v) for t, v in (("1", 0.0), ("2", 1.0))]
    found = native_volume_changes(rows(*both), AGAIN).set_index("measure").value
    assert found["volume_change_ml"] == 1.0
    assert pd.isna(found["volume_change_percent"])
    assert native_volume_changes(rows(("01", "1", "pydeface", "slant", "dice", "thalamus", 1.0)), AGAIN).empty
