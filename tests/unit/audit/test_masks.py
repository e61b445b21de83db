"""Masks in an audit are judged in the pose of the image that they go with."""

import nibabel as nib
import numpy as np
import pytest

from efface.audit import masks
from efface.audit.files import find_images
from efface.audit.images import audit_image
from efface.audit.masks import image_of_mask
from efface.quality.left_face import FaceAnswer, LeftFace

SAID = LeftFace(FaceAnswer.NO_FACE, 0.1, (), "looked at as a mask")


def write(path, values, side=3.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([side, side, side, 1])), path)


@pytest.fixture
def data_set(tmp_path, monkeypatch):
    """A defaced image with its mask; whoever looks at a mask says so."""
    monkeypatch.setattr(masks, "find_face_in_mask", lambda *_: SAID)
    values = np.arange(40**3, dtype=np.int16).reshape(40, 40, 40)
    write(tmp_path / "sub-01/anat/sub-01_run-1_T1w.nii.gz", values)
    write(tmp_path / "sub-01/anat/sub-01_run-1_mod-T1w_defacemask.nii.gz", (values > 500).astype(np.uint8))
    return tmp_path


def audited(folder, end):
    image = next(image for image in find_images(folder) if image.name.endswith(end))
    return audit_image(image).face.reason


def test_masks_go_with_their_images_by_name(tmp_path):
    write(tmp_path / "sub-01/anat/sub-01_acq-a_T2w.nii", np.zeros((4, 4, 4), np.uint8))
    write(tmp_path / "sub-01/func/sub-01_task-rest_bold.nii.gz", np.zeros((4, 4, 4), np.uint8))
    beside = tmp_path / "sub-01/anat/sub-01_acq-a_mod-T2w_defacemask.nii.gz"
    assert image_of_mask(beside) == tmp_path / "sub-01/anat/sub-01_acq-a_T2w.nii"
    apart = tmp_path / "derivatives/efface/sub-01/func/sub-01_task-rest_desc-bold_mask.nii.gz"
    assert image_of_mask(apart) == tmp_path / "sub-01/func/sub-01_task-rest_bold.nii.gz"
    for name in ("sub-01_mod-T1w_defacemask.nii.gz", "sub-01_desc-brain_mask.nii.gz", "mask.nii", "sub-01_T2w.nii"):
        assert image_of_mask(tmp_path / "sub-01/anat" / name) is None


def test_a_mask_is_looked_at_as_one(data_set):
    assert audited(data_set, "defacemask.nii.gz") == "looked at as a mask"
    assert audited(data_set, "T1w.nii.gz") != "looked at as a mask"


@pytest.mark.parametrize(
    ("values", "side"),
    [(np.arange(40**3).reshape(40, 40, 40) % 3, 3.0), (np.arange(40**3).reshape(40, 40, 40) % 2, 3.1)],
    ids=["three values", "another grid"],
)
def test_what_is_no_mask_of_the_image_is_looked_at_as_any_image(data_set, values, side):
    write(data_set / "sub-01/anat/sub-01_run-1_mod-T1w_defacemask.nii.gz", values.astype(np.uint8), side)
    assert audited(data_set, "defacemask.nii.gz") != "looked at as a mask"
