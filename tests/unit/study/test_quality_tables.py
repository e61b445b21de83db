"""Verdicts in a study: evidence beside the scan, qc.tsv, Table 1, votes."""

import json
import math

import pandas as pd
import pytest

import bids_dataset
from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.bids.query import find_scans
from efface.errors import InputError
from efface.study import Settings, collect, load_tables
from efface.study.quality_tables import QUALITY_COLUMNS, count, read_quality, write_quality
from efface.study.ratings import Rating, append_rating
from efface.study.scan_job import ScanJob

METHODS = ("quickshear", "fsl_deface")


@pytest.fixture
def study(monkeypatch, tmp_path):
    bids_dataset.stand_in(monkeypatch, judged=True)
    settings = Settings(bids_dataset.make(tmp_path / "bids", bids_dataset.SCANS[:2]), tmp_path / "out", METHODS)
    for source in find_scans(settings.bids_dir):
        assert ScanJob(source, settings).run().failures == ()
    return settings


def evidence(settings, session="1", method="quickshear"):
    return UnitPaths(settings.out_dir, "01", session, f"sub-01_ses-{session}").quality(method)


def vote(out_dir, reviewer, verdict, method="quickshear", session="1", *, shown=False):
    names = ("2026-01-01T00:00:00Z", reviewer, "01", session, f"sub-01_ses-{session}", method)
    append_rating(out_dir, Rating(*names, verdict, automatic_shown=shown))


def test_every_defaced_scan_has_its_evidence_and_its_row(study):
    tables = collect(study.out_dir)
    assert list(tables.quality.columns) == list(QUALITY_COLUMNS)
    assert len(tables.quality) == 2 * len(METHODS)
    content = json.loads(evidence(study).read_text())
    assert content["verdict"] in ("Success", "Failure I", "Failure II")
    assert content["unit"]["method"] == "quickshear"
    assert content["Recipe"]["check"]["quality.brain.tolerance_ml"] > 0


def test_tables_read_back_are_the_tables_written(study):
    written, read = collect(study.out_dir), load_tables(study.out_dir)
    for a, b in ((written.quality, read.quality), (written.table1, read.table1)):
        pd.testing.assert_frame_equal(a, b, check_dtype=False, atol=1e-4)


def test_a_second_run_judges_nothing_again_and_a_lost_verdict_is_made_again(study):
    source = find_scans(study.bids_dir)[0]
    before = evidence(study).read_bytes()
    assert ScanJob(source, study).run().computed == 0
    evidence(study).unlink()
    assert ScanJob(source, study).run().computed == 1
    assert evidence(study).read_bytes() == before


def test_votes_become_the_manual_columns_and_table_one(study):
    automatic = collect(study.out_dir).quality
    same = automatic[(automatic.session == "1") & (automatic.method == "quickshear")].verdict.iloc[0]
    other = "Success" if same != "Success" else "Failure I"
    for name, word in (("ann", same), ("bob", same), ("eve", other)):
        vote(study.out_dir, name, word)
    vote(study.out_dir, "ann", "Success", "fsl_deface")
    vote(study.out_dir, "bob", "Failure I", "fsl_deface")
    quality, table1 = write_quality(study.out_dir)
    row = quality[(quality.session == "1") & (quality.method == "quickshear")].iloc[0]
    assert (row.manual, row.reviewers, row.agreed) == (same, 3, 1.0)
    tie = quality[(quality.session == "1") & (quality.method == "fsl_deface")].iloc[0]
    assert tie.manual == "tied"
    assert math.isnan(tie.agreed)
    manual = table1[(table1.source == "manual") & (table1.method == "quickshear")].iloc[0]
    assert (manual.scans, manual.agreement) == (1, 1.0)
    assert not ((table1.source == "manual") & (table1.method == "fsl_deface")).any()


def test_kappa_is_of_blind_votes_only_and_anchored_ones_are_a_column_of_their_own(study):
    automatic = collect(study.out_dir).quality.set_index(["session", "method"]).verdict
    for (session, method), verdict in automatic.items():
        other = "Success" if verdict != "Success" else "Failure I"
        vote(study.out_dir, "ann", other, method, session)
        vote(study.out_dir, "ann", verdict, method, session, shown=True)  # changed to what was shown
    quality, table1 = write_quality(study.out_dir)
    assert (quality.manual == quality.verdict).all()
    assert (quality.anchored == quality.verdict).all()
    assert (quality.blind != quality.verdict).all()
    assert (quality.agreed == 0).all()
    row = table1[(table1.source == "manual") & (table1.method == "all")].iloc[0]
    assert (row.blind_scans, row.agreement) == (4, 0)
    assert (row.anchored_scans, row.anchored_agreement) == (4, 1)
    assert row.kappa <= 0


def test_without_a_blind_vote_there_is_no_kappa(study):
    automatic = collect(study.out_dir).quality.set_index(["session", "method"]).verdict
    for (session, method), verdict in automatic.items():
        vote(study.out_dir, "ann", verdict, method, session, shown=True)
    quality, table1 = write_quality(study.out_dir)
    assert quality.agreed.isna().all()
    row = table1[(table1.source == "manual") & (table1.method == "all")].iloc[0]
    assert (row.scans, row.blind_scans, row.anchored_scans) == (4, 0, 4)
    assert math.isnan(row.kappa)
    assert math.isnan(row.agreement)


def test_table_one_counts_each_method_and_all():
    words = ["Success", "Failure I", "Failure II", "Success"]
    manual = ["Success", "Success", "", "Success"]
    frame = pd.DataFrame(
        {"method": ["a", "a", "b", "b"], "verdict": words, "manual": manual, "blind": manual, "anchored": ""}
    )
    table = count(frame).set_index(["method", "source"])
    assert table.loc[("all", "automatic"), ["scans", "success", "failure_i", "failure_ii"]].tolist() == [4, 2, 1, 1]
    assert table.loc[("a", "manual"), "agreement"] == 0.5
    assert ("b", "manual") in table.index


def test_studies_without_verdicts_give_empty_tables_and_a_broken_one_is_named(tmp_path):
    quality, table1 = read_quality(tmp_path)
    assert quality.empty
    assert table1.empty
    GroupPaths(tmp_path).quality.write_text("no\ttable\n1\t2\n")
    with pytest.raises(InputError, match=r"qc\.tsv"):
        read_quality(tmp_path)
