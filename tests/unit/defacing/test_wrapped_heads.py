"""A face that wraps around to the back of the head: every method removes it there, and the quality check sees it."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
import phantom
import phantom_anatomy
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import METHODS, apply_edit
from efface.defacing.propagation import propagate_edit
from efface.io.scan import load_scan
from efface.quality import QualityClass, judge
from efface.spatial.registration import AffineResult

VOXELS = 5
"""How far the phantom is moved forward: its nose, cut off at the front, goes on behind the head."""


@pytest.fixture(scope="module")
def no_search():
    """Registrations and landmarks are known, in mm of the part of the phantom that stays."""
    with phantom_anatomy.no_search(), pytest.MonkeyPatch.context() as patch:
        truth = load_scan(nib.Nifti1Image(phantom.head().values.astype(np.int16), rolled_affine()))
        phantom.give_landmarks(patch, lambda _scan: phantom.landmarks_of(truth))
        yield


def rolled_affine() -> np.ndarray:
    """Voxel to mm of the phantom before it was moved."""
    return phantom.head().affine


def wrapped() -> HeadAnatomy:
    """The phantom, moved so far forward that its nose wraps around; what stays keeps its place in mm."""
    truth = phantom.head()
    affine = truth.affine.copy()
    affine[:3, 3] -= affine[:3, 1] * VOXELS
    scan = load_scan(nib.Nifti1Image(np.roll(truth.values.astype(np.int16), VOXELS, axis=1), affine))
    return phantom_anatomy.known(scan, np.roll(truth.brain, VOXELS, axis=1))


def behind(scan_shape: tuple[int, ...]) -> np.ndarray:
    """Voxels of the nose behind the head."""
    nose = np.roll(phantom_anatomy.nose(), VOXELS, axis=1)
    nose[:, scan_shape[1] // 2 :] = False
    return nose


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_removes_a_nose_behind_the_head(method):
    anatomy = wrapped()
    nose = behind(anatomy.scan.shape)
    assert nose.sum() >= 8
    edit = phantom_anatomy.planned(anatomy, method)
    # MRI_Deface goes by where faces can be, clear of where brains can be: the phantom's nose is too high for one.
    assert edit.mask[nose].mean() >= (0.6 if method == "mri_deface" else 1.0)
    assert any("wraps around the border of the image (front-back)" in warning for warning in edit.warnings)
    after = apply_edit(anatomy.scan, edit)
    np.testing.assert_array_equal(after.data[~edit.mask], anatomy.scan.data[~edit.mask])
    back_of_the_head = np.roll(phantom.head().inside, VOXELS, axis=1) & ~nose
    back_of_the_head[:, VOXELS + (14 if method == "reshape" else 20) :] = False  # which goes on behind the ears
    side = 12 if method == "reshape" else 8  # it moves what is around the ears too
    back_of_the_head[:side] = back_of_the_head[-side:] = back_of_the_head[:, :, :3] = False
    assert not edit.mask[back_of_the_head & ~ndimage.binary_dilation(nose, iterations=3)].any()


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("method", METHODS)
def test_the_edit_is_that_of_the_whole_head_carried_around(method):
    anatomy = wrapped()
    edit = phantom_anatomy.planned(anatomy, method)
    straight = phantom_anatomy.planned(phantom_anatomy.known(load_scan(stored()), phantom.head().brain), method)
    head = phantom.head().inside
    carried = np.roll(edit.mask, -VOXELS, axis=1)
    assert phantom.dice(carried & head, straight.mask & head) > 0.97


def stored() -> nib.Nifti1Image:
    return nib.Nifti1Image(phantom.head().values.astype(np.int16), phantom.head().affine)


@pytest.mark.usefixtures("no_search")
def test_a_nose_behind_the_head_goes_in_other_images_too():
    anatomy = wrapped()
    edit = phantom_anatomy.planned(anatomy, "quickshear")
    dark = np.where(anatomy.scan.data > 20, 220 - anatomy.scan.data, anatomy.scan.data)
    other = load_scan(nib.Nifti1Image(dark.astype(np.int16), anatomy.scan.affine))
    assert propagate_edit(edit, anatomy, other, protect_brain=True).mask[behind(other.shape)].all()
    straight = phantom_anatomy.known(load_scan(stored()), phantom.head().brain)
    its_edit = phantom_anatomy.planned(straight, "quickshear")
    propagated = propagate_edit(its_edit, straight, other, protect_brain=True)
    assert propagated.mask[behind(other.shape)].all()
    assert any("wraps around" in warning for warning in propagated.warnings)


@pytest.fixture(scope="module")
def average():
    """The average head, moved so far forward that nose and mouth wrap around, and where they are in it."""
    whole = average_head.volume()
    tissue = np.flatnonzero((whole.data > 0.25 * np.percentile(whole.data, 95)).any(axis=(0, 2)))
    voxels = whole.data.shape[1] - 1 - int(tissue[-1]) + 8
    known = average_head.anatomy()
    affine = whole.affine.copy()
    affine[:3, 3] -= affine[:3, 1] * voxels
    scan = load_scan(nib.Nifti1Image(np.roll(known.scan.data, voxels, axis=1), affine))
    located = AffineResult(np.eye(4), 1.0, converged=True, reason="", dof=12, starts=1)
    return HeadAnatomy(scan, np.roll(known.brain, voxels, axis=1), registration=located), voxels


def without_face(anatomy: HeadAnatomy, voxels: int, *, wrapped_too: bool):
    affine = anatomy.scan.affine.copy()
    affine[:3, 3] += affine[:3, 1] * voxels
    mm = np.tensordot(affine[:3, :3], np.indices(anatomy.scan.shape), 1) + affine[:3, 3, None, None, None]
    face = np.roll((mm[1] > 45) & (mm[2] < -16 + 0.3 * (mm[1] - 95)) | (mm[1] > 102), voxels, axis=1)
    if not wrapped_too:
        face[:, :voxels] = False
    return load_scan(nib.Nifti1Image(np.where(face, 0, anatomy.scan.data), anatomy.scan.affine))


def test_the_quality_check_sees_a_nose_behind_the_head(average):
    anatomy, voxels = average
    untouched = judge(anatomy, anatomy.scan)
    assert untouched.verdict == QualityClass.FAILURE_I
    assert set(untouched.face.left) == {"eyes", "nose", "mouth"}
    assert any("wraps around" in warning for warning in untouched.warnings)
    left = judge(anatomy, without_face(anatomy, voxels, wrapped_too=False))
    assert "nose" in left.face.left
    gone = judge(anatomy, without_face(anatomy, voxels, wrapped_too=True))
    assert gone.verdict == QualityClass.SUCCESS
    assert gone.face.left == ()
