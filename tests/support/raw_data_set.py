"""A raw BIDS data set of phantoms with everything that a lab has in one, and stand-ins for what looks at a head."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import phantom
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import Edit
from efface.share import ShareSettings, run, session_task
from efface.share.decisions import Decision
from efface.share.records import Became
from efface.study.backends import Local

FACE = (slice(None), slice(38, None), slice(0, 26))
"""Voxels of the phantom in RAS+ that the stand-ins remove: its face."""
SIDECAR = {
    "EchoTime": 0.003,
    "MagneticFieldStrength": 3,
    "PatientName": "Miller^Anna",
    "AcquisitionDateTime": "2019-03-01T10:00:00",
}


def write_image(path: Path, orientation: str = "RAS", *, volumes: int = 0, suffix_json: bool = True) -> None:
    """A phantom as an image of the data set; as a series where it has volumes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = phantom.reorient(phantom.head().values.astype(np.int16), orientation)
    if volumes:
        values = np.stack([values + np.int16(number) for number in range(volumes)], axis=-1)
    image = nib.Nifti1Image(values, phantom.stored_affine(orientation))
    image.header["descrip"] = b"Miller^Anna"
    if volumes:
        image.header.set_zooms((*image.header.get_zooms()[:3], 2.0))
        image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    if suffix_json:
        content = {**SIDECAR, **({"RepetitionTime": 2.0, "TaskName": "rest"} if volumes else {})}
        path.with_name(f"{path.name.partition('.')[0]}.json").write_text(json.dumps(content))


def make(root: Path) -> Path:
    """Two subjects: one with sessions, one without; series, parts, tables, and what is no raw BIDS."""
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Trial", "BIDSVersion": "1.9.0"}))
    (root / "README").write_text("A data set of phantoms.\n")
    (root / "CHANGES").write_text("1.2.3 2020-01-01\n  - First.\n")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t40\nsub-02\t50\nsub-99\t60\n")
    (root / "task-rest_bold.json").write_text(json.dumps({"EchoTime": 0.03, "InstitutionName": "Hospital"}))
    write_image(root / "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz")
    write_image(root / "sub-01/ses-a/anat/sub-01_ses-a_FLAIR.nii.gz", "LPS")
    write_image(root / "sub-01/ses-a/func/sub-01_ses-a_task-rest_bold.nii.gz", volumes=5)
    write_image(root / "sub-01/ses-a/func/sub-01_ses-a_task-rest_part-phase_bold.nii.gz", volumes=5)
    (root / "sub-01/ses-a/func/sub-01_ses-a_task-rest_events.tsv").write_text("onset\tduration\n1\t2\n")
    (root / "sub-01/ses-a/sub-01_ses-a_scans.tsv").write_text(
        "filename\tacq_time\n"
        "anat/sub-01_ses-a_T1w.nii.gz\t2019-03-01T10:00:00\n"
        "anat/sub-01_ses-a_FLAIR.nii.gz\t2019-03-01T10:10:00\n"
    )
    (root / "sub-01/sub-01_sessions.tsv").write_text("session_id\tacq_time\tage\nses-a\t2019-03-01T09:00:00\t40\n")
    write_image(root / "sub-02/anat/sub-02_T1w.nii.gz")
    for name in ("sourcedata/sub-01/scan.dcm", "derivatives/other/sub-01_T1w.nii.gz", "code/run.py", "notes.docx"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("no raw BIDS")
    (root / "sub-02/anat/sub-02_T2w.nii.gz").symlink_to("/nowhere/annexed")
    return root


def face_edit(scan) -> Edit:
    """The edit that the stand-ins plan."""
    mask = np.zeros(scan.shape, bool)
    mask[FACE] = True
    return Edit(mask, 0.0, "pydeface")


def face_of(path: Path) -> np.ndarray:
    """Intensities where the face of a phantom is, RAS+."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj)[FACE]


def decided(image, *_more) -> Decision:
    """Every face is found and removed."""
    found = {"rank": 432, "among": 1001, "reason": ""}
    evidence = {"left_face": {"answer": "no face"}, "quality": {"score": 0.1, "singled_out": found}}
    return Decision(Became.DEFACED, "", "Success", face_edit(image.scan), evidence)


def stand_in(monkeypatch) -> None:
    """Replace what looks at heads, and the worker processes."""
    monkeypatch.setattr(session_task, "decide_reference", lambda image, *_: (HeadAnatomy(image.scan), decided(image)))
    monkeypatch.setattr(session_task, "decide_carried", decided)
    monkeypatch.setattr(run, "_outcomes", lambda _executor, todo: (task.run() for task in todo))


def share_all(raw: Path, out: Path) -> None:
    """Share a data set with the stand-ins, in whatever process this is."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        run.share(ShareSettings(raw, out), backend=Local(1))
