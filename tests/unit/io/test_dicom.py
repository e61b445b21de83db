"""A DICOM folder is one scan to `efface deface`: the same face goes, no name and no temporary file stays."""

import json
import stat

import nibabel as nib
import numpy as np
import pydicom
import pytest

import bids_dataset
import dicom_series
import phantom
from cli_runner import run
from efface.errors import InputError
from efface.io.dicom import as_image
from efface.io.scan import load_scan


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


def test_no_output_is_open_to_more_people_than_any_dicom_file(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    dicom_series.write(tmp_path / "dicom" / "deep")
    next((tmp_path / "dicom" / "deep").iterdir()).chmod(0o600)
    words = ("--method", "quickshear", "--mask-out", tmp_path / "m.nii.gz")
    assert run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz", *words)[0] == 0
    for name in ("out.nii.gz", "out.json", "m.nii.gz"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


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
    with as_image(tmp_path / "dicom", 5) as image:
        assert image.path.name == "5.nii"
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
    assert f"{tmp_path / 'dicom'}, series 3 (t1_mprage), shows 180 x 216 x 25 mm (40 x 48 x 5 voxels" in said
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


# Lost slices


def write_without(folder, lost, **fields):
    """A series without some of its slices, with other fields where given: values, or functions of the slice's place."""
    dicom_series.write(folder)
    for place, path in enumerate(sorted(folder.glob("*.dcm"))):
        if place in lost:
            path.unlink()
            continue
        if fields:
            one = pydicom.dcmread(path)
            for name, value in fields.items():
                setattr(one, name, value(one, place) if callable(value) else value)
            one.save_as(path)
    return folder


def moved(by_mm):
    """Image positions moved along the slice axis by some mm at each place."""

    def position(one, place):
        x, y, z = map(float, one.ImagePositionPatient)
        return [x, y, round(z + by_mm(place), 6)]

    return position


GAPS = {
    "one lost": ({20}, {}, ["Interslice distance varies", "Missing images? Expected 43 images", "5 != 10"]),
    "three lost": ({20, 21, 30}, {}, ["Missing images? Expected 41 images", "not equidistant: 5 != 15"]),
    "one lost and numbered anew": (
        {20},
        {"InstanceNumber": lambda _, k: k + 1 - (k > 20)},
        ["distance varies", "5 != 10"],
    ),
    "unequal distances": (set(), {"ImagePositionPatient": moved(lambda k: k * k / 50)}, ["Interslice distance varies"]),
    "distances unequal by little": (
        set(),
        {"ImagePositionPatient": moved(lambda k: 0.3 * (k == 20))},
        ["Interslice distance varies"],
    ),
}


@pytest.mark.parametrize("case", GAPS)
def test_a_series_with_lost_slices_is_refused_with_what_dcm2niix_says(tmp_path, temporary, capsys, case):
    lost, fields, words = GAPS[case]
    write_without(tmp_path / "dicom", lost, **fields)
    for series in ((), ("--series", 3)):
        code, said, error = run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz", *series)
        assert (code, said, error.count("\n")) == (2, "", 1)
        assert f"{tmp_path / 'dicom'}, series 3 (t1_mprage) has lost slices" in error
        assert "--allow-gaps" in error
        assert [word for word in words if word not in error] == []
    assert left(temporary) == []
    assert not (tmp_path / "out.nii.gz").exists()


def test_gaps_that_are_allowed_are_warned_of(tmp_path, temporary, capsys, monkeypatch):
    """The file that dcm2niix interpolates beside the series is not the scan: no voxel of it is in the output."""
    bids_dataset.stand_in(monkeypatch)
    monkeypatch.setattr("efface.anatomy.head_anatomy.brain_mask", lambda data: phantom.head().brain[:, :, 1:])
    write_without(tmp_path / "dicom", {20})
    words = ("--method", "quickshear", "--allow-gaps", "--mask-out", tmp_path / "m.nii.gz")
    code, _, error = run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz", *words)
    assert code == 0
    assert "series 3 (t1_mprage): slices are lost, and the others are taken as equidistant" in error
    assert "dcm2niix: Missing images? Expected 43 images" in error
    out, mask = (nib.as_closest_canonical(nib.load(tmp_path / name)) for name in ("out.nii.gz", "m.nii.gz"))
    kept = np.delete(phantom.head().values, 20, axis=2)
    unedited = np.asarray(mask.dataobj) == 0
    np.testing.assert_array_equal(np.asarray(out.dataobj)[unedited], kept[unedited])
    assert left(temporary) == []


@pytest.mark.parametrize(
    "fields",
    [{}, {"ImagePositionPatient": moved(lambda k: 0.04 * (k % 2))}, {"InstanceNumber": lambda _, k: 7 * k % 44 + 1}],
    ids=["whole", "rounded positions", "numbers in another order"],
)
def test_a_whole_series_is_not_refused(tmp_path, fields):
    write_without(tmp_path / "dicom", set(), **fields)
    with as_image(tmp_path / "dicom") as image:
        assert np.array_equal(load_scan(image.path).data, phantom.head().values)
        assert not any("lost" in warning for warning in image.warnings)


def test_slices_far_apart_are_a_warning(tmp_path):
    """Every second slice is lost: the distances stay equal, and dcm2niix says nothing."""
    write_without(tmp_path / "dicom", set(range(1, 44, 2)))
    with as_image(tmp_path / "dicom") as image:
        assert any("slices of 5 mm lie 10 mm apart: slices may be lost" in warning for warning in image.warnings)


def test_warnings_belong_to_the_series_they_are_about(tmp_path):
    for number in (3, 5, 7):
        dicom_series.write(tmp_path / "dicom", number)
    (tmp_path / "dicom" / "005_020.dcm").unlink()
    for number in (3, 7):
        with as_image(tmp_path / "dicom", number) as image:
            assert not any("Missing" in warning or "equidistant" in warning for warning in image.warnings)
    with pytest.raises(InputError, match=r"series 5 \(t1_mprage\) has lost slices"), as_image(tmp_path / "dicom", 5):
        pass
    with pytest.raises(InputError, match=r"holds 3 series: 3 .*, 5 .*, 7 "), as_image(tmp_path / "dicom"):
        pass


def test_what_dcm2niix_warns_of_reaches_the_user(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    dicom_series.write(tmp_path / "dicom")
    code, _, error = run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz", "--method", "quickshear")
    assert code == 0
    assert f"warning: {tmp_path / 'dicom'}, series 3 (t1_mprage): dcm2niix: Patient Position" in error
    assert "3.nii" not in error


def test_a_cut_file_is_named_where_nothing_can_be_converted(tmp_path, capsys):
    dicom_series.write(tmp_path / "dicom")
    path = tmp_path / "dicom" / "003_020.dcm"
    path.write_bytes(path.read_bytes()[:2000])
    code, _, error = run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz")
    assert code == 2
    assert "File not large enough to store image data" in error or "has lost slices" in error


@pytest.mark.parametrize("pointer", [True, False])
def test_a_slice_that_was_not_fetched_is_refused_with_advice(tmp_path, capsys, pointer):
    dicom_series.write(tmp_path / "dicom")
    path = tmp_path / "dicom" / "003_020.dcm"
    path.unlink()
    if pointer:
        path.write_text("/annex/objects/MD5E-s4000--d41d8cd98f00b204e9800998ecf8427e.dcm\n")
    else:
        path.symlink_to("../.git/annex/objects/xx/yy/MD5E-s4000--d41d8/MD5E-s4000--d41d8")
    code, _, error = run(capsys, "deface", tmp_path / "dicom", tmp_path / "out.nii.gz", "--allow-gaps")
    assert code == 2
    assert f"`git annex get {path}`" in error
