"""Rescans: pairs, grids, registration of known moves, rows, resume, failures, and what the group level makes of them."""

import contextlib
import json
import math
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

import bids_dataset
import phantom
from efface.bids.derivatives import RescanPaths, UnitPaths, private_folder
from efface.bids.query import find_scans
from efface.errors import InputError, OutputError, RegistrationError
from efface.io.scan import load_scan
from efface.spatial.pose_search import rms_distance_mm
from efface.spatial.registration import AffineResult, register_affine
from efface.spatial.resampling import resample
from efface.spatial.types import Volume
from efface.study import Settings, Study, collect, load_tables, segmentations, session_registration
from efface.study.executor import Outcome
from efface.study.halfway_job import HalfwayJob
from efface.study.native_volumes import UNREGISTERED
from efface.study.output_folder import make_output_folder, make_private_folder, remove_undefaced
from efface.study.resampled_scans import kept_path
from efface.study.rescan_job import (
    HALFWAY_GROUPS,
    RESAMPLED,
    RESCAN_12,
    RESCAN_21,
    RESCAN_GROUPS,
    RescanJob,
    pairs_of,
)
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


def run_all(settings):
    sources = find_scans(settings.bids_dir)
    Study(settings)._prepare_output()
    for scan in sources:
        ScanJob(scan, settings).run()
    (pair,) = pairs_of(sources)
    return RescanJob(pair, settings).run()


def test_every_group_has_all_rows_and_images_on_the_grid_of_the_target(done, settings):
    settings = replace(settings, keep_rescans=True)
    outcome = run_all(settings)
    assert outcome.failures == ()
    assert outcome.computed == 6
    tables = collect(settings.out_dir)
    assert tables.failures.empty
    rescan = tables.rescan
    assert list(rescan.method.drop_duplicates()) == [*METHODS, *RESCAN_GROUPS, UNREGISTERED]
    assert set(rescan.subject) == {"01"}
    sizes = rescan.groupby(["measure", "method"]).size()
    assert (sizes["dice"] == 144).all()
    assert UNREGISTERED not in sizes["dice"], "no common grid, no Dice"
    assert (sizes.drop("dice") == 143).all()
    scans = rescan.drop_duplicates("method").set_index("method").scan
    assert scans[RESCAN_21] == scans[RESAMPLED] == scans["pydeface"] == "sub-01_ses-1"
    assert scans[RESCAN_12] == "sub-01_ses-2"
    first, second = (nib.load(s.path) for s in find_scans(settings.bids_dir)[:2])
    for session, target in (("1", second), ("2", first)):
        paths = UnitPaths(settings.out_dir, "01", session, f"sub-01_ses-{session}")
        for path in (kept_path(paths, "rescanaffine"), paths.segmentation("rescanaffine", settings.segmenter)):
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
    assert run_all(settings).computed == 2, "the image, which is not on the disk, and its labels"
    assert run_all(replace(settings, measures=("dice",))).computed == 0, "measured again from what is on disk"
    assert set(collect(settings.out_dir).rescan.measure) == {"dice"}


def test_every_segmenter_of_the_study_has_its_rescans_and_a_failure_of_one_leaves_the_other(done, settings, monkeypatch):
    both = replace(settings, segmenter="slant", also=("atlas",))
    assert run_all(both).failures == ()
    collect(both.out_dir)
    rescan = pd.read_csv(both.out_dir / "rescan.tsv", sep="\t")
    again = rescan[rescan.method.isin(RESCAN_GROUPS)]
    assert (again[again.level != "pooled"].groupby(["segmenter", "method", "measure"]).size() == 143).all()
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


IMAGES = [
    "sub-01/ses-1/anat/sub-01_ses-1_desc-resampled_T1w.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_desc-rescanaffine_T1w.nii.gz",
    "sub-01/ses-2/anat/sub-01_ses-2_desc-rescanaffine_T1w.nii.gz",
]


def undefaced(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*_desc-res*_T1w*"))


def test_resampled_scans_are_not_written_and_a_study_without_them_goes_on(done, settings, monkeypatch):
    run_all(settings)
    assert undefaced(settings.out_dir) == []
    assert not private_folder(settings.out_dir).exists()
    made = []
    real = session_registration.resample_and_back
    monkeypatch.setattr("efface.study.resampled_scans.resample_and_back", lambda scan: made.append(1) or real(scan))
    first = UnitPaths(settings.out_dir, "01", "1", "sub-01_ses-1")
    record = json.loads(first.registration(RESAMPLED).read_text())
    assert record["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"] * 2
    assert run_all(replace(settings, measures=("dice",))).computed == 0, "only measured again: no image is needed"
    assert made == []
    labels = first.segmentation(RESAMPLED, settings.segmenter)
    before = labels.read_bytes()
    labels.unlink()
    assert run_all(settings).failures == ()
    assert made == [1], "made again, for this one segmentation"
    assert labels.read_bytes() == before
    assert json.loads(first.registration(RESAMPLED).read_text()) == record


def test_kept_rescans_are_beside_the_study_and_closed_to_others(done, settings):
    kept = replace(settings, keep_rescans=True)
    make_output_folder(kept.bids_dir, kept.out_dir)
    make_private_folder(kept.out_dir)
    assert run_all(kept).failures == ()
    private = private_folder(kept.out_dir)
    assert undefaced(kept.out_dir) == []
    assert undefaced(private) == IMAGES
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {stat.S_IMODE((private / name).stat().st_mode) for name in IMAGES} == {0o600}
    assert run_all(kept).computed == 0
    (private / IMAGES[0]).unlink()
    assert run_all(kept).computed == 1, "what was asked to be kept is made again"
    assert undefaced(private) == IMAGES
    shutil.rmtree(private)
    assert run_all(settings).computed == 0, "without the option they are not missed"


def test_a_folder_of_the_private_name_that_is_none_is_refused(settings):
    make_output_folder(settings.bids_dir, settings.out_dir)
    private_folder(settings.out_dir).symlink_to(settings.bids_dir)
    with pytest.raises(OutputError, match="no folder of yours"):
        make_private_folder(settings.out_dir)


def test_undefaced_scans_of_an_earlier_version_are_removed_before_a_study_goes_on(done, settings):
    for name in (*IMAGES, ".sub-01_ses-1_desc-resampled_T1w.nii.gz.0123abcd.tmp"):
        path = settings.out_dir / "sub-01/ses-1/anat" / Path(name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a face")
    path.with_name("sub-01_ses-1_desc-resampled_T1w.json").write_text("{}")
    other = path.with_name("sub-01_ses-1_desc-pydeface_T1w.nii.gz")
    other.write_bytes(b"no face")
    assert remove_undefaced(settings.out_dir) == 4
    assert list(path.parent.iterdir()) == [other]


@pytest.mark.parametrize("keep", [False, True])
def test_a_run_removes_what_shows_a_face_and_makes_the_private_folder_only_when_asked(settings, monkeypatch, keep):
    old = settings.out_dir / IMAGES[0]
    old.parent.mkdir(parents=True)
    old.write_bytes(b"a face")
    monkeypatch.setattr(Study, "_run", lambda *_args: "ran")
    assert Study(replace(settings, keep_rescans=keep)).run(jobs=1) == "ran"
    assert not old.exists()
    assert private_folder(settings.out_dir).exists() == keep


def test_two_kinds_of_registration_stand_beside_each_other(done, settings):
    run_all(settings)
    run_all(replace(settings, rescan="rigid"))
    rescan = collect(settings.out_dir).rescan
    kinds = rescan.groupby("method").implementation.unique().map(set).to_dict()
    assert kinds[RESCAN_12] == kinds[RESCAN_21] == {"affine", "rigid"}
    assert kinds[RESAMPLED] == {"resample"}
    assert len(rescan[(rescan.method == RESAMPLED) & (rescan.measure == "dice")]) == 144, "once, not once a kind"


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
    assert set(tables.rescan.method) == {*METHODS, RESAMPLED, UNREGISTERED}
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


# --- half-way between the sessions -----------------------------------------------------------------------------------


HALFWAY_IMAGES = [
    "sub-01/ses-1/anat/sub-01_ses-1_desc-halfway_T1w.nii.gz",
    "sub-01/ses-1/anat/sub-01_ses-1_desc-halfwayresampled_T1w.nii.gz",
    "sub-01/ses-2/anat/sub-01_ses-2_desc-halfway_T1w.nii.gz",
]


def run_halfway(settings):
    (pair,) = pairs_of(find_scans(settings.bids_dir))
    return HalfwayJob(pair, replace(settings, rescan="halfway")).run()


def test_sessions_are_compared_half_way_beside_the_papers_rescans(done, settings):
    run_all(settings)
    count = len(done)
    outcome = run_halfway(settings)
    assert outcome.failures == ()
    assert len(done) - count == 3, "both sessions and the control, each segmented once"
    assert run_halfway(settings).computed == 0
    rescan = collect(settings.out_dir).rescan
    assert list(rescan.method.drop_duplicates()) == [*METHODS, *RESCAN_GROUPS, *HALFWAY_GROUPS, UNREGISTERED]
    sizes = rescan[rescan.measure == "dice"].groupby(["method", "implementation"]).size()
    assert sizes["rescan-halfway", "halfway"] == sizes["resampled-halfway", "resample"] == 144
    scans = rescan.drop_duplicates("method").set_index("method").scan
    assert scans["rescan-halfway"] == "sub-01_ses-2"
    assert scans["resampled-halfway"] == "sub-01_ses-1"
    for name in HALFWAY_IMAGES:
        record = json.loads((settings.out_dir / name.replace("T1w.nii.gz", "registration.json")).read_text())
        assert record["Registration"]["Transform"] == "halfway"
        assert len(record["Sources"]) == 2


def test_half_way_alone_is_a_rescan_too(done, settings):
    for scan in find_scans(settings.bids_dir):
        ScanJob(scan, settings).run()
    Study(replace(settings, rescan="halfway"))._prepare_output()
    assert run_halfway(settings).failures == ()
    rescan = collect(settings.out_dir).rescan
    assert list(rescan.method.drop_duplicates()) == [*METHODS, *HALFWAY_GROUPS, UNREGISTERED]
    assert set(rescan[rescan.method.isin(METHODS)].scan) == {"sub-01_ses-1"}
    statistics = load_tables(settings.out_dir).statistics
    compared = statistics[(statistics.test == "superiority") & (statistics.measure == "dice")]
    assert set(compared.reference) == {"rescan (halfway)"}
    assert set(compared.method) == {*METHODS, "resampled-halfway"}


def test_half_way_scans_are_kept_in_the_private_folder_only_and_only_when_asked(done, settings):
    run_all(settings)
    assert run_halfway(settings).failures == ()
    assert not list(settings.out_dir.rglob("*halfway*_T1w*"))
    assert not private_folder(settings.out_dir).exists()
    kept = replace(settings, keep_rescans=True)
    make_private_folder(settings.out_dir)
    assert run_halfway(kept).failures == ()
    private = private_folder(settings.out_dir)
    assert not list(settings.out_dir.rglob("*halfway*_T1w*"))
    assert sorted(str(p.relative_to(private)) for p in private.rglob("*halfway*")) == HALFWAY_IMAGES
    assert {stat.S_IMODE((private / name).stat().st_mode) for name in HALFWAY_IMAGES} == {0o600}
    leftover = settings.out_dir / HALFWAY_IMAGES[1]
    leftover.write_bytes(b"a face")
    assert remove_undefaced(settings.out_dir) == 1


def test_labels_that_are_missing_are_made_again_from_the_same_image(done, settings):
    run_all(settings)
    run_halfway(settings)
    path = UnitPaths(settings.out_dir, "01", "2", "sub-01_ses-2").segmentation("halfway", settings.segmenter)
    before = path.read_bytes()
    path.unlink()
    count = len(done)
    assert run_halfway(settings).failures == ()
    assert len(done) == count + 1
    assert path.read_bytes() == before


def test_sessions_that_do_not_fit_fail_both_groups_half_way(done, settings, monkeypatch):
    run_all(settings)
    failed = AffineResult(np.eye(4), 0.1, converged=False, reason="planted", dof=6, starts=1)
    monkeypatch.setattr("efface.study.session_registration.register_affine", lambda *_args, **_options: failed)
    failures = run_halfway(settings).failures
    assert [(r.method, r.measure) for r in failures] == [(group, "register") for group in HALFWAY_GROUPS]
    assert all("planted" in r.reason for r in failures)


@pytest.mark.parametrize(("kind", "job"), [("halfway", HalfwayJob), ("rigid", RescanJob)])
def test_a_study_runs_the_kind_of_rescan_that_is_asked_for(settings, monkeypatch, kind, job):
    seen = []

    def outcomes(_executor, jobs):
        seen.extend(jobs)
        return [Outcome(one.name, (), 0) for one in jobs]

    monkeypatch.setattr("efface.study.run.Executor", lambda _backend: contextlib.nullcontext())
    monkeypatch.setattr("efface.study.run._outcomes", outcomes)
    Study(replace(settings, rescan=kind)).run(jobs=1)
    assert type(seen[-1]) is job
    assert seen[-1].name == f"sub-01 rescan ({kind})"
    assert seen[-1].results.name == f"sub-01_desc-{kind}_rescan.tsv"
