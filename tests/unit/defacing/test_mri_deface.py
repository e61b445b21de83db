"""MRI_Deface on the average head."""

import numpy as np
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


def test_what_can_be_brain_is_dilated_by_a_cube():
    mask = np.zeros((41, 41, 41), np.bool_)
    mask[20, 20, 20] = True
    grown = mri_deface.within_cube(mask, 7.0, np.array([1.0, 2.0, 3.0]))
    expected = np.zeros_like(mask)
    expected[13:28, 17:24, 18:23] = True  # 7, 3 and 2 whole voxels
    assert np.array_equal(grown, expected)
    assert mri_deface.within_cube(mask, np.inf, np.ones(3)).all()
    assert np.array_equal(mri_deface.within_cube(mask, 0.0, np.ones(3)), mask)


@pytest.mark.parametrize(("deviations", "expected"), [(2.7, True), (2.95, False)])
def test_the_variances_of_both_hemispheres_are_added(deviations, expected):
    """A distance of 2 by the added variance is 2.83 standard deviations of a tissue."""
    rng = np.random.default_rng(3)
    tissues = [rng.uniform(mean - 10, mean + 10, 20_000) for mean in (100.0, 300.0, 500.0)]
    data = np.concatenate([*tissues, [500 + deviations * 20 / np.sqrt(12)]]).astype(np.float32)
    brain = np.ones(data.size, np.float32)
    brain[-1] = 0.5
    similar = mri_deface.looks_like_brain(data, brain, 2.0)
    assert similar[20_000:-1].all()
    assert not similar[:20_000].any()
    assert similar[-1] == expected
