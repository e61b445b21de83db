"""Head, brain and position of the average head: found once, checked, and refused with a reason."""

import numpy as np
import pytest
from scipy import ndimage

import phantom
from development_heads import HEADS
from efface.anatomy import brain_extraction, templates
from efface.anatomy import head_anatomy as anatomy
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_mask import head_mask
from efface.errors import AnatomyError, InputError, RegistrationError
from efface.io.scan import Scan, load_scan
from efface.spatial.registration import AffineResult
from efface.spatial.resampling import resample
from efface.spatial.types import Grid, Volume


@pytest.fixture
def scan(tmp_path) -> Scan:
    return load_scan(phantom.write(tmp_path / "head.nii", "LPS").path)


def placed(scan: Scan, matrix: np.ndarray, *, converged: bool = True, **given) -> HeadAnatomy:
    """An anatomy whose average head lies as `matrix` says."""
    found = AffineResult(matrix, 0.3, converged, "" if converged else "too poor", 12, 1)
    return HeadAnatomy(scan, registration=found, **given)


# Head


@pytest.mark.parametrize("orientation", phantom.ORIENTATIONS)
def test_the_head_mask_covers_the_head_in_any_orientation(tmp_path, orientation):
    truth = phantom.write(tmp_path / "head.nii", orientation)
    assert phantom.dice(HeadAnatomy(load_scan(truth.path)).head, truth.inside) > 0.95


@pytest.mark.parametrize("factor", [0.01, 300.0])
def test_the_head_mask_does_not_depend_on_the_unit_of_intensity(factor):
    truth = phantom.head()
    values = truth.values.astype(np.float32)
    expected = head_mask(Volume(values, truth.affine))
    assert phantom.dice(head_mask(Volume(values * np.float32(factor), truth.affine)), expected) > 0.999


def test_air_inside_the_head_is_part_of_it():
    truth = phantom.head()
    values = truth.values.astype(np.float32)
    sinus = phantom.ellipsoid((-3, 40, -45), (15, 15, 15))
    values[sinus] = 0
    assert head_mask(Volume(values, truth.affine))[sinus].all()


def test_a_second_smaller_object_is_not_part_of_the_head():
    truth = phantom.head()
    values = truth.values.astype(np.float32)
    bottle = np.zeros_like(truth.inside)
    bottle[36:40, 40:47, 34:42] = True
    assert not (bottle & ndimage.binary_dilation(truth.inside, iterations=3)).any()
    values[bottle] = 150
    assert not head_mask(Volume(values, truth.affine))[bottle].any()


@pytest.mark.parametrize("specks", [0, 5])
def test_no_head_is_an_error_that_says_what_to_do(specks):
    values = np.zeros(phantom.SHAPE, np.float32)
    values[tuple(np.random.default_rng(0).integers(0, 40, (3, specks)))] = 100
    with pytest.raises(AnatomyError, match=r"no head was found: .*; check the scan") as caught:
        head_mask(Volume(values, phantom.head().affine))
    assert "\n" not in str(caught.value)


# Brain


def test_a_given_brain_is_used_and_none_is_looked_for(scan, monkeypatch):
    monkeypatch.setattr(anatomy, "brain_mask", lambda data: pytest.fail("looked for the brain"))
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *a, **_: pytest.fail("registered the head"))
    brain = phantom.head().brain
    assert np.array_equal(HeadAnatomy(scan, brain=brain).brain, brain)


def test_a_given_brain_of_numbers_becomes_a_mask(scan):
    brain = phantom.head().brain
    found = HeadAnatomy(scan, brain=(7 * brain).astype(np.uint8)).brain
    assert found.dtype == np.bool_
    assert np.array_equal(found, brain)


@pytest.mark.parametrize("change", [lambda b: b[1:], lambda b: b.transpose(1, 0, 2), lambda b: b[..., None]])
def test_a_given_brain_of_another_shape_is_refused(scan, change):
    brain = change(phantom.head().brain)
    with pytest.raises(InputError, match=r"brain mask must have the scan's shape .* received") as caught:
        HeadAnatomy(scan, brain=brain)
    assert str(phantom.SHAPE) in str(caught.value)
    assert str(brain.shape) in str(caught.value)


def test_an_empty_given_brain_is_refused(scan):
    with pytest.raises(InputError, match="brain mask is empty; expected"):
        HeadAnatomy(scan, brain=np.zeros(scan.shape, bool))


def test_an_upright_brain_is_looked_for_once_in_the_scan_itself(scan, monkeypatch):
    seen = []
    monkeypatch.setattr(anatomy, "brain_mask", lambda data: seen.append(data) or phantom.head().brain)
    found = placed(scan, phantom.rotation(10))
    assert np.array_equal(found.brain, phantom.head().brain)
    assert found.brain is found.brain
    assert len(seen) == 1
    assert np.array_equal(seen[0], scan.data)


@pytest.mark.parametrize(("radius_mm", "millilitres"), [(40, 268), (90, 2900)])
def test_a_brain_of_impossible_volume_is_refused(scan, monkeypatch, radius_mm, millilitres):
    mask = phantom.ellipsoid((0, 0, -20), (radius_mm,) * 3)
    monkeypatch.setattr(anatomy, "brain_mask", lambda data: mask)
    found = placed(scan, np.eye(4))
    with pytest.raises(AnatomyError, match=r"has (\d+) ml; expected 400 to 2400 ml: .* --brain-mask") as caught:
        _ = found.brain
    received = int(str(caught.value).split(" ml")[0].split()[-1])
    assert received == pytest.approx(millilitres, rel=0.1)


def test_a_given_brain_may_have_any_volume(scan):
    small = phantom.ellipsoid((0, 0, 0), (20, 20, 20))
    assert np.array_equal(HeadAnatomy(scan, brain=small).brain, small)


def test_a_turned_brain_is_found_upright_and_brought_back(tmp_path, monkeypatch):
    truth = phantom.head()
    turned = phantom.rotation(35)
    grid = Grid(truth.values.shape, truth.affine)
    path = tmp_path / "head.nii"
    in_array = resample(Volume(truth.values.astype(np.float32), truth.affine), grid, np.linalg.inv(turned))
    path.write_bytes(phantom.nifti_bytes(in_array, truth.affine))
    seen = []

    expected = resample(Volume(truth.brain.astype(np.float32), truth.affine), grid, np.linalg.inv(turned)) > 0.5
    upright = resample(Volume(truth.brain.astype(np.float32), truth.affine), templates.average_head().grid) > 0.5
    monkeypatch.setattr(brain_extraction, "brain_mask", lambda data: seen.append(data) or upright)
    found = placed(load_scan(path), turned)
    assert phantom.dice(found.brain, expected) > 0.97
    (data,) = seen
    assert data.shape == upright.shape
    assert data[upright].mean() == pytest.approx(truth.values[truth.brain].mean(), rel=0.04)  # resampled twice


def test_a_brain_is_looked_for_where_it_is_when_the_average_head_was_not_found(scan, monkeypatch):
    monkeypatch.setattr(anatomy, "brain_mask", lambda data: phantom.head().brain)
    found = placed(scan, phantom.rotation(60), converged=False)
    assert np.array_equal(found.brain, phantom.head().brain)


# What is computed, when


def test_each_part_is_computed_once_and_only_when_asked_for(scan, monkeypatch):
    calls = []
    result = AffineResult(np.eye(4), 0.9, True, "", 12, 1)
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *a, **_: calls.append("register") or result)
    monkeypatch.setattr(anatomy, "brain_mask", lambda data: calls.append("brain") or phantom.head().brain)
    monkeypatch.setattr(anatomy, "head_mask", lambda volume: calls.append("head") or phantom.head().inside)
    found = HeadAnatomy(scan)
    assert calls == []
    assert found.head is found.head
    assert calls == ["head"]
    assert found.average_to_scan is found.average_to_scan
    assert calls == ["head", "register"]
    assert found.brain is found.brain
    assert calls == ["head", "register", "brain"]


def test_the_pose_is_found_in_the_scan(scan, monkeypatch):
    seen = []
    result = AffineResult(phantom.rotation(5), 0.9, True, "", 12, 1)
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *a, **_: seen.extend(a) or result)
    assert np.array_equal(HeadAnatomy(scan).average_to_scan, phantom.rotation(5))
    assert np.array_equal(seen[0].data, scan.data)


def test_a_registration_that_did_not_converge_is_an_error_with_its_reason(scan):
    with pytest.raises(RegistrationError, match=r"could not be found in the scan: too poor; check") as caught:
        _ = placed(scan, np.eye(4), converged=False).average_to_scan
    assert "\n" not in str(caught.value)


def test_the_warnings_of_the_scan_are_the_anatomy_s(tmp_path):
    truth = phantom.write(tmp_path / "head.nii")
    raw = bytearray(truth.path.read_bytes())
    raw[292:296] = np.float32(-80).tobytes()
    truth.path.write_bytes(raw)
    scan = load_scan(truth.path)
    assert len(scan.warnings) == 1
    assert HeadAnatomy(scan).warnings == scan.warnings


@pytest.mark.heads
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.load`:DeprecationWarning")
def test_the_brain_of_a_real_head_agrees_with_its_reference():
    scan = load_scan(HEADS / "sub-05/anat/sub-05_T1w.nii.gz")
    labels = load_scan(HEADS / "derivatives/dlmuse/sub-05/anat/sub-05_desc-dlmuse_dseg.nii.gz")
    reference = ndimage.binary_closing(np.asarray(labels.data > 0), iterations=3)
    assert phantom.dice(HeadAnatomy(scan).brain, reference) > 0.93


# A brain without its head


@pytest.fixture
def stripped(tmp_path):
    """The phantom with nothing but its brain, which has a hole; its file, and the brain."""
    truth = phantom.write(tmp_path / "head.nii", "RAS")
    scan = load_scan(truth.path)
    brain = truth.brain
    hole = tuple(int(c) for c in np.argwhere(brain).mean(axis=0))
    data = np.where(brain, scan.data, 0)
    data[hole] = 0
    scan.save_like(data, tmp_path / "brain.nii")
    return load_scan(tmp_path / "brain.nii"), brain


def test_a_brain_without_a_head_is_its_own_mask(stripped, monkeypatch):
    scan, brain = stripped
    wider = ndimage.binary_dilation(brain)
    monkeypatch.setattr(anatomy, "brain_mask", lambda _data: wider)
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *_, **__: pytest.fail("no head to register"))
    head = HeadAnatomy(scan)
    assert head.shows_brain_alone
    np.testing.assert_array_equal(head.brain, brain)


def test_a_given_mask_of_a_brain_without_a_head_is_used(stripped, monkeypatch):
    scan, brain = stripped
    monkeypatch.setattr(anatomy, "brain_mask", lambda _data: pytest.fail("the brain is known"))
    given = ndimage.binary_dilation(brain)
    head = HeadAnatomy(scan, brain=given)
    assert head.shows_brain_alone
    np.testing.assert_array_equal(head.brain, given)


def test_tissue_of_which_the_brain_is_a_part_is_no_brain_alone(stripped, monkeypatch):
    scan, brain = stripped
    half = brain.copy()
    half[: half.shape[0] // 2] = False
    assert not HeadAnatomy(scan, brain=half).shows_brain_alone
    monkeypatch.setattr(anatomy, "brain_mask", lambda _data: (_ for _ in ()).throw(AnatomyError("none")))
    assert not HeadAnatomy(scan).shows_brain_alone


def test_a_head_is_no_brain_alone(scan, monkeypatch):
    monkeypatch.setattr(anatomy, "brain_mask", lambda _data: pytest.fail("tissue reaches the border of the image"))
    assert not HeadAnatomy(scan).shows_brain_alone
