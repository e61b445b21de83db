"""An edit is propagated to other images of the same person, and only to those."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import phantom
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import apply_edit, plan
from efface.defacing.propagation import propagate_edit, same_grid
from efface.errors import RegistrationError
from efface.io.scan import load_scan
from efface.spatial import registration
from efface.spatial.registration import AffineResult
from efface.spatial.resampling import resample
from efface.spatial.types import Grid, Volume

TURN = np.array([[0.995, -0.0998, 0, 4.0], [0.0998, 0.995, 0, -3.0], [0, 0, 1, 2.0], [0, 0, 0, 1]])
"""Scan mm to the other image's mm."""


@pytest.fixture
def anatomy(tmp_path):
    scan = load_scan(phantom.write(tmp_path / "t1.nii.gz", "LPS").path)
    return HeadAnatomy(scan, phantom.head().brain)


@pytest.fixture
def edit(anatomy):
    return plan(anatomy, "quickshear", {"buffer": 2.0})


def other_image(truth=TURN, shape=(52, 50, 46), spacing_mm=(4.0, 4.5, 5.5)):
    """The phantom in another pose, on another grid and with another contrast."""
    head = phantom.head()
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.array(shape) * np.array(spacing_mm) / 2 + [0, 0, -25]
    grid = Grid(shape, affine)
    data = resample(Volume(head.values.astype(np.float32), head.affine), grid, np.linalg.inv(truth))
    return load_scan(nib.Nifti1Image(np.rint(np.sqrt(data) * 20).astype(np.int16), affine))


def found(monkeypatch, matrix, *, converged=True):
    result = AffineResult(np.asarray(matrix, float), 0.7, converged, "" if converged else "no", 6, 1)
    monkeypatch.setattr(registration, "register_affine", lambda *args, **kwargs: result)


def test_on_the_same_grid_the_very_same_voxels_go(anatomy, edit, tmp_path):
    other = load_scan(phantom.write(tmp_path / "flair.nii.gz", "RAS", "float32").path)
    assert same_grid(anatomy.scan, other)
    propagated = propagate_edit(edit, anatomy, other, protect_brain=True)
    np.testing.assert_array_equal(propagated.mask, edit.mask)
    after = apply_edit(other, propagated)
    assert not after.data[edit.mask].any()
    np.testing.assert_array_equal(after.data[~edit.mask], other.data[~edit.mask])


def test_on_another_grid_the_edit_covers_the_same_anatomy(monkeypatch, anatomy, edit):
    found(monkeypatch, TURN)
    other = other_image()
    propagated = propagate_edit(edit, anatomy, other, protect_brain=True)
    grid = Grid(other.shape, other.affine)
    back = np.linalg.inv(TURN)
    whole, brain = (
        resample(Volume(m.astype(np.float32), anatomy.scan.affine), grid, back) for m in (edit.mask, anatomy.brain)
    )
    inside = resample(Volume(np.ones(anatomy.scan.shape, np.float32), anatomy.scan.affine), grid, back) > 0.99
    assert propagated.mask[(whole > 0.9) & (brain < 0.1)].all()
    assert not propagated.mask[brain > 0.6].any()
    near = ndimage.binary_dilation(whole > 0.01, iterations=2)
    assert not propagated.mask[inside & ~near].any()


def test_without_protection_the_brain_goes_where_the_edit_says(monkeypatch, anatomy):
    found(monkeypatch, TURN)
    everything = plan(anatomy, "quickshear", protect_brain=False)
    everything = type(everything)(np.ones(anatomy.scan.shape, bool), 0.0, "quickshear")
    assert propagate_edit(everything, anatomy, other_image(), protect_brain=False).mask.all()
    kept = ~propagate_edit(everything, anatomy, other_image(), protect_brain=True).mask
    assert kept.any()


def test_beyond_the_scans_field_of_view_the_cut_goes_on_and_is_warned_of(monkeypatch, anatomy, edit):
    found(monkeypatch, np.eye(4))
    cropped = anatomy.scan.data[:, :, 8:]
    affine = anatomy.scan.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 8
    short = load_scan(nib.Nifti1Image(cropped.astype(np.int16), affine))
    small = HeadAnatomy(short, anatomy.brain[:, :, 8:])
    propagated = propagate_edit(
        type(edit)(edit.mask[:, :, 8:], 0.0, "quickshear"), small, other_image(np.eye(4)), protect_brain=True
    )
    assert any("outside the scan's field of view" in w for w in propagated.warnings)
    assert propagated.mask[:, :, 0].any()


@pytest.mark.parametrize("case", ["not converged", "apart"])
def test_an_image_that_is_not_aligned_is_refused(monkeypatch, anatomy, edit, case):
    apart = np.eye(4)
    apart[0, 3] = 60.0
    found(monkeypatch, TURN if case == "not converged" else apart @ TURN, converged=case == "apart")
    with pytest.raises(RegistrationError, match=r"could not be aligned.*same person"):
        propagate_edit(edit, anatomy, other_image(), protect_brain=True)


@pytest.mark.heads
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
def test_a_real_flair_is_defaced_with_its_t1():
    from development_heads import HEADS

    anatomy = HeadAnatomy(load_scan(HEADS / "sub-01/anat/sub-01_T1w.nii.gz"))
    flair = load_scan(HEADS / "sub-01/anat/sub-01_FLAIR.nii.gz")
    assert not same_grid(anatomy.scan, flair)
    edit = plan(anatomy, "pydeface")
    propagated = propagate_edit(edit, anatomy, flair, protect_brain=True)
    # The two were taken in one session and lie within 3 mm of each other: no transform is a fair first look.
    unmoved = resample(Volume(edit.mask.astype(np.float32), anatomy.scan.affine), flair.grid) > 0.5
    seen = resample(Volume(np.ones(anatomy.scan.shape, np.float32), anatomy.scan.affine), flair.grid) > 0.99
    head = HeadAnatomy(flair).head & seen
    assert phantom.dice(propagated.mask & head, unmoved & head) > 0.85
