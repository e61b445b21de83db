"""The audit finds what may name somebody, misses no file, and fails closed."""

import json
import math

import nibabel as nib
import numpy as np
import pytest

import average_head
from cli_runner import run
from efface.audit.files import find_images
from efface.audit.images import AuditRecord, audit_image
from efface.audit.names import header_traces, name_traces, sidecar_traces
from efface.audit.run import audit_images
from efface.errors import InputError
from efface.io.scan import load_scan
from efface.quality.left_face import FaceAnswer, LeftFace

CLEAN = LeftFace(FaceAnswer.NO_FACE, 0.1, (), "neither eyes, nose nor mouth are left")


def image_with(**fields):
    image = nib.Nifti1Image(np.arange(40**3, dtype=np.int16).reshape(40, 40, 40), np.diag([3.0, 3, 3, 1]))
    for name, text in fields.items():
        image.header[name] = text
    return image


def unreadable(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no image")
    return path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sub-01/anat/sub-01_T1w.nii.gz", ()),
        ("sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz", ()),
        ("DOE^JANE/T1.nii.gz", ("folder name",)),
        ("sub-20200102/T1_20200102.nii", ("folder name", "file name")),
        ("2019-03-05 T1.mgz", ("file name",)),
        ("1.2.840.113619.2.5.1762583153.nii", ("file name",)),
        ("Doe, Jane.nii", ("file name",)),
        ("mrn12345.nii", ("file name",)),
        ("sub-12345678_T1w.nii.gz", ()),  # no date: month 56
        ("sub-emrn01/anat/T1w.nii", ()),
    ],
)
def test_names_and_dates_in_paths_are_found(name, found):
    assert name_traces(name) == found


def test_text_in_headers_is_found_but_for_names_of_programs():
    assert header_traces(load_scan(image_with(descrip=b"Doe^Jane"))) == ("descrip",)
    assert header_traces(load_scan(image_with(descrip=b"FSL5.0", aux_file=b"none"))) == ()
    assert header_traces(load_scan(image_with(descrip=b"6.0.5:9e026117"))) == ()
    assert header_traces(load_scan(image_with(descrip=b"FSL5.0\0Jane"))) == ("descrip",)
    assert header_traces(load_scan(image_with())) == ()


def test_header_extensions_are_found():
    image = image_with()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    assert header_traces(load_scan(image)) == ("extensions",)


def test_keys_of_sidecars_are_named_and_their_values_never(tmp_path):
    path = tmp_path / "T1w.json"
    content = {
        "EchoTime": 0.003,
        "PatientName": "Doe^Jane",
        "AcquisitionTime": "10:30",
        "Jane Doe": 1,
        "SkullStripped": False,
    }
    path.write_text(json.dumps(content))
    found = sidecar_traces(path)
    assert found == ("PatientName", "AcquisitionTime", "a key that is no plain word")
    assert "Doe" not in str(found)


@pytest.mark.parametrize("text", ["{", "[1]", "1"])
def test_a_sidecar_that_cannot_be_read_is_no_clean_one(tmp_path, text):
    path = tmp_path / "T1w.json"
    path.write_text(text)
    assert len(sidecar_traces(path)) == 1


def test_a_record_of_deidentification_is_clean_without_traces(tmp_path):
    path = tmp_path / "T1w.json"
    path.write_text(json.dumps({"DeidentificationMethod": ["efface 0.1.0: face removed by quickshear"]}))
    assert sidecar_traces(path) == ()
    path.write_text(json.dumps({"DeidentificationMethod": ["by Jane on 2020-01-02"]}))
    assert sidecar_traces(path) == ("DeidentificationMethod",)


def test_every_image_below_a_folder_is_listed_once_and_links_are_followed(tmp_path):
    for name in ("b/two.mgz", "a/one.nii.gz", "a/.git/hidden.nii", "a/notes.txt"):
        unreadable(tmp_path / name)
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "broken.nii").symlink_to(tmp_path / "nowhere.nii")
    outside = unreadable(tmp_path.parent / f"{tmp_path.name}-other" / "three.nii")
    (tmp_path / "c").symlink_to(outside.parent)
    found = find_images(tmp_path)
    assert [image.name for image in found] == ["a/broken.nii", "a/one.nii.gz", "b/two.mgz", "c/three.nii"]
    assert [bool(image.problem) for image in found] == [True, False, False, False]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image"):
        find_images(tmp_path)


def test_what_cannot_be_read_is_not_clean(tmp_path):
    records = list(audit_images([*find_images(unreadable(tmp_path / "x.nii"))]))
    assert [record.face.answer for record in records] == [FaceAnswer.CANNOT_TELL]
    assert not records[0].is_clean
    assert math.isnan(records[0].face.score)
    assert str(tmp_path) not in json.dumps(records[0].to_json())


def test_a_trace_alone_is_not_clean():
    assert AuditRecord("x.nii", CLEAN, ()).is_clean
    assert not AuditRecord("x.nii", CLEAN, audit_image(find_images_of("DOE^J.nii")).traces).is_clean


def find_images_of(name):
    from pathlib import Path

    from efface.audit.files import FoundImage

    return FoundImage(Path(name), name, "a symbolic link to a file that is not here")


def test_the_command_fails_closed_and_writes_one_record_an_image(tmp_path, capsys):
    unreadable(tmp_path / "data" / "x.nii.gz")
    (tmp_path / "data" / "y.nii").symlink_to(tmp_path / "nowhere.nii")
    code, said, _ = run(capsys, "audit", tmp_path / "data", "--json", tmp_path / "out.json")
    assert code == 1
    content = json.loads((tmp_path / "out.json").read_text())
    assert [image["face"] for image in content["images"]] == ["cannot tell", "cannot tell"]
    assert content["clean"] is False
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()
    assert "0 clean, 2 to look at" in said


def test_of_a_series_the_mean_is_looked_at_and_its_header(tmp_path):
    whole = average_head.volume(3.0)
    data = np.rint(whole.data).astype(np.int16)
    image = nib.Nifti1Image(np.stack([data, data], axis=-1), whole.affine)
    image.header["descrip"] = b"Doe^Jane"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^Jane"))
    nib.save(image, tmp_path / "bold.nii.gz")
    record = audit_image(find_images(tmp_path)[0])
    assert record.face.answer is FaceAnswer.FACE
    assert {trace.what.split()[0] for trace in record.traces} >= {"descrip"}
    assert len(record.traces) == 2, record.traces
    assert "mean of 2 volumes" in record.warnings[0]


def test_what_is_not_there_is_a_usage_error(tmp_path, capsys):
    assert run(capsys, "audit", tmp_path / "nowhere")[0] == 2
    assert run(capsys, "audit", unreadable(tmp_path / "x.nii"), "--jobs", 0)[0] == 2


def test_a_face_is_found_and_drawn(tmp_path, capsys):
    whole = average_head.volume(3.0)
    nib.save(nib.Nifti1Image(np.rint(whole.data).astype(np.int16), whole.affine), tmp_path / "head.nii.gz")
    code, said, _ = run(capsys, "audit", tmp_path / "head.nii.gz", "--pictures", tmp_path / "pictures")
    assert code == 1
    assert "head.nii.gz: face" in said
    assert (tmp_path / "pictures" / "head.nii.gz.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_is_no_image_by_its_name_is_refused(tmp_path):
    table = tmp_path / "audit.tsv"
    table.write_text("a\tb\n")
    with pytest.raises(InputError, match=r"audit\.tsv is no image by its name; expected a file that ends in \.nii,"):
        find_images(table)
