"""Which session of a rescan is registered to which, and compared with which; no image is opened."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from efface.bids.query import T1wScan
from efface.study import Settings
from efface.study.records import JobRows
from efface.study.rescan_job import RESAMPLED, RESCAN_12, RESCAN_21, RescanJob, SessionPair

ONE, TWO = "sub-01_ses-1", "sub-01_ses-2"


@pytest.fixture
def job(tmp_path):
    pair = SessionPair(*(T1wScan("01", stem[-1], stem, Path(f"{stem}_T1w.nii.gz")) for stem in (ONE, TWO)))
    return RescanJob(pair, Settings(tmp_path, tmp_path / "out", ("quickshear",)))


def test_rescan_1_2_is_session_2_registered_to_session_1_and_compared_with_its_segmentation(job, monkeypatch):
    """As in the paper's Figure 4; rescan-2-1 is the reverse."""
    registered = {}

    def rescanned(group, moving, moving_scan, fixed, fixed_anatomy):
        registered[group] = (moving, moving_scan, fixed, fixed_anatomy)
        return SimpleNamespace(sha256="", anatomy=f"{moving} on the grid of {fixed}")

    control = SimpleNamespace(sha256="", anatomy="resampled")
    replaced = {
        "HeadAnatomy": lambda scan: f"anatomy of {scan.stem}",
        "rescanned": rescanned,
        "resampled_control": lambda *_args: control,
        "stored_labels": lambda *_args: None,
        "segmented": lambda context, anatomy, description, _segmenter: (context, anatomy, description),
        "measure": lambda before, after, *_rest: [(before, after)],
    }
    for name, function in replaced.items():
        monkeypatch.setattr(f"efface.study.rescan_job.{name}", function)
    compared = {}
    rows = JobRows(job.name, job.label)
    monkeypatch.setattr(rows, "add", lambda group, values, _segmenter: compared.update({group: values[0]}))
    scans = [SimpleNamespace(stem=stem, spacing_mm=(1.0, 1.0, 1.0)) for stem in (ONE, TWO)]
    job.compute(scans, [ONE, TWO], rows)
    assert {group: (moving, fixed) for group, (moving, _, fixed, _) in registered.items()} == {
        RESCAN_12: (TWO, ONE),
        RESCAN_21: (ONE, TWO),
    }
    assert registered[RESCAN_12] == (TWO, scans[1], ONE, f"anatomy of {ONE}")
    assert compared == {
        RESCAN_12: ((ONE, f"anatomy of {ONE}", "original"), (TWO, f"{TWO} on the grid of {ONE}", "rescanaffine")),
        RESCAN_21: ((TWO, f"anatomy of {TWO}", "original"), (ONE, f"{ONE} on the grid of {TWO}", "rescanaffine")),
        RESAMPLED: ((ONE, f"anatomy of {ONE}", "original"), (ONE, "resampled", "resampled")),
    }


def test_a_row_names_the_session_that_was_resampled(job):
    scans = {group: job.label(group, "").scan for group in (RESCAN_12, RESCAN_21, RESAMPLED)}
    assert scans == {RESCAN_12: TWO, RESCAN_21: ONE, RESAMPLED: ONE}
