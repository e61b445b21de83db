"""Stripped heads are refused, heads without a face are warned of, whole heads are neither."""

import functools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import average_head
import phantom
from efface import defacing
from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import METHODS, screening
from efface.errors import AnatomyError, RegistrationError
from efface.io.scan import load_scan
from efface.spatial.resampling import resample


@pytest.fixture(scope="module")
def whole():
    return average_head.anatomy()


def without(whole, gone, **options):
    return average_head.anatomy(np.where(gone, 0, whole.scan.data), **options)


def faceless(whole, prior="face", **options):
    return without(whole, resample(templates.prior(prior), whole.scan.grid) > 0.02, **options)


# Skull-stripped scans


@pytest.mark.parametrize("left_mm", [0.0, 4.0])
def test_a_skull_stripped_scan_is_refused_and_told_why(whole, left_mm):
    stripped = without(whole, whole.brain_distance_mm > left_mm, located=False)
    with pytest.raises(
        AnatomyError, match=r"\d% of the brain's volume; expected at least 15%.*skull-stripped"
    ) as caught:
        screening.refuse_stripped(stripped)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", defacing.METHODS)
def test_every_method_refuses_a_skull_stripped_scan(whole, method, monkeypatch):
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *_, **__: pytest.fail("registered"))
    stripped = without(whole, ~whole.brain, located=False)
    with pytest.raises(AnatomyError, match="skull-stripped"):
        defacing.plan(stripped, method)


def unknown_brain(head, monkeypatch, threads):
    """The anatomy of the same scan whose brain has to be looked for, with so many cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    monkeypatch.setattr("efface.anatomy.head_anatomy.brain_mask", lambda _data: head.brain)
    return HeadAnatomy(head.scan, registration=head.registration, landmarks=head.landmarks)


def test_an_edit_made_while_the_brain_is_looked_for_is_the_same(whole, monkeypatch):
    one, two = (defacing.plan(unknown_brain(whole, monkeypatch, threads), "pydeface") for threads in (1, 2))
    np.testing.assert_array_equal(one.mask, two.mask)
    np.testing.assert_array_equal(one.values, two.values)
    assert (one.warnings, one.protected_voxels) == (two.warnings, two.protected_voxels)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stripped_scan_is_called_stripped_also_where_its_edit_fails(whole, threads, monkeypatch):
    def fails(*_):
        msg = "no edit"
        raise RegistrationError(msg)

    monkeypatch.setattr(defacing, "METHODS", {"pydeface": replace(METHODS["pydeface"], plan=fails)})
    stripped = average_head.anatomy(np.where(whole.brain, whole.scan.data, 0))
    with pytest.raises(AnatomyError, match="skull-stripped"):
        defacing.plan(unknown_brain(stripped, monkeypatch, threads), "pydeface")
    with pytest.raises(RegistrationError, match="no edit"):
        defacing.plan(unknown_brain(whole, monkeypatch, threads), "pydeface")


def test_whole_heads_are_not_refused(whole):
    screening.refuse_stripped(whole)


def test_defaced_heads_are_not_taken_for_stripped(whole):
    screening.refuse_stripped(faceless(whole))


# Scans whose face is gone


@pytest.mark.parametrize("prior", ["face", "face_and_ears"])
def test_a_defaced_head_is_warned_of(whole, prior):
    (warning,) = screening.missing_face_warnings(faceless(whole, prior))
    assert warning.startswith("neither nose nor mouth was found")
    assert "probably defaced before" in warning
    assert "\n" not in warning


def test_a_head_defaced_by_pydeface_is_warned_of(whole):
    kept = resample(templates.average_face_mask(), whole.scan.grid, fill=1.0) > 0.5
    assert len(screening.missing_face_warnings(without(whole, ~kept))) == 1


def test_a_whole_head_is_not_warned_of(whole):
    assert screening.missing_face_warnings(whole) == ()


@pytest.mark.parametrize("kept", ["nose", "mouth"])
def test_one_of_nose_and_mouth_is_face_enough(whole, monkeypatch, kept):
    found = [feature for feature in whole.landmarks if feature.name in (kept, "eyes")]
    phantom.give_landmarks(monkeypatch, lambda _scan: tuple(found))
    assert screening.missing_face_warnings(whole) == ()


def test_eyes_and_ears_alone_are_no_face(whole, monkeypatch):
    found = [feature for feature in whole.landmarks if feature.name in ("ears", "eyes")]
    phantom.give_landmarks(monkeypatch, lambda _scan: tuple(found))
    assert len(screening.missing_face_warnings(whole)) == 1


def test_quickshear_warns_too_and_needs_no_registration_for_it(whole):
    lost = replace(average_head.IN_PLACE, converged=False, reason="too poor")
    edit = defacing.plan(faceless(whole, "face", registration=lost), "quickshear")
    doubt, warning = edit.warnings
    assert "could not be confirmed (too poor)" in doubt
    assert "neither nose nor mouth" in warning
    assert defacing.plan(average_head.anatomy(), "quickshear").warnings == ()


@functools.cache
def lying(change: str) -> HeadAnatomy:
    """The average head under a header with wrong directions; its pose is looked for once."""
    wrong = {"y flipped": np.diag([1.0, -1.0, 1.0, 1.0]), "y and z swapped": np.eye(4)[[0, 2, 1, 3]]}[change]
    head = average_head.anatomy()
    affine = wrong @ head.scan.affine
    brain = nib.as_closest_canonical(nib.Nifti1Image(head.brain.astype(np.uint8), affine))
    scan = load_scan(nib.Nifti1Image(head.scan.data.astype(np.int16), affine))
    return HeadAnatomy(scan, np.asarray(brain.dataobj) > 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", ["y flipped", "y and z swapped"])
def test_every_method_refuses_a_header_that_lies(method, change):
    """Quickshear too, which would cut the back of the head without a word."""
    with pytest.raises(RegistrationError, match="header's directions seem to be wrong"):
        defacing.plan(lying(change), method)
