"""A DICOM folder is one scan to `efface deface`: the same face goes, no name and no temporary file stays."""

import json

import nibabel as nib
import numpy as np
import pytest

import bids_dataset
import dicom_series
import phantom
from cli_runner import run
from efface.errors import InputError
from efface.io.dicom import as_image


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def left(folder):
    return list(folder.glob("*/*"))


def test_a_series_is_defaced_as_its_nifti_file_would_be(tmp_path, temporary, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    values = dicom_series.write(tmp_path / "dicom" / "deep")
    words = ("--method", "quickshear", "--mask-out")
    code, said, _ = run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz", *words, tmp_path / "m.nii.gz")
    assert code == 0
    assert "the headers of the DICOM files themselves are out of scope" in said
    phantom.write(tmp_path / "plain.nii.gz", "RAS")
    run(capsys, "deface", tmp_path / "plain.nii.gz", tmp_path / "same.nii.gz", *words, tmp_path / "n.nii.gz")
    made, mask, same = (
        nib.as_closest_canonical(nib.load(tmp_path / name)) for name in ("out.nii.gz", "m.nii.gz", "n.nii.gz")
    )
    np.testing.assert_allclose(made.affine, phantom.head().affine, atol=1e-3)
    keep = np.asarray(mask.dataobj) == 0
    np.testing.assert_array_equal(np.asarray(made.dataobj)[keep], values[keep])
    np.testing.assert_array_equal(mask.dataobj, same.dataobj)
    assert left(temporary) == []


@pytest.mark.parametrize("header", ["scrub", "keep"])
def test_the_patient_is_named_only_where_names_are_kept(tmp_path, capsys, monkeypatch, header):
    bids_dataset.stand_in(monkeypatch)
    dicom_series.write(tmp_path / "dicom")
    words = ("--method", "quickshear", "--header", header)
    assert run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii", *words)[0] == 0
    text = (tmp_path / "out.nii").read_bytes() + (tmp_path / "out.json").read_bytes()
    assert (dicom_series.NAME.encode() in text) == (header == "keep")
    assert (b"Elsewhere" in text) == (header == "keep")
    assert json.loads((tmp_path / "out.json").read_text())["EchoTime"] == 0.003


def test_of_several_series_one_must_be_chosen(tmp_path, temporary, capsys):
    dicom_series.write(tmp_path / "dicom", 3, "t1_mprage")
    dicom_series.write(tmp_path / "dicom", 5, "t1 again")
    code, _, said = run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz")
    assert code == 2
    assert said.count("\n") == 1
    assert "holds 2 series: 3 (t1_mprage), 5 (t1 again); expected one: choose it with --series NUMBER" in said
    with as_image(tmp_path / "dicom", 5) as path:
        assert path.name == "5.nii"
    with pytest.raises(InputError, match=r"has no series 4; it has 3 \(t1_mprage\), 5"), as_image(tmp_path / "dicom", 4):
        pass
    assert left(temporary) == []


@pytest.mark.parametrize("name", [None, "note.txt"])
def test_a_folder_without_dicom_is_refused_in_one_line(tmp_path, temporary, capsys, name):
    (tmp_path / "empty").mkdir()
    if name:
        (tmp_path / "empty" / name).write_text("no image")
    code, _, said = run(capsys, "deface", tmp_path / "empty", tmp_path / "out.nii.gz")
    assert code == 2
    assert said.count("\n") == 1
    assert "is a folder without a DICOM scan that can be converted" in said
    assert left(temporary) == []
    assert not (tmp_path / "out.nii.gz").exists()


def test_what_is_wrong_with_a_series_is_said_of_the_folder(tmp_path, capsys):
    dicom_series.write(tmp_path / "dicom", slices=slice(0, 5))
    code, _, said = run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz")
    assert code == 2
    assert f"{tmp_path / 'dicom'}, series 3 (t1_mprage), has shape (40, 48, 5)" in said
    assert said.count("\n") == 1


def test_a_series_of_a_file_is_refused(tmp_path, capsys):
    path = phantom.write(tmp_path / "in.nii.gz", "RAS").path
    code, _, said = run(capsys, "deface", path, tmp_path / "out.nii.gz", "--series", 3)
    assert code == 2
    assert "--series goes with a folder of DICOM files" in said


def test_a_converter_that_hangs_is_stopped(tmp_path, temporary, monkeypatch):
    (tmp_path / "dicom").mkdir()
    program = tmp_path / "dcm2niix"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr("dcm2niix.bin", str(program))
    monkeypatch.setattr("efface.io.dicom.TIMEOUT_S", 0.2)
    with pytest.raises(InputError, match="took dcm2niix more than 0 s"), as_image(tmp_path / "dicom"):
        pass
    assert left(temporary) == []
