"""Results of a study without images: tables, recipes, verdicts and settings as the participant level writes them."""

import math
from dataclasses import replace
from pathlib import Path

import bids_dataset
from efface.bids.derivatives import RescanPaths, UnitPaths
from efface.bids.query import T1wScan
from efface.study import Settings, provenance
from efface.study.records import FAILED, Row, rows_to_tsv
from efface.study.rescan_job import RESAMPLED, RESCAN_GROUPS, RescanJob
from efface.study.scan_job import ScanJob
from efface.study.session_pairs import SessionPair
from efface.study.stored_settings import options_of, write_description
from efface.study.study_record import StudyRecord
from efface.study.verdicts import write_verdict


def source(settings: Settings, subject: str, session: str) -> T1wScan:
    """A scan of the data set; its file is empty."""
    stem = f"sub-{subject}_ses-{session}"
    path = settings.bids_dir / f"sub-{subject}/ses-{session}/anat/{stem}_T1w.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return T1wScan(subject, session, stem, path)


def record(settings: Settings, sources: list[T1wScan], pairs: tuple[SessionPair, ...] = ()) -> None:
    """Settings and record of a run of all participants."""
    settings.out_dir.mkdir(exist_ok=True)
    write_description(settings, options_of(settings))
    kept = StudyRecord(settings.bids_dir, settings.out_dir)
    kept.add_scans(sources, (), ())
    kept.add_pairs(pairs, (), ())


def write(settings: Settings, scan: T1wScan, failed: dict[str, str] | None = None) -> UnitPaths:
    """Results and verdicts of a scan; `failed` is the step that failed, by method (``original``: the whole scan)."""
    failed, job = failed or {}, ScanJob(scan, settings)
    rows: list[Row] = []
    for method in () if "original" in failed else settings.methods:
        row = _row(job, method)
        if failed.get(method) != "deface":
            rows += [replace(row, measure=name) for name in ("edited_ml", "edited_head_ml", "edited_brain_ml")]
            rows += [
                replace(row, measure="dice", level="whole brain", region="whole brain", segmenter=segmenter)
                for segmenter in settings.segmenters
            ]
        if method not in failed:
            unit = {"subject": scan.subject, "session": scan.session, "scan": scan.stem, "method": method}
            unit["implementation"] = settings.implementation(method)
            job.paths.quality(method).parent.mkdir(parents=True, exist_ok=True)
            verdict = bids_dataset.untouched(None, None)  # Success
            write_verdict(job.paths.quality(method), verdict.to_json(), unit, {})
    rows += [
        replace(_row(job, method), measure=step, value=math.nan, status=FAILED, reason="planted")
        for method, step in failed.items()
    ]
    _write(job, rows, failed=bool(failed))
    return job.paths


def write_rescan(settings: Settings, pair: SessionPair) -> RescanPaths:
    """Results of a rescan."""
    job = RescanJob(pair, settings)
    rows = [
        replace(_row(job, group), measure="dice", level="whole brain", region="whole brain") for group in RESCAN_GROUPS
    ]
    _write(job, rows, failed=False)
    return job.paths


def _row(job: ScanJob | RescanJob, method: str) -> Row:
    about = job.label(method, "")
    names = (about.subject, about.session, about.scan, about.method, about.implementation, about.segmenter)
    return Row(*names, "", "", "", 0.9 if method == RESAMPLED else 0.95)


def _write(job: ScanJob | RescanJob, rows: list[Row], *, failed: bool) -> None:
    path: Path = job.results
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rows_to_tsv(rows))
    if failed:
        provenance.mark_failed(path, job.chosen())
    else:
        provenance.write_recipe(path, job.chosen())
