"""MRI_Deface on the average head."""

import pytest

import average_head
from efface.anatomy import templates
from efface.defacing import mri_deface
from efface.defacing.mri_deface import Params
from efface.spatial.resampling import resample


@pytest.fixture(scope="module")
def anatomy():
    return average_head.anatomy()


def test_mri_deface_takes_the_face_and_keeps_what_can_be_brain(anatomy):
    edit = mri_deface.plan(anatomy, Params())
    possible = resample(templates.prior("brain"), anatomy.scan.grid) > 0
    assert not (edit.mask & possible).any()
    for feature in ("nose", "mouth"):
        assert average_head.landmark_fraction(edit.mask, anatomy.scan, feature) > 0.9, feature
    assert average_head.landmark_fraction(edit.mask, anatomy.scan, "ears") < 0.5


def test_mri_deface_keeps_more_with_a_wider_margin(anatomy):
    narrow, wide = mri_deface.plan(anatomy, Params(margin_mm=2.0)), mri_deface.plan(anatomy, Params(margin_mm=12.0))
    assert wide.mask.sum() < narrow.mask.sum()
