"""What a file says about a person besides the face is gone from what is shared, and nothing else is."""

import gzip
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import bids_dataset
import efface
import phantom
from cli_runner import run
from efface.bids.query import find_scans
from efface.errors import InputError
from efface.io.deidentification import record_of
from efface.io.deidentify import strip_identifying_header
from efface.io.scan import load_scan
from efface.io.sidecar import sidecar_of
from efface.study import Settings
from efface.study.scan_job import ScanJob

NAME = b"DOE^JANE"
TEXT = {1: ("data_type", "db_name", "descrip", "aux_file", "intent_name"), 2: ("descrip", "aux_file", "intent_name")}
HARMLESS = {"EchoTime": 0.003, "RepetitionTime": 2.3, "ImageType": ["ORIGINAL"], "PatientPosition": "HFS"}

SAID = record_of("quickshear", "native", scrubbed=True)


def named(path: Path, version: int = 1, dtype: str = "int16", *, scaled: bool = False, tail: bytes = b"") -> Path:
    """A phantom whose header, extension and tail carry a name."""
    phantom.write(path.with_suffix(".plain"), "LPS", dtype, scaled=scaled, version=version)
    raw = path.with_suffix(".plain").read_bytes()
    path.with_suffix(".plain").unlink()
    image = (nib.Nifti1Image, nib.Nifti2Image)[version - 1].from_bytes(raw)
    for field in TEXT[version]:
        image.header[field] = NAME
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME))
    image = type(image)(image.dataobj.get_unscaled(), image.affine, image.header)
    if scaled:
        image.header.set_slope_inter(*phantom.SCALING)
    data = image.to_bytes() + tail
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["int16", ">i2", "float32"])
@pytest.mark.parametrize("scaled", [False, True])
def test_names_go_and_voxels_grid_and_scaling_stay(tmp_path, version, dtype, scaled):
    path = named(tmp_path / "in.nii", version, dtype, scaled=scaled, tail=NAME)
    scan = load_scan(path)
    assert path.read_bytes().count(NAME) == len(TEXT[version]) + 2
    plain, removed = strip_identifying_header(scan)
    assert removed == (*TEXT[version], "extensions", "bytes after the voxels")
    plain.save(tmp_path / "out.nii")
    assert NAME not in (tmp_path / "out.nii").read_bytes()
    before, after = nib.load(path), nib.load(tmp_path / "out.nii")
    np.testing.assert_array_equal(before.dataobj.get_unscaled(), after.dataobj.get_unscaled())
    gone = {*TEXT[version], "vox_offset"}
    for field in before.header.keys():  # noqa: SIM118 - a NIfTI header is no mapping
        if field not in gone:
            np.testing.assert_array_equal(before.header[field], after.header[field], err_msg=field)
    assert (before.dataobj.slope, before.dataobj.inter) == (after.dataobj.slope, after.dataobj.inter)
    assert load_scan(tmp_path / "out.nii").warnings == ()


def test_a_header_without_text_is_left_as_it_is(tmp_path):
    scan = load_scan(phantom.write(tmp_path / "in.nii.gz", "RAS").path)
    assert strip_identifying_header(scan) == (scan, ())


def test_kept_headers_are_kept(tmp_path):
    scan = load_scan(named(tmp_path / "in.nii"))
    assert strip_identifying_header(scan, "keep") == (scan, ())


def test_another_word_is_refused(tmp_path):
    with pytest.raises(InputError, match="header must be one of scrub, keep; received wash"):
        strip_identifying_header(load_scan(named(tmp_path / "in.nii")), "wash")
    with pytest.raises(InputError, match="received wash"):
        Settings(tmp_path, tmp_path / "out", header="wash")


def test_tags_of_an_mgh_file_go_and_its_scan_parameters_stay(tmp_path):
    plain = phantom.write(tmp_path / "in.mgh", "LPS").path
    raw = bytearray(plain.read_bytes())
    raw[100 : 100 + len(NAME)] = NAME
    plain.write_bytes(raw + bytes(range(20)) + NAME)
    scan = load_scan(plain)
    after = scan.container.after
    cleaned, removed = strip_identifying_header(scan)
    assert removed == ("unused header bytes", "tags")
    cleaned.save(tmp_path / "out.mgh")
    assert NAME not in (tmp_path / "out.mgh").read_bytes()
    assert cleaned.container.after == after[:20]
    again = load_scan(tmp_path / "out.mgh")
    np.testing.assert_array_equal(again.stored_affine, scan.stored_affine)
    np.testing.assert_array_equal(again.stored, scan.stored)


def with_sidecar(folder: Path) -> Path:
    path = named(folder / "in.nii.gz")
    (folder / "in.json").write_text(json.dumps({**HARMLESS, "PatientName": NAME.decode(), "StudyDate": "20200102"}))
    return path


def everything(*paths: Path) -> bytes:
    """All bytes, decompressed."""
    return b"".join(gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in paths)


def test_deface_writes_no_name_and_says_what_it_removed(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    path, out, mask = with_sidecar(tmp_path), tmp_path / "out.nii.gz", tmp_path / "mask.nii.gz"
    other = named(tmp_path / "other.nii.gz")
    words = (
        "deface",
        path,
        out,
        "--method",
        "quickshear",
        "--apply-to",
        other,
        tmp_path / "other_out.nii.gz",
        "--mask-out",
        mask,
    )
    code, said, _ = run(capsys, *words)
    assert code == 0
    assert "header: removed data_type, db_name, descrip, aux_file, intent_name, extensions" in said
    assert "sidecar: removed PatientName, StudyDate" in said
    made = [out, mask, tmp_path / "other_out.nii.gz", tmp_path / "out.json", tmp_path / "other_out.json"]
    assert NAME not in everything(*made)
    assert json.loads((tmp_path / "out.json").read_text()) == {**HARMLESS, **SAID}
    assert json.loads((tmp_path / "other_out.json").read_text()) == SAID
    changed = np.asarray(nib.load(mask).dataobj) != 0
    before, after = (np.asarray(nib.load(p).dataobj) for p in (path, out))
    np.testing.assert_array_equal(before[~changed], after[~changed])
    assert run(capsys, *words)[0] == 2  # nothing is overwritten


def test_deface_keeps_names_only_when_asked(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    path, out = with_sidecar(tmp_path), tmp_path / "out.nii.gz"
    code, said, _ = run(capsys, "deface", path, out, "--method", "quickshear", "--header", "keep")
    assert code == 0
    assert "header: kept with all its text" in said
    assert everything(out).count(NAME) == everything(path).count(NAME)
    kept = json.loads((tmp_path / "in.json").read_text())
    said = {**SAID, "DeidentificationMethod": SAID["DeidentificationMethod"][:1]}
    assert json.loads((tmp_path / "out.json").read_text()) == {**kept, **said}


def test_a_sidecar_of_input_and_output_alike_is_left_alone_with_a_warning(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    path = with_sidecar(tmp_path)
    before = (tmp_path / "in.json").read_bytes()
    code, _, complained = run(capsys, "deface", path, tmp_path / "in.mgz", "--method", "quickshear")
    assert code == 0
    assert "in.json is the sidecar of both images and was left as it is" in complained
    assert (tmp_path / "in.json").read_bytes() == before


def test_two_defaced_images_of_one_sidecar_are_refused_before_anything_is_written(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    path, other, out = with_sidecar(tmp_path), named(tmp_path / "other.nii.gz"), tmp_path / "share"
    out.mkdir()
    words = ("deface", path, out / "a.nii.gz", "--method", "quickshear", "--apply-to", other, out / "a.nii")
    code, _, complained = run(capsys, *words)
    assert code == 2
    assert "two defaced images would have the sidecar" in complained
    assert list(out.iterdir()) == []


def test_a_sidecar_is_never_written_over_that_of_an_input(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    path, other = with_sidecar(tmp_path), named(tmp_path / "other.nii.gz")
    before = (tmp_path / "in.json").read_bytes()
    words = ("deface", other, tmp_path / "in.nii", "--method", "quickshear", "--force", "--apply-to", path)
    code, _, complained = run(capsys, *words, tmp_path / "in_out.nii.gz")
    assert code == 0
    assert (tmp_path / "in.json").read_bytes() == before
    assert "was left as it is" in complained


def test_more_keys_are_kept_when_asked_and_a_misspelled_one_is_a_warning(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    path, out = with_sidecar(tmp_path), tmp_path / "out.nii.gz"
    words = ("deface", path, out, "--method", "quickshear", "--sidecar-keep", "StudyDate", "--sidecar-keep", "studytime")
    code, said, complained = run(capsys, *words)
    assert code == 0
    assert "sidecar: removed PatientName\n" in said
    assert "no sidecar has the key studytime" in complained
    assert json.loads((tmp_path / "out.json").read_text()) == {**HARMLESS, "StudyDate": "20200102", **SAID}


def test_the_mask_in_a_folder_has_the_name_that_bids_gives_it(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    path, share = named(tmp_path / "in.nii.gz"), tmp_path / "share"
    share.mkdir()
    words = ("deface", path, share / "sub-01_run-1_T1w.nii.gz", "--method", "quickshear", "--mask-out", share)
    assert run(capsys, *words)[0] == 0
    made = sorted(one.name for one in share.iterdir())
    assert made == ["sub-01_run-1_T1w.json", "sub-01_run-1_T1w.nii.gz", "sub-01_run-1_mod-T1w_defacemask.nii.gz"]
    code, _, complained = run(capsys, "deface", path, tmp_path / "out.nii.gz", "--mask-out", share)
    assert code == 2
    assert "the mask of out.nii.gz cannot be named by BIDS" in complained
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444])
def test_no_output_has_wider_permissions_than_its_scan(tmp_path, capsys, monkeypatch, mode, umask):
    bids_dataset.stand_in(monkeypatch)
    path, out, mask = with_sidecar(tmp_path), tmp_path / "out.nii.gz", tmp_path / "mask.nii.gz"
    path.chmod(mode)
    old = os.umask(umask)
    try:
        assert run(capsys, "deface", path, out, "--method", "quickshear", "--mask-out", mask)[0] == 0
    finally:
        os.umask(old)
    expected = (mode | 0o600) & ~umask  # the owner can always write what is the owner's
    assert [stat.S_IMODE(one.stat().st_mode) for one in (out, mask, tmp_path / "out.json")] == [expected] * 3


def test_a_compressed_file_names_neither_file_nor_time(tmp_path):
    load_scan(named(tmp_path / "in.nii")).save(tmp_path / "jane_doe.nii.gz")
    head = (tmp_path / "jane_doe.nii.gz").read_bytes()[:10]
    assert head[3] == 0  # flags: no name, no comment
    assert head[4:8] == bytes(4)  # no time


def test_from_python_names_go_too(tmp_path, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    path = named(tmp_path / "in.nii.gz")
    defaced = efface.deface(path, "quickshear")
    assert "descrip" in defaced.removed
    assert NAME not in defaced.image.to_bytes()
    assert NAME in efface.deface(path, "quickshear", header="keep").image.to_bytes()


def test_a_study_writes_no_name_and_records_what_it_removed(tmp_path, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    root = bids_dataset.make(tmp_path / "bids", ["sub-01/ses-1"])
    image = root / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"
    named(image)
    hostile = {"path": 1, "Recipe": {}, "Sources": ["x"], "PatientID": NAME.decode(), "EchoTime": 0.003, "Note": "a"}
    sidecar_of(image).write_text(json.dumps(hostile))
    settings = Settings(root, tmp_path / "out", ("quickshear",), rescan="none", sidecar_keep=("Note",))
    (source,) = find_scans(root)
    assert ScanJob(source, settings).run().failures == ()
    made = [path for path in settings.out_dir.rglob("*") if path.is_file()]
    assert NAME not in everything(*made)
    defaced = settings.out_dir / "sub-01/ses-1/anat/sub-01_ses-1_desc-quickshear_T1w.nii.gz"
    record = json.loads(sidecar_of(defaced).read_text())
    assert record["RemovedFromHeader"] == [*TEXT[1], "extensions"]
    assert record["RemovedFromSidecar"] == ["path", "Recipe", "Sources", "PatientID"]
    assert (record["EchoTime"], record["Note"]) == (0.003, "a")
    assert record["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"]
    assert {key: record[key] for key in SAID} == SAID
    assert record["Recipe"]["header"] == "scrub"
    assert ScanJob(source, settings).run().computed == 0
    assert ScanJob(source, replace(settings, sidecar_keep=())).run().computed > 0
    assert "Note" not in json.loads(sidecar_of(defaced).read_text())
    assert ScanJob(source, replace(settings, header="keep")).run().computed > 0
    assert NAME in everything(defaced)
