"""An edit is propagated to other images of the same person, and only to those."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
import phantom
import phantom_anatomy
from cli_runner import run
from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import Edit, apply_edit, plan, propagation
from efface.defacing.propagation import propagate_edit, same_grid
from efface.errors import RegistrationError
from efface.io.scan import load_scan
from efface.spatial import registration
from efface.spatial.registration import AffineResult
from efface.spatial.resampling import resample
from efface.spatial.types import Grid, Volume

TURN = np.array([[0.995, -0.0998, 0, 4.0], [0.0998, 0.995, 0, -3.0], [0, 0, 1, 2.0], [0, 0, 0, 1]])
"""Scan mm to the other image's mm."""


@pytest.fixture(scope="module")
def anatomy(tmp_path_factory):
    return phantom_anatomy.stored(tmp_path_factory.mktemp("t1"), "LPS")


@pytest.fixture(scope="module")
def edit(anatomy):
    with phantom_anatomy.no_search():
        return phantom_anatomy.planned(anatomy, "quickshear")


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


@pytest.mark.parametrize("inter", [-1000.0, 500.0])
def test_what_is_removed_gets_the_air_of_the_other_image(monkeypatch, anatomy, edit, inter):
    same = load_scan(nib.Nifti1Image(anatomy.scan.data + np.float32(inter), anatomy.scan.affine))
    assert propagate_edit(edit, anatomy, same, protect_brain=True).values == inter
    found(monkeypatch, TURN)
    plain = other_image()
    other = load_scan(nib.Nifti1Image(plain.data + np.float32(inter), plain.affine))
    propagated = propagate_edit(edit, anatomy, other, protect_brain=True)
    assert propagated.values == inter
    np.testing.assert_array_equal(propagated.mask, propagate_edit(edit, anatomy, plain, protect_brain=True).mask)
    after = apply_edit(other, propagated)
    assert set(after.data[propagated.mask]) == {inter}


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
    everything = Edit(np.ones(anatomy.scan.shape, bool), 0.0, "quickshear")
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
    found(monkeypatch, apart @ TURN, converged=case == "apart")
    monkeypatch.setattr(propagation, "register_edges", lambda *_: apart @ TURN)
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


# The same grid, and a head that moved


def t2_like(values: np.ndarray) -> np.ndarray:
    """Another contrast: what is bright is dark, and the other way round; air stays dark."""
    tissue = ndimage.gaussian_filter(values, 0.7) > 0.25 * np.percentile(values, 95)
    return np.where(tissue, 1.2 * np.percentile(values, 99) - values, values).clip(0)


def moved(shift_mm: float, turn_deg: float):
    """The average head in a T2-like contrast on its own grid, after the person moved, and its new mm from the old."""
    head = average_head.anatomy()
    volume = Volume(t2_like(head.scan.data).astype(np.float32), head.scan.affine)
    motion = phantom.rotation(turn_deg)
    middle = np.array([0, 0, -10.0])
    motion[:3, 3] = middle - motion[:3, :3] @ middle + shift_mm * np.array([0.2, 0.9, 0.39])
    data = resample(volume, head.scan.grid, np.linalg.inv(motion))
    return load_scan(nib.Nifti1Image(np.rint(data).astype(np.int16), head.scan.affine)), motion


@pytest.fixture(scope="module")
def average():
    return average_head.anatomy()


@pytest.fixture(scope="module")
def average_edit(average):
    return plan(average, "fsl_deface")


def test_a_head_that_lay_still_loses_the_very_same_voxels(average, average_edit):
    other, _ = moved(1, 0)
    propagated = propagate_edit(average_edit, average, other, protect_brain=True)
    np.testing.assert_array_equal(propagated.mask, average_edit.mask)
    assert not propagated.warnings


def test_a_head_that_moved_between_two_images_on_one_grid_loses_its_face(average, average_edit):
    other, motion = moved(18, 5)
    propagated = propagate_edit(average_edit, average, other, protect_brain=True)
    assert any("the head moved by up to" in warning for warning in propagated.warnings)
    features = templates.prior("features")
    for name in ("eyes", "nose", "mouth"):
        label = Volume((features.data == templates.FEATURE_LABELS[name]).astype(np.float32), features.affine)
        where = resample(label, other.grid, np.linalg.inv(motion)) > 0.5
        before = resample(label, average.scan.grid) > 0.5
        assert propagated.mask[where].mean() >= average_edit.mask[before].mean() - 0.02, name
    brain = resample(Volume(average.brain.astype(np.float32), average.scan.affine), other.grid, np.linalg.inv(motion))
    assert propagated.mask[brain > 0.99].mean() < 0.002


def test_a_small_motion_leaves_the_face_inside_the_edit(average, average_edit):
    other, motion = moved(2, 1)
    propagated = propagate_edit(average_edit, average, other, protect_brain=True)
    features = templates.prior("features")
    label = Volume(np.isin(features.data, [1, 2, 4]).astype(np.float32), features.affine)
    where = resample(label, other.grid, np.linalg.inv(motion)) > 0.5
    assert propagated.mask[where].mean() >= average_edit.mask[resample(label, average.scan.grid) > 0.5].mean() - 0.02


def without_head(scan):
    """Noise without a head."""
    return np.random.default_rng(0).permuted(scan.data)


def brain_alone(scan):
    """A skull-stripped image."""
    return np.where(average_head.anatomy().brain, scan.data, 0)


@pytest.mark.slow
def test_an_image_on_the_same_grid_that_does_not_show_the_head_is_refused(average, average_edit):
    other = load_scan(nib.Nifti1Image(without_head(average.scan).astype(np.int16), average.scan.affine))
    assert same_grid(average.scan, other)
    with pytest.raises(RegistrationError, match=r"could not be aligned.*same person"):
        propagate_edit(average_edit, average, other, protect_brain=True)


@pytest.mark.slow
def test_the_command_does_not_write_an_image_that_is_refused(average, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("efface.anatomy.head_anatomy.brain_mask", lambda data: average.brain)
    monkeypatch.setattr(HeadAnatomy, "registration", property(lambda self: average_head.IN_PLACE))
    for name, data in (("t1", average.scan.data), ("t2", brain_alone(average.scan))):
        nib.save(nib.Nifti1Image(data.astype(np.int16), average.scan.affine), tmp_path / f"{name}.nii.gz")
    words = [tmp_path / "t1.nii.gz", tmp_path / "a.nii.gz", "--method", "fsl_deface"]
    code, _, error = run(capsys, "deface", *words, "--apply-to", tmp_path / "t2.nii.gz", tmp_path / "b.nii.gz")
    assert (code, error.count("\n")) == (1, 1)
    assert "b.nii.gz was not written" in error
    assert "could not be aligned" in error
    assert (tmp_path / "a.nii.gz").is_file()
    assert not (tmp_path / "b.nii.gz").exists()
    assert not (tmp_path / "b.json").exists()


@pytest.mark.heads
@pytest.mark.slow
def test_a_real_flair_that_lay_still_keeps_the_mask_and_one_that_moved_does_not():
    from development_heads import HEADS

    scan = load_scan(HEADS / "sub-02/anat/sub-02_T1w.nii.gz")
    anatomy = HeadAnatomy(scan, registration=average_head.IN_PLACE)
    flair = load_scan(HEADS / "sub-02/anat/sub-02_FLAIR.nii.gz")
    to_flair = registration.register_affine(scan.volume, flair.volume, dof=6, minimum_score=0.4).matrix
    mask = np.zeros(scan.shape, bool)
    mask[:, 90:, :60] = True
    edit = Edit(mask, 0.0, "box")
    for shift_mm, carried in ((0, "same grid"), (18, "rigid registration")):
        back = np.eye(4)
        back[1, 3] = -shift_mm
        data = resample(flair.volume, scan.grid, to_flair @ back)
        other = load_scan(nib.Nifti1Image(data, scan.affine))
        assert propagate_edit(edit, anatomy, other, protect_brain=False).params["carried"] == carried
