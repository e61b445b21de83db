"""PyDeface on the phantom."""

import numpy as np
import pytest

import phantom
import phantom_anatomy
from efface import defacing
from efface.anatomy import templates
from efface.defacing import apply_edit
from efface.errors import RegistrationError
from efface.spatial import registration
from phantom_anatomy import registered_at

pytestmark = pytest.mark.usefixtures("no_search")


def test_pydeface_needs_the_average_head_to_be_found(anatomy):
    lost = phantom_anatomy.known(anatomy.scan, anatomy.brain, converged=False)
    with pytest.raises(RegistrationError, match=r"the score is 0\.1, expected 0\.5"):
        defacing.plan(lost, "pydeface")


def test_pydeface_uses_the_refined_position_of_the_average_head(anatomy, monkeypatch):
    seen = []
    lower = np.eye(4)
    lower[2, 3] = -20.0
    monkeypatch.setattr(registration, "refine_affine", lambda *a: seen.extend(a) or registered_at(lower))
    edit = phantom_anatomy.planned(anatomy, "pydeface", outside="keep")
    assert seen[0] is templates.average_head()
    assert np.array_equal(seen[1].data, anatomy.scan.data)
    assert np.array_equal(seen[2], anatomy.average_to_scan)
    expected = phantom_anatomy.located(anatomy.scan, anatomy.brain, registered_at(lower))
    monkeypatch.setattr(registration, "refine_affine", lambda fixed, moving, initial: registered_at(initial))
    assert np.array_equal(edit.mask, phantom_anatomy.planned(expected, "pydeface", outside="keep").mask)
    unrefined = phantom_anatomy.known(anatomy.scan, anatomy.brain)  # an anatomy refines once
    assert not np.array_equal(edit.mask, phantom_anatomy.planned(unrefined, "pydeface", outside="keep").mask)
    assert edit.warnings == ()


def test_pydeface_warns_and_goes_on_when_the_position_cannot_be_refined(anatomy, monkeypatch):
    expected = phantom_anatomy.planned(anatomy, "pydeface")
    elsewhere = registered_at(phantom.rotation(90), converged=False)
    monkeypatch.setattr(registration, "refine_affine", lambda *_: elsewhere)
    edit = phantom_anatomy.planned(phantom_anatomy.known(anatomy.scan, anatomy.brain), "pydeface")
    assert np.array_equal(edit.mask, expected.mask)
    (warning,) = edit.warnings
    assert "the score is 0.1, expected 0.5" in warning


def test_pydeface_spares_or_removes_what_lies_outside_its_mask(anatomy):
    keep, remove = (phantom_anatomy.planned(anatomy, "pydeface", outside=word) for word in ("keep", "remove"))
    face = templates.average_face_mask()
    to_voxel = np.linalg.inv(face.affine) @ anatomy.scan.affine
    index = np.moveaxis(np.indices(phantom.SHAPE), 0, -1) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    outside = ((index <= -1) | (index >= face.data.shape)).any(-1)
    within = ((index >= 0) & (index <= np.array(face.data.shape) - 1)).all(-1)
    low_neck = outside & phantom.head().inside
    assert low_neck.any()
    assert remove.mask[outside].all()
    assert not keep.mask[low_neck].any()
    within &= phantom.head().inside
    assert np.array_equal(keep.mask[within], remove.mask[within])
    assert keep.params == {"outside": "keep"}


def test_pydeface_fades_at_its_border_and_zeroes_the_face(anatomy):
    edit = phantom_anatomy.planned(anatomy, "pydeface", protect_brain=False)
    before = anatomy.scan.data[edit.mask]
    assert (edit.values >= 0).all()
    assert (edit.values <= before).all()
    faded = (edit.values > 0) & (edit.values < before)
    assert 0 < faded.sum() < 0.2 * faded.size
    after = apply_edit(anatomy.scan, edit).data
    assert not after[phantom_anatomy.nose()].any()
