"""A brain mask with a hole is noticed by a network that never saw the mask."""

import numpy as np
import pytest

import average_head
from efface.anatomy import head_anatomy, pose_network
from efface.anatomy.brain_witness import MISSED_ML
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import Edit, apply_edit, plan
from efface.quality import judge
from efface.quality.verdict import QualityClass

SLAB_MM = 15.0


@pytest.fixture(scope="module")
def good():
    return average_head.anatomy()


@pytest.fixture(scope="module")
def cut(good):
    """The same head with a mask that ends 15 mm behind the frontal pole."""
    brain = good.brain.copy()
    front = int(np.flatnonzero(brain.any(axis=(0, 2)))[-1])
    brain[:, front - int(SLAB_MM / good.scan.spacing_mm[1]) :] = False
    return HeadAnatomy(good.scan, brain, registration=good.registration, landmarks=good.landmarks)


def test_a_good_mask_misses_next_to_nothing(good):
    assert good.missed_brain.sum() * np.prod(good.scan.spacing_mm) / 1000 < 1.0
    assert good.brain_doubts == ()


def test_what_a_mask_leaves_out_is_found_where_it_is(good, cut):
    missed = cut.missed_brain
    assert missed.sum() * np.prod(cut.scan.spacing_mm) / 1000 > MISSED_ML
    assert (good.brain & ~cut.brain)[missed].mean() > 0.95
    (warning,) = cut.brain_doubts
    assert "the brain mask seems to miss" in warning
    assert "--brain-mask" in warning


def test_a_doubtful_mask_is_named_when_a_head_is_defaced(good, cut):
    assert set(cut.brain_doubts) <= set(plan(cut, "fsl_deface").warnings)
    assert not any("seems to miss" in warning for warning in plan(good, "fsl_deface").warnings)


def test_damage_that_the_mask_hides_is_a_failure(good, cut):
    """A method that trusts the mask cuts what the mask leaves out, and so would a check that trusts it."""
    edit = Edit(good.brain & ~cut.brain, 0.0, "quickshear")
    damaged = apply_edit(good.scan, edit)
    assert judge(good, damaged).verdict is QualityClass.FAILURE_II
    verdict = judge(cut, damaged)
    assert verdict.verdict is QualityClass.FAILURE_II
    assert verdict.brain.damaged_ml > MISSED_ML
    assert set(cut.brain_doubts) <= set(verdict.warnings)


def test_pose_and_witness_ask_the_network_once(good, monkeypatch):
    asked = []
    monkeypatch.setattr(head_anatomy, "predict", lambda image: asked.append(image) or pose_network.predict(image))
    anatomy = HeadAnatomy(good.scan, good.brain)
    assert anatomy.registration.converged
    assert np.array_equal(anatomy.missed_brain, good.missed_brain)
    assert len(asked) == 1
