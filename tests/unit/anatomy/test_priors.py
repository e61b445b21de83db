"""The priors in average-head space, and the methods that are being built on them, on the average head itself."""

import numpy as np
import pytest

import average_head
from efface.anatomy import templates
from efface.anatomy.templates import FEATURE_LABELS, PRIOR_GRID, PRIORS
from efface.defacing import apply_edit, fsl_deface, mri_deface
from efface.errors import DataPackageError
from efface.spatial import registration
from efface.spatial.resampling import resample


@pytest.fixture(scope="module")
def anatomy():
    """The average head as a scan, in its own place, with the brain where every head's brain is."""
    return average_head.anatomy()


def feature_share(edit, scan, feature):
    """Share of a feature's voxels that an edit takes."""
    labels = resample(templates.prior("features"), scan.grid, order=0) == FEATURE_LABELS[feature]
    return (edit.mask & labels).sum() / labels.sum()


def test_priors_lie_on_their_grid_and_hold_what_they_say():
    for name in PRIORS:
        prior = templates.prior(name)
        assert prior.data.shape == PRIOR_GRID.shape
        np.testing.assert_allclose(prior.affine, PRIOR_GRID.affine)
    brain, face = templates.prior("brain").data, templates.prior("face").data
    assert 0.9 < brain.max() <= 1
    assert not (templates.prior("face_and_ears").data[brain > 0.1] > 0).any()
    assert not ((face > 0.9) & (brain > 0.1)).any()
    assert set(np.unique(templates.prior("features").data)) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_a_missing_prior_is_named():
    with pytest.raises(DataPackageError, match="chin"):
        templates.prior("chin")


def test_fsl_deface_takes_face_and_ears_and_no_brain(anatomy):
    edit = fsl_deface.plan(anatomy, fsl_deface.Params())
    assert not (edit.mask & anatomy.brain).any()
    for feature in FEATURE_LABELS:
        assert feature_share(edit, anatomy.scan, feature) > 0.75, feature
    assert not apply_edit(anatomy.scan, edit).data[edit.mask].any()


def test_fsl_deface_moves_its_mask_when_nudged(anatomy):
    still, nudged = (
        fsl_deface.plan(anatomy, fsl_deface.Params()),
        fsl_deface.plan(anatomy, fsl_deface.Params(nudge=(0, 0, 12))),
    )
    centre = [np.argwhere(e.mask & anatomy.head).mean(axis=0)[2] for e in (still, nudged)]
    assert centre[1] > centre[0]


def test_mri_deface_takes_the_face_and_keeps_what_can_be_brain(anatomy):
    edit = mri_deface.plan(anatomy, mri_deface.Params())
    possible = resample(templates.prior("brain"), anatomy.scan.grid) > 0
    assert not (edit.mask & possible).any()
    for feature in ("nose", "mouth"):
        assert feature_share(edit, anatomy.scan, feature) > 0.9, feature
    assert feature_share(edit, anatomy.scan, "ears") < 0.5


def test_mri_deface_keeps_more_with_a_wider_margin(anatomy):
    narrow, wide = (
        mri_deface.plan(anatomy, mri_deface.Params(margin_mm=2.0)),
        mri_deface.plan(anatomy, mri_deface.Params(margin_mm=12.0)),
    )
    assert wide.mask.sum() < narrow.mask.sum()


def test_registration_is_not_run_again(anatomy, monkeypatch):
    monkeypatch.setattr(registration, "register_affine", lambda *_, **__: pytest.fail("registered"))
    assert fsl_deface.plan(anatomy, fsl_deface.Params()).mask.any()
