"""FSL_deface on the average head."""

import numpy as np
import pytest

import average_head
from efface.anatomy.templates import FEATURE_LABELS
from efface.defacing import apply_edit, fsl_deface
from efface.defacing.fsl_deface import Params
from efface.spatial import registration


@pytest.fixture(scope="module")
def anatomy():
    return average_head.anatomy()


def test_fsl_deface_takes_face_and_ears_and_no_brain(anatomy):
    edit = fsl_deface.plan(anatomy, Params())
    assert not (edit.mask & anatomy.brain).any()
    for feature in FEATURE_LABELS:
        assert average_head.landmark_fraction(edit.mask, anatomy.scan, feature) > 0.75, feature
    assert not apply_edit(anatomy.scan, edit).data[edit.mask].any()


def test_fsl_deface_moves_its_mask_when_nudged(anatomy):
    still, nudged = fsl_deface.plan(anatomy, Params()), fsl_deface.plan(anatomy, Params(nudge=(0, 0, 12)))
    centre = [np.argwhere(e.mask & anatomy.head).mean(axis=0)[2] for e in (still, nudged)]
    assert centre[1] > centre[0]


def test_registration_is_not_run_again(anatomy, monkeypatch):
    monkeypatch.setattr(registration, "register_affine", lambda *_, **__: pytest.fail("registered"))
    assert fsl_deface.plan(anatomy, Params()).mask.any()
