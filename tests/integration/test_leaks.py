"""A study tells neither where nor by whom it was made, shows no undefaced face, and can be moved."""

import getpass
import json
import re
import shutil
import socket
import stat
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import bids_dataset
from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.bids.query import find_scans
from efface.io.sidecar import sidecar_of
from efface.report import build_report
from efface.review.session import Session
from efface.spatial.registration import AffineResult
from efface.study import Settings, Study, collect
from efface.study.rescan_job import RescanJob, pairs_of
from efface.study.scan_job import ScanJob

PICTURES = (".gz", ".png")


def run_study(settings):
    Study(settings)._prepare_output()
    sources = find_scans(settings.bids_dir)
    for source in sources:
        ScanJob(source, settings).run()
    for pair in pairs_of(sources):
        RescanJob(pair, settings).run()
    collect(settings.out_dir)
    build_report(settings.out_dir)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study in folders with telling names; one scan cannot be read, and a parameter names a folder."""
    root = tmp_path_factory.mktemp("jdoe at hospital")
    with pytest.MonkeyPatch.context() as monkeypatch:
        bids_dataset.stand_in(monkeypatch)
        monkeypatch.setenv("XDG_STATE_HOME", str(root / "state"))
        found = AffineResult(np.eye(4), 0.9, converged=True, reason="", dof=12, starts=1)
        monkeypatch.setattr("efface.study.session_registration.register_affine", lambda *_args, **_options: found)
        bids_dir = bids_dataset.make(root / "raw", ["sub-01/ses-1", "sub-01/ses-2", "sub-02", "sub-03"])
        odd = bids_dir / "sub-02/anat/sub-02_T1w.nii.gz"
        odd.write_bytes(b"nothing")
        warned = bids_dir / "sub-03/anat/sub-03_T1w.nii.gz"
        image = nib.load(warned)
        moved = image.affine.copy()
        moved[0, 3] += 5
        image.set_qform(moved, 1)
        nib.save(image, warned)
        sidecar_of(warned).write_text(json.dumps({"EchoTime": 0.003, "SourceFile": str(root)}))
        (root / "weights").mkdir()
        params = {"slant": {"weights": str(root / "weights")}}
        settings = Settings(bids_dir, root / "out", ("quickshear",), segmenter_params=params)
        run_study(settings)
    return settings


def texts(folder):
    return {
        path: path.read_text(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in PICTURES
    }


def test_no_text_names_a_path_the_user_or_the_machine(made):
    found = texts(made.out_dir)
    assert {path.suffix for path in found} >= {".json", ".tsv", ".html", ".svg"}
    root = made.bids_dir.parent
    telling = [str(root), root.name, str(Path.home()), "jdoe", "/tmp/"]
    words = [re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])") for name in (socket.gethostname(),)]
    words += [re.compile(rf"/{re.escape(getpass.getuser())}\b")]
    for path, text in found.items():
        plain = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
        assert [name for name in telling if name in plain] == [], path
        assert [word.pattern for word in words if word.search(plain)] == [], path


def test_sources_links_and_reasons_are_uris(made):
    paths = UnitPaths(made.out_dir, "03", None, "sub-03")
    record = json.loads(sidecar_of(paths.defaced("quickshear")).read_text())
    assert record["Sources"] == ["bids:raw:sub-03/anat/sub-03_T1w.nii.gz"]
    (warning,) = record["Warnings"]
    assert warning.startswith("bids:raw:sub-03/anat/sub-03_T1w.nii.gz: sform and qform disagree")
    assert record["RemovedFromSidecar"] == ["SourceFile"]
    description = json.loads(GroupPaths(made.out_dir).description.read_text())
    assert description["DatasetLinks"] == {"raw": "../raw"}
    assert description["Efface"]["SlantWeights"] == "weights"
    failures = GroupPaths(made.out_dir).failures.read_text()
    assert "bids:raw:sub-02/anat/sub-02_T1w.nii.gz" in failures
    labels = json.loads(sidecar_of(paths.segmentation("original", "slant")).read_text())
    assert labels["Recipe"]["params"] == {"weights": "weights"}
    report = GroupPaths(made.out_dir).report.read_text()
    assert "efface study BIDS_DIR OUT_DIR participant" in report


def test_no_image_in_the_study_is_an_undefaced_head(made):
    """Every image with as many grey values as a head is a defaced one, and differs from its original in the face."""
    originals = {scan.stem: scan.path for scan in find_scans(made.bids_dir)}
    heads = []
    for path in made.out_dir.rglob("*.nii.gz"):
        image = nib.load(path)
        if len(np.unique(np.asarray(image.dataobj))) < 20:
            continue
        heads.append(path.name)
        assert "_desc-quickshear_T1w" in path.name
        before = nib.load(originals[path.name.partition("_desc-")[0]])
        assert (np.asarray(before.dataobj) != np.asarray(image.dataobj)).any()
    assert len(heads) == 3


def test_every_defaced_scan_says_how_it_was_deidentified(made):
    sidecars = [sidecar_of(path) for path in made.out_dir.rglob("*_desc-quickshear_T1w.nii.gz")]
    assert len(sidecars) == 3
    for sidecar in sidecars:
        record = json.loads(sidecar.read_text())
        assert [code["CodeValue"] for code in record["DeidentificationMethodCodeSequence"]] == ["113102"]
        assert "quickshear (native implementation)" in record["DeidentificationMethod"][0]


def test_the_review_finds_originals_from_any_folder_and_after_a_move(made, tmp_path, monkeypatch):
    shutil.copytree(made.bids_dir.parent, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere/out")
    for folder in (made.out_dir, tmp_path / "elsewhere/out", Path()):
        cases = Session(folder).cases.values()
        assert len(cases) == 3
        for case in cases:
            original, why = case.original()
            assert why == ""
            assert original.is_file()
            assert original.is_relative_to(folder.resolve().parent / "raw")


def test_a_moved_study_goes_on_where_it_was(made, tmp_path, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    shutil.copytree(made.bids_dir.parent, tmp_path / "elsewhere", copy_function=shutil.copy2)
    there = tmp_path / "elsewhere"
    params = {"slant": {"weights": str(there / "weights")}}
    moved = replace(made, bids_dir=there / "raw", out_dir=there / "out", segmenter_params=params)
    for source in find_scans(moved.bids_dir):
        if source.subject != "02":
            assert ScanJob(source, moved).is_up_to_date(), source.stem
    (pair,) = pairs_of(find_scans(moved.bids_dir))
    assert RescanJob(pair, moved).is_up_to_date()


def test_a_study_without_its_data_set_says_what_to_do(made, tmp_path):
    shutil.copytree(made.out_dir, tmp_path / "out")
    case = next(iter(Session(tmp_path / "out").cases.values()))
    original, why = case.original()
    assert original is None
    assert "correct DatasetLinks" in why


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_no_file_of_a_study_is_open_to_more_people_than_its_scan(tmp_path, monkeypatch, mode):
    bids_dataset.stand_in(monkeypatch)
    bids_dir = bids_dataset.make(tmp_path / "bids", ["sub-01"])
    for scan in find_scans(bids_dir):
        scan.path.chmod(mode)
    settings = Settings(bids_dir, tmp_path / "out", ("quickshear",))
    run_study(settings)
    made_of_scans = [
        path
        for path in settings.out_dir.rglob("*")
        if path.is_file() and path.name != "dataset_description.json"
    ]  # fmt: skip
    assert len(made_of_scans) > 20
    for path in made_of_scans:
        assert stat.S_IMODE(path.stat().st_mode) & ~mode == 0, path
    build_report(settings.out_dir, include_originals=True)
    shown = [path for pattern in ("*report.html", "*.png", "*.svg") for path in settings.out_dir.rglob(pattern)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in shown} == {0o600}
