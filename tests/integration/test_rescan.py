"""Rescans: pairs, grids, registration of known moves, rows, resume, failures, and what the group level makes of them."""

import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

import bids_dataset
import phantom
from efface.bids.derivatives import RescanPaths, UnitPaths
from efface.bids.query import T1wScan, find_scans
from efface.errors import InputError, RegistrationError
from efface.io.scan import load_scan
from efface.spatial.pose_search import rms_distance_mm
from efface.spatial.registration import AffineResult, register_affine
from efface.spatial.resampling import resample
from efface.spatial.types import Volume
from efface.study import Settings, Study, collect, load_tables, segmentations, session_registration
from efface.study.rescan_job import RESAMPLED, RESCAN_12, RESCAN_21, RESCAN_GROUPS, RescanJob, SessionPair, pairs_of
from efface.study.scan_job import ScanJob

METHODS = ("quickshear", "pydeface")


def stand_in(monkeypatch):
    """The registration of two equal phantoms is known too."""
    found = AffineResult(np.eye(4), 0.9, converged=True, reason="", dof=12, starts=1)
    monkeypatch.setattr("efface.study.session_registration.register_affine", lambda *_args, **_options: found)
    return bids_dataset.stand_in(monkeypatch)


@pytest.fixture
def done(monkeypatch):
    return stand_in(monkeypatch)


@pytest.fixture
def settings(tmp_path):
    return Settings(
        bids_dataset.make(tmp_path / "bids"), tmp_path / "out", METHODS, measures=("dice", "volume", "distance")
    )


def source(subject, session, name=""):
    stem = f"sub-{subject}" + (f"_ses-{session}" if session else "") + name
    return T1wScan(subject, session, stem, Path(f"{stem}_T1w.nii.gz"))


def run_all(settings):
    sources = find_scans(settings.bids_dir)
    Study(settings)._prepare_output()
    for scan in sources:
        ScanJob(scan, settings).run()
    (pair,) = pairs_of(sources)
    return RescanJob(pair, settings).run()


def test_pairs_are_the_first_two_sessions_of_subjects_that_have_them():
    one, two, three = (source("01", s) for s in ("1", "2", "3"))
    assert pairs_of([source("02", "1"), three, two, one, source("03", None)]) == [SessionPair(one, two)]
    assert pairs_of([source("01", "1"), source("01", "1", "_run-2")]) == []


def test_of_several_scans_a_session_those_of_the_same_name_are_paired():
    scans = [source("01", "1", n) for n in ("_acq-a", "_acq-b")] + [source("01", "2", "_acq-b")]
    (pair,) = pairs_of(scans)
    assert (pair.first.stem, pair.second.stem) == ("sub-01_ses-1_acq-b", "sub-01_ses-2_acq-b")
    (other,) = pairs_of([source("01", "1", "_acq-a"), source("01", "2", "_acq-b")])
    assert other.second.stem == "sub-01_ses-2_acq-b"


def test_every_group_has_all_rows_and_images_on_the_grid_of_the_target(done, settings):
    outcome = run_all(settings)
    assert outcome.failures == ()
    assert outcome.computed == 6
    tables = collect(settings.out_dir)
    assert tables.failures.empty
    rescan = tables.rescan
    assert list(rescan.method.drop_duplicates()) == [*METHODS, *RESCAN_GROUPS]
    assert set(rescan.subject) == {"01"}
    assert (rescan.groupby(["method", "measure"]).size() == 143).all()
    scans = rescan.drop_duplicates("method").set_index("method").scan
    assert scans[RESCAN_12] == scans[RESAMPLED] == scans["pydeface"] == "sub-01_ses-1"
    assert scans[RESCAN_21] == "sub-01_ses-2"
    first, second = (nib.load(s.path) for s in find_scans(settings.bids_dir)[:2])
    for session, target in (("1", second), ("2", first)):
        paths = UnitPaths(settings.out_dir, "01", session, f"sub-01_ses-{session}")
        for path in (paths.resampled("rescanaffine"), paths.segmentation("rescanaffine", settings.segmenter)):
            np.testing.assert_allclose(nib.load(path).affine, target.affine)
            assert nib.load(path).shape == target.shape
    whole = rescan[(rescan.region == "whole brain") & (rescan.measure == "dice")].set_index("method").value
    assert (whole > 0.9).all()


def test_a_second_run_computes_nothing_and_what_is_missing_is_made_again(done, settings):
    run_all(settings)
    count = len(done)
    assert run_all(settings).computed == 0
    assert len(done) == count
    UnitPaths(settings.out_dir, "01", "2", "sub-01_ses-2").segmentation("rescanaffine", settings.segmenter).unlink()
    assert run_all(settings).computed == 1
    assert run_all(replace(settings, measures=("dice",))).computed == 0, "measured again from what is on disk"
    assert set(collect(settings.out_dir).rescan.measure) == {"dice"}


def test_every_segmenter_of_the_study_has_its_rescans_and_a_failure_of_one_leaves_the_other(done, settings, monkeypatch):
    both = replace(settings, segmenter="slant", also=("atlas",))
    assert run_all(both).failures == ()
    collect(both.out_dir)
    rescan = pd.read_csv(both.out_dir / "rescan.tsv", sep="\t")
    again = rescan[rescan.method.isin(RESCAN_GROUPS)]
    assert (again.groupby(["segmenter", "method", "measure"]).size() == 143).all()
    assert set(again.segmenter) == {"slant", "atlas"}
    assert set(load_tables(both.out_dir).rescan.segmenter) == {"slant"}, "tables in memory are of the main segmenter"

    working = segmentations.segment

    def failing(anatomy, name="atlas", params=None):
        if name == "atlas":
            msg = "planted"
            raise RegistrationError(msg)
        return working(anatomy, name, params)

    monkeypatch.setattr("efface.study.segmentations.segment", failing)
    for session in ("1", "2"):
        UnitPaths(both.out_dir, "01", session, f"sub-01_ses-{session}").segmentation("rescanaffine", "atlas").unlink()
    (pair,) = pairs_of(find_scans(both.bids_dir))
    failures = RescanJob(pair, both).run().failures
    assert {(r.method, r.segmenter, r.measure) for r in failures} == {
        (RESCAN_12, "atlas", "segment"),
        (RESCAN_21, "atlas", "segment"),
    }


def test_two_kinds_of_registration_stand_beside_each_other(done, settings):
    run_all(settings)
    run_all(replace(settings, rescan="rigid"))
    rescan = collect(settings.out_dir).rescan
    kinds = rescan.groupby("method").implementation.unique().map(set).to_dict()
    assert kinds[RESCAN_12] == kinds[RESCAN_21] == {"affine", "rigid"}
    assert kinds[RESAMPLED] == {"resample"}
    assert len(rescan[(rescan.method == RESAMPLED) & (rescan.measure == "dice")]) == 143, "once, not once a kind"


def test_a_failed_registration_is_a_row_and_the_other_groups_go_on(done, settings, monkeypatch):
    def failing(*_args):
        msg = "planted"
        raise RegistrationError(msg)

    monkeypatch.setattr("efface.study.resampled_scans.align", failing)
    outcome = run_all(settings)
    assert [(r.method, r.measure, r.reason) for r in outcome.failures] == [
        (RESCAN_12, "register", "planted"),
        (RESCAN_21, "register", "planted"),
    ]
    tables = collect(settings.out_dir)
    assert tables.failures.method.tolist() == [RESCAN_12, RESCAN_21]
    assert set(tables.rescan.method) == {*METHODS, RESAMPLED}
    monkeypatch.undo()
    stand_in(monkeypatch)
    assert run_all(settings).failures == ()


def test_a_session_that_cannot_be_read_fails_all_groups(done, settings):
    find_scans(settings.bids_dir)[1].path.write_bytes(b"nothing")
    outcome = run_all(settings)
    assert [(r.method, r.measure) for r in outcome.failures] == [(g, "load") for g in RESCAN_GROUPS]
    assert collect(settings.out_dir).rescan.empty


def test_a_lost_task_leaves_rows(settings):
    (pair,) = pairs_of(find_scans(settings.bids_dir))
    outcome = RescanJob(pair, settings).lost("the worker died")
    assert {r.reason for r in outcome.failures} == {"the worker died"}
    assert RescanPaths(settings.out_dir, "01", "affine").results.is_file()


def test_an_unknown_kind_of_rescan_is_refused(settings):
    with pytest.raises(InputError, match="deformable"):
        replace(settings, rescan="elastic")


def test_a_study_without_rescans_has_empty_tables_of_the_right_columns(done, settings):
    ScanJob(find_scans(settings.bids_dir)[0], replace(settings, measures=("dice",))).run()
    collect(settings.out_dir)
    tables = load_tables(settings.out_dir)
    assert tables.rescan.empty
    assert tables.volumes.empty
    assert "hd95_mm" in tables.distances.columns
    assert list(tables.rescan.columns) == list(tables.dice.columns)


def test_volumes_and_distances_become_wide_tables(done, settings):
    run_all(settings)
    tables = collect(settings.out_dir)
    for frame, column in ((tables.volumes, "volume_change_ml"), (tables.distances, "hd95_mm")):
        assert len(frame) == 3 * len(METHODS) * 143
        assert frame[frame.region == "whole brain"][column].notna().all()
    whole = tables.volumes[tables.volumes.region == "whole brain"]
    expected = phantom.head().brain.sum() * np.prod(phantom.SPACING_MM) / 1000
    np.testing.assert_allclose(whole.volume_ml, expected, rtol=1e-5)
    assert math.isnan(tables.distances[tables.distances.region == "thalamus"].hd95_mm.iloc[0])


# --- the images ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smooth_scan(tmp_path_factory):
    return load_scan(phantom.write(tmp_path_factory.mktemp("align") / "a.nii.gz", "RAS").path)


def moved(scan, turn, path):
    scan.save_like(resample(scan.volume, scan.grid, turn), path)
    return load_scan(path)


@pytest.mark.parametrize("transform", ["rigid", "affine", "deformable"])
def test_alignment_finds_a_known_move(smooth_scan, tmp_path, transform):
    turn = phantom.rotation(3.0)
    turn[:3, 3] = (2.0, -1.5, 1.0)
    other = moved(smooth_scan, turn, tmp_path / "moved.nii.gz")  # its point x is the scan's point turn(x)
    brain = phantom.head().brain
    found = session_registration.align(other, smooth_scan, brain, transform)
    points = np.argwhere(brain) @ other.affine[:3, :3].T + other.affine[:3, 3]
    assert rms_distance_mm(np.array(found.record["FixedToMoving"]), turn, points) < 0.6
    inner = brain & (np.abs(other.data - found.values) < 20)
    assert inner.sum() > 0.95 * brain.sum()


def test_the_finest_level_is_more_exact(smooth_scan, tmp_path):
    turn = phantom.rotation(2.0)
    brain = phantom.head().brain
    fine = Volume(smooth_scan.data, smooth_scan.affine @ np.diag([0.25, 0.25, 0.25, 1.0]))  # voxels of about 1.1 mm
    there = Volume(resample(fine, fine.grid, turn), fine.affine)
    points = np.argwhere(brain) @ fine.affine[:3, :3].T + fine.affine[:3, 3]
    errors = [
        rms_distance_mm(
            register_affine(there, fine, weight=brain, dof=6, initial=np.eye(4), finest_mm=mm).matrix, turn, points
        )
        for mm in (4.0, 1.0)
    ]
    assert errors[1] < 0.15
    assert errors[1] < errors[0]


def test_sessions_of_nothing_alike_are_refused(smooth_scan, tmp_path):
    noise = np.random.default_rng(0).normal(100, 30, smooth_scan.shape).astype(np.float32)
    smooth_scan.save_like(noise, tmp_path / "noise.nii.gz")
    with pytest.raises(RegistrationError, match="could not be registered"):
        session_registration.align(load_scan(tmp_path / "noise.nii.gz"), smooth_scan, phantom.head().brain, "affine")


def test_the_control_comes_back_to_where_it_was(smooth_scan, tmp_path):
    smooth_scan.save_like(ndimage.gaussian_filter(smooth_scan.data, 1.5), tmp_path / "soft.nii.gz")
    soft = load_scan(tmp_path / "soft.nii.gz")
    first, second = (session_registration.resample_and_back(soft) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    brain = phantom.head().brain
    turn = np.array(first.record["ThereAndBack"])
    points = np.argwhere(brain) @ soft.affine[:3, :3].T + soft.affine[:3, 3]
    assert 1 < rms_distance_mm(turn, np.eye(4), points) < 8
    there = resample(soft.volume, soft.grid, turn)
    off = [np.abs(values - soft.data)[brain].mean() for values in (first.values, there)]
    assert 0 < off[0] < 0.7 * off[1]
