"""Stripped heads are refused, heads without a face are warned of, whole heads are neither."""

import numpy as np
import pytest
from scipy import ndimage

import average
from efface import deface, registration, templates
from efface.deface import Edit, checks, quickshear
from efface.errors import AnatomyError
from efface.registration import resample


@pytest.fixture(scope="module")
def whole():
    return average.anatomy()


def everything(anatomy) -> Edit:
    """An edit that takes enough of the head."""
    return Edit(anatomy.head, 0.0, "m")


def without(whole, gone, **options):
    return average.anatomy(np.where(gone, 0, whole.scan.data), **options)


def faceless(whole, prior="face", **options):
    return without(whole, resample(templates.prior(prior), whole.scan.grid) > 0.02, **options)


# Skull-stripped scans


@pytest.mark.parametrize("left_mm", [0.0, 4.0])
def test_a_skull_stripped_scan_is_refused_and_told_why(whole, left_mm):
    stripped = without(whole, whole.from_brain_mm > left_mm, located=False)
    with pytest.raises(
        AnatomyError, match=r"\d% of the brain's volume; expected at least 15%.*skull-stripped"
    ) as caught:
        checks.refuse_stripped(stripped)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", deface.METHODS)
def test_every_method_refuses_a_skull_stripped_scan(whole, method, monkeypatch):
    monkeypatch.setattr(registration, "register_affine", lambda *_, **__: pytest.fail("registered"))
    stripped = without(whole, ~whole.brain, located=False)
    with pytest.raises(AnatomyError, match="skull-stripped"):
        deface.plan(stripped, method)


def test_whole_heads_are_not_refused(whole):
    checks.refuse_stripped(whole)


def test_defaced_heads_are_not_taken_for_stripped(whole):
    checks.refuse_stripped(faceless(whole))


# Scans whose face is gone


@pytest.mark.parametrize("prior", ["face", "face_and_ears"])
def test_a_defaced_head_is_warned_of(whole, prior):
    defaced = faceless(whole, prior)
    (warning,) = checks.missing_face(defaced, everything(defaced))
    assert warning.startswith("only ")
    assert "probably defaced before" in warning
    assert "\n" not in warning


def test_a_head_defaced_by_pydeface_is_warned_of(whole):
    kept = resample(templates.average_face_mask(), whole.scan.grid, fill=1.0) > 0.5
    defaced = without(whole, ~kept)
    assert len(checks.missing_face(defaced, everything(defaced))) == 1


def test_a_whole_head_is_not_warned_of(whole):
    assert checks.missing_face(whole, everything(whole)) == ()
    assert checks.face_share(whole) > 0.9


def test_a_whole_head_is_not_warned_of_however_small_the_edit_where_its_face_was_seen(whole):
    assert checks.missing_face(whole, Edit(np.zeros(whole.scan.shape, bool), 0.0, "m")) == ()


def test_the_face_is_looked_for_where_the_average_head_was_found(whole):
    shift = np.eye(4)
    shift[1, 3] = 200.0
    elsewhere = average.anatomy()
    elsewhere.__dict__["registration"] = registration.AffineResult(
        shift, 1.0, converged=True, reason="", dof=12, starts=1
    )
    assert checks.face_share(elsewhere) == 0


def test_the_share_of_the_face_falls_with_what_is_cut_off(whole):
    front = np.indices(whole.scan.shape)[1]
    last = np.flatnonzero(whole.head.any(axis=(0, 2)))[-1]
    shares = [checks.face_share(without(whole, front > last - cut)) for cut in (0, 6, 12, 18)]
    assert np.all(np.diff(shares) < 0)
    assert shares[-1] < checks.LEAST_FACE < shares[0]


# Edits of too little, where no registration tells


@pytest.mark.parametrize(("buffer", "warned"), [(30.0, False), (35.0, True)])
def test_a_small_edit_of_quickshear_is_warned_of_without_registration(whole, monkeypatch, buffer, warned):
    monkeypatch.setattr(registration, "register_affine", lambda *_, **__: pytest.fail("registered"))
    unlocated = average.anatomy(located=False)
    edit = deface.plan(unlocated, "quickshear", buffer=buffer)
    cut_ml = (edit.mask & whole.head).sum() * np.prod(whole.scan.spacing_mm) / 1000
    assert (cut_ml < 20) == warned
    assert [f"changes only {cut_ml:.1f} ml of the head" in w for w in edit.warnings] == [True] * warned


@pytest.mark.parametrize("prior", ["face", "face_and_ears"])
def test_a_defaced_head_is_warned_of_by_quickshear(whole, prior):
    edit = deface.plan(faceless(whole, prior, located=False), "quickshear")
    (warning,) = edit.warnings
    assert "changes only" in warning
    assert deface.plan(average.anatomy(located=False), "quickshear").warnings == ()


def test_air_does_not_count_as_cut(whole):
    air = ndimage.binary_erosion(~average.anatomy().head, iterations=2)
    unlocated = average.anatomy(located=False)
    (warning,) = checks.missing_face(unlocated, Edit(air, 0.0, "m"))
    assert "changes only 0.0 ml" in warning


def test_a_registration_that_failed_does_not_tell_where_the_face_is(whole):
    lost = average.anatomy()
    lost.__dict__["registration"] = registration.AffineResult(
        np.eye(4), 0.1, converged=False, reason="the score is 0.1", dof=12, starts=1
    )
    (warning,) = checks.missing_face(lost, quickshear.plan(lost, buffer=40.0))
    assert "changes only" in warning
