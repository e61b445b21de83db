"""Defacer on the average head, whose features are known and need not be found."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

import average_head
import phantom
from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.landmarks import FacialLandmark
from efface.anatomy.templates import FEATURE_LABELS
from efface.defacing import apply_edit, defacer
from efface.defacing.defacer import Params
from efface.errors import LandmarkError
from efface.io.scan import load_scan
from efface.spatial.types import Volume

COMPLETE = ("eyes", "eyes", "nose", "ears", "ears", "mouth")


@pytest.fixture(scope="module")
def features() -> tuple[FacialLandmark, ...]:
    """The parts of the features of the average head, left and right."""
    labels, found = templates.prior("features"), []
    for name, number in FEATURE_LABELS.items():
        parts, _ = ndimage.label(labels.data == number)
        sizes = np.bincount(parts.ravel())[1:]
        for index in np.flatnonzero(sizes > 0.3 * sizes.max()):
            part = parts == index + 1
            centre = labels.affine[:3, :3] @ np.argwhere(part).mean(axis=0) + labels.affine[:3, 3]
            lead = Volume(np.where(part, 1, -1).astype(np.float32), labels.affine)
            found.append(FacialLandmark(name, centre, part.sum() * 0.008, lead))
    assert tuple(f.name for f in found) == COMPLETE
    return tuple(found)


@pytest.fixture(scope="module")
def anatomy():
    return average_head.anatomy(located=False)


@pytest.fixture
def plan(anatomy, features, monkeypatch):
    """Plan with only some features found: all, or those of these names."""

    def planned(*names, of=None, **options):
        found = tuple(f for f in features if not names or f.name in names)
        phantom.give_landmarks(monkeypatch, lambda _scan: found)
        params = Params(incomplete="edit" if names else "refuse", **options)
        return defacer.plan(of or anatomy, params)

    return planned


def boxed(feature, anatomy, grow):
    mask = np.zeros(anatomy.scan.shape, bool)
    mask[feature.box(anatomy.scan.grid, grow)] = True
    return mask


def voxels_of(features, anatomy, name):
    mask = np.zeros(anatomy.scan.shape, bool)
    for feature in features:
        if feature.name == name:
            at, voxels = feature.voxels(anatomy.scan.grid)
            mask[at] |= voxels
    return mask


def from_surface_mm(head, spacing_mm):
    """Distance to the nearest voxel on the other side of the head's surface."""
    inside, outside = (ndimage.distance_transform_edt(m, sampling=spacing_mm) for m in (head, ~head))
    return np.where(head, inside, outside)


def triangle(data):
    threshold = SimpleITK.TriangleThresholdImageFilter()
    threshold.Execute(SimpleITK.GetImageFromArray(data))
    return threshold.GetThreshold()


# What becomes of each feature


def test_the_box_of_the_nose_a_third_larger_becomes_zero(plan, anatomy, features):
    edit = plan("nose")
    (nose,) = (f for f in features if f.name == "nose")
    expected = boxed(nose, anatomy, 1.33)
    assert expected.sum() > 1.8 * boxed(nose, anatomy, 1.0).sum()
    assert np.array_equal(edit.mask, expected)
    assert not edit.values.any()


def test_only_the_skin_before_the_eyes_is_hidden(plan, anatomy, features):
    edit = plan("eyes")
    boxes = [boxed(f, anatomy, 1.5) for f in features if f.name == "eyes"]
    skin = from_surface_mm(anatomy.head, anatomy.scan.spacing_mm) <= 3.0
    assert np.array_equal(edit.mask, np.logical_or(*boxes) & skin)
    assert 0 < edit.mask.sum() < 0.6 * np.logical_or(*boxes).sum()
    assert (edit.mask & anatomy.head).any()
    assert (edit.mask & ~anatomy.head).any()


def test_the_skin_of_each_eye_becomes_one_bright_value(plan, anatomy, features):
    after = apply_edit(anatomy.scan, plan("eyes")).data
    edit = plan("eyes")
    for eye in (f for f in features if f.name == "eyes"):
        mask = edit.mask & boxed(eye, anatomy, 1.5)
        (value,) = np.unique(after[mask])
        before = anatomy.scan.data[mask]
        assert np.median(before) < value < before.max()


def test_version_0_1_hides_the_voxels_that_the_network_takes_for_eyes(plan, anatomy, features):
    """As the program that its authors distribute since 19 November 2020; 0.2 hides the lids."""
    edit = plan("eyes", version="0.1")
    assert np.array_equal(edit.mask, voxels_of(features, anatomy, "eyes"))
    assert edit.params["version"] == "0.1"
    lids = plan("eyes")
    assert lids.params["version"] == "0.2"
    assert phantom.dice(edit.mask, lids.mask) < 0.8


@pytest.mark.parametrize("voxel_mm", [(4, 4, 4), (2, 5, 2)], ids=["large voxels", "coronal slices"])
def test_eyes_are_hidden_where_voxels_are_larger_than_the_skin_is_thick(plan, features, voxel_mm):
    fine = average_head.volume(1.0)
    blocks = [fine.data[tuple(slice(None, n // s * s) for n, s in zip(fine.data.shape, voxel_mm, strict=True))]]
    for axis, step in enumerate(voxel_mm):
        shape = (*blocks[-1].shape[:axis], -1, step, *blocks[-1].shape[axis + 1 :])
        blocks.append(blocks[-1].reshape(shape).mean(axis=axis + 1))
    affine = fine.affine @ np.diag([*voxel_mm, 1.0])
    affine[:3, 3] = (fine.affine @ [*(np.array(voxel_mm) - 1) / 2, 1])[:3]
    coarse = HeadAnatomy(load_scan(nib.Nifti1Image(blocks[-1].astype(np.float32), affine)))
    edit = plan("eyes", of=coarse)
    in_front = np.diff(coarse.head.astype(int), axis=1) == -1
    for eye in (f for f in features if f.name == "eyes"):
        box = boxed(eye, coarse, 1.5)
        skin = box[:, :-1] & in_front
        assert skin.sum() > 20
        assert edit.mask[:, :-1][skin].all()


def test_an_eye_found_in_the_air_changes_nothing_there(plan, anatomy, features, monkeypatch):
    far = features[0].lead.affine.copy()
    far[2, 3] += 170
    lost = FacialLandmark("eyes", features[0].centre_mm, 1.0, Volume(features[0].lead.data, far))
    at = lost.box(anatomy.scan.grid, 2.5)
    assert 0 not in anatomy.scan.data[at].shape
    assert not anatomy.head[at].any()
    phantom.give_landmarks(monkeypatch, lambda _scan: (lost,))
    assert not defacer.plan(anatomy, Params(incomplete="edit")).mask.any()


def test_the_nose_stays_cut_where_eyes_and_mouth_reach_into_its_box(plan, anatomy, features):
    edit = plan(mouth_margin_mm=6.0)
    box = boxed(next(f for f in features if f.name == "nose"), anatomy, 1.33)
    others = plan("eyes", "mouth", mouth_margin_mm=6.0).mask
    assert (others & box).sum() > 20, "they must be in each other's way"
    assert not apply_edit(anatomy.scan, edit).data[box].any()


def test_the_skin_of_the_eyes_is_that_of_the_head_without_its_nose(plan, anatomy, features):
    nose, *eyes = sorted((f for f in features if f.name in ("nose", "eyes")), key=lambda f: f.name != "nose")
    cut = boxed(nose, anatomy, 1.33)
    left = anatomy.head & ~cut
    skin = from_surface_mm(left, anatomy.scan.spacing_mm) <= 3.0
    boxes = np.logical_or(*(boxed(eye, anatomy, 1.5) for eye in eyes))
    assert (boxes & skin & (from_surface_mm(anatomy.head, anatomy.scan.spacing_mm) > 3.0)).any()
    assert np.array_equal(plan("nose", "eyes").mask, cut | (boxes & skin))


def test_ears_become_noise_as_weak_as_that_of_air(plan, anatomy):
    edit = plan("ears")
    loudest = 0.8 * triangle(anatomy.scan.data)
    assert edit.values.min() >= 0
    assert 0.97 * loudest < edit.values.max() <= loudest
    quarters, _ = np.histogram(edit.values, 4, (0, loudest))
    np.testing.assert_allclose(quarters / edit.values.size, 0.25, atol=0.05)
    assert np.percentile(edit.values, 99) < np.median(anatomy.scan.data[edit.mask & anatomy.head])


def test_the_mouth_becomes_one_bright_value(plan, anatomy):
    edit = plan("mouth")
    (value,) = np.unique(edit.values)
    before = anatomy.scan.data[edit.mask]
    assert np.median(before) < value < before.max()


@pytest.mark.parametrize(("name", "option"), [("ears", "margin_mm"), ("mouth", "mouth_margin_mm")])
@pytest.mark.parametrize("margin_mm", [0.0, 2.0, 7.0])
def test_ears_and_mouth_are_changed_as_far_around_as_asked(plan, anatomy, features, name, option, margin_mm):
    voxels = voxels_of(features, anatomy, name)
    distance = ndimage.distance_transform_edt(~voxels, sampling=anatomy.scan.spacing_mm)
    assert np.array_equal(plan(name, **{option: margin_mm}).mask, distance <= margin_mm)


def test_without_margins_given_they_are_two_and_ten_millimetres(plan):
    edit = plan()
    assert (edit.params["margin_mm"], edit.params["mouth_margin_mm"]) == (2.0, 10.0)
    assert np.array_equal(edit.mask, plan(margin_mm=2.0, mouth_margin_mm=10.0).mask)


def test_noise_is_the_same_for_the_same_scan_and_another_for_another(plan, anatomy):
    first, second = plan("ears"), plan("ears", of=average_head.anatomy(located=False))
    assert np.array_equal(first.values, second.values)
    data = anatomy.scan.data.copy()
    data[30, 10, 50] += 1
    other = plan("ears", of=average_head.anatomy(data, located=False))
    assert np.array_equal(first.mask, other.mask)
    assert (first.values != other.values).mean() > 0.99


def test_the_whole_face_is_edited_and_the_recipe_says_what_was_found(plan, anatomy, features):
    edit = plan()
    assert edit.params["found"] == {"eyes": 2, "nose": 1, "ears": 2, "mouth": 1}
    assert edit.warnings == ()
    assert (edit.method, edit.values.shape, edit.values.dtype) == ("defacer", (edit.mask.sum(),), np.float32)
    for name in ("nose", "ears", "mouth"):
        assert edit.mask[voxels_of(features, anatomy, name)].all(), name
    assert not (edit.mask & anatomy.brain).any()


def test_no_registration_is_run(plan, monkeypatch):
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *_, **__: pytest.fail("registered"))
    assert plan().mask.any()


# Incomplete faces


def given(monkeypatch, features, *names):
    kept = list(features)
    for name in names:
        kept.remove(next(f for f in kept if f.name == name))
    phantom.give_landmarks(monkeypatch, lambda _scan: tuple(kept))


def test_an_incomplete_face_is_refused_in_one_line_that_says_what_is_missing(anatomy, features, monkeypatch):
    given(monkeypatch, features, "eyes", "mouth")
    with pytest.raises(LandmarkError, match=r"Defacer found 1 of 2 eyes, 0 of 1 mouth: .*incomplete=edit") as caught:
        defacer.plan(anatomy, Params())
    assert "\n" not in str(caught.value)


def test_too_many_features_are_refused_too(anatomy, features, monkeypatch):
    phantom.give_landmarks(monkeypatch, lambda _scan: (*features, features[2]))
    with pytest.raises(LandmarkError, match="found 2 of 1 nose"):
        defacer.plan(anatomy, Params())


def test_an_incomplete_face_is_edited_with_a_warning_when_asked(anatomy, features, monkeypatch):
    given(monkeypatch, features, "ears", "mouth")
    edit = defacer.plan(anatomy, Params(incomplete="edit"))
    (warning,) = edit.warnings
    assert "found 1 of 2 ears, 0 of 1 mouth" in warning
    assert edit.params["found"] == {"eyes": 2, "nose": 1, "ears": 1, "mouth": 0}
    assert not edit.mask[voxels_of([features[3]], anatomy, "ears")].any(), "the ear not found stays"
    assert edit.mask[voxels_of([features[4]], anatomy, "ears")].all()


@pytest.mark.parametrize("incomplete", ["refuse", "edit"])
def test_a_head_without_any_feature_is_refused_in_either_mode(anatomy, monkeypatch, incomplete):
    phantom.give_landmarks(monkeypatch, lambda _scan: ())
    with pytest.raises(LandmarkError, match="found 0 of 2 eyes, 0 of 1 nose, 0 of 2 ears, 0 of 1 mouth"):
        defacer.plan(anatomy, Params(incomplete=incomplete))
