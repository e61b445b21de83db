"""Alignment by the brain or by the whole head: which affine, which bias field, and which voxels are z-scored."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import average_head
from efface.errors import InputError, RegistrationError
from efface.segmentation import described, segment
from efface.segmentation.brain_alignment import AVERAGE_TO_TEMPLATE
from efface.segmentation.braincolor_template import load_template
from efface.segmentation.labels import LABEL_IDS
from efface.segmentation.slant import alignment, preprocessing, whole_brain
from efface.segmentation.slant.alignment import Alignment, aligned, head_to_template
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.pipeline import segment_slant
from efface.segmentation.slant.preprocessing import standardise
from efface.segmentation.slant.tiling import EMBEDDED
from efface.spatial.affine import apply_affine
from efface.spatial.types import Grid, Volume
from slant_weights import ball

REFUSED = replace(average_head.IN_PLACE, converged=False, reason="correlation 0.1")
BRAIN_MM = np.array([[0, 0, 0], [50, -20, 10], [-50, -20, 10], [0, 60, 0], [0, -80, 0], [0, 0, 50.0]])


@pytest.fixture(scope="module")
def head():
    return average_head.anatomy()


def test_the_average_head_by_its_whole_is_where_it_is(head):
    found = head_to_template(head)
    off = np.linalg.norm(apply_affine(found, BRAIN_MM) - apply_affine(AVERAGE_TO_TEMPLATE, BRAIN_MM), axis=1)
    assert off.max() < 1.0


def test_the_whole_head_gives_affine_field_and_intensities(head):
    found = aligned(head, SlantParams(align="head"), [])
    np.testing.assert_array_equal(found.to_template, head_to_template(head))
    np.testing.assert_array_equal(found.field, head.head)
    scored = found.scored_on(head.scan.grid, found.to_template)
    assert 0.8 < np.count_nonzero(scored & head.brain) / np.count_nonzero(head.brain) <= 1
    assert np.count_nonzero(scored & ~head.brain) < 0.25 * np.count_nonzero(head.brain)


def test_the_brain_gives_all_three_by_default(head, monkeypatch):
    monkeypatch.setattr(alignment, "scan_to_template", lambda *_: AVERAGE_TO_TEMPLATE)
    monkeypatch.setattr(alignment, "head_to_template", lambda *_: pytest.fail("the head was registered"))
    found = aligned(head, SlantParams(), [])
    assert found.field is None
    assert found.scored_on(head.scan.grid, found.to_template) is None


def test_a_brain_without_a_head_is_not_aligned_by_its_head():
    with pytest.raises(RegistrationError, match=r"brain without its head, .* use align=brain"):
        head_to_template(SimpleNamespace(shows_brain_alone=True))


def test_a_head_that_does_not_fit_is_refused():
    with pytest.raises(RegistrationError, match=r"to the average head: correlation 0.1; use align=brain"):
        head_to_template(SimpleNamespace(shows_brain_alone=False, registration_mi=REFUSED))


def test_an_affine_that_leaves_the_brain_off_the_grid_is_refused():
    template = load_template()
    inside = Volume((template.data > 0).astype(np.float32), template.affine)
    far = Grid((40, 40, 40), np.diag([2.0, 2, 2, 1]) + np.eye(4)[:, [3]] @ [[0, 0, 0, 500.0]])
    with pytest.raises(RegistrationError, match=r"0 voxels of the template's brain lie in the brain"):
        Alignment(np.eye(4), None, inside).scored_on(far, np.eye(4))


def test_a_standard_head_is_scored_and_corrected_where_it_is_told_to(monkeypatch):
    volume, brain, to_scan = ball()
    masks = []

    def no_field(values, mask, _spacing):
        masks.append(mask)
        return np.zeros_like(values)

    monkeypatch.setattr(preprocessing, "log_bias_field", no_field)
    by_brain = standardise(volume, brain, to_scan, EMBEDDED.grid)
    scored = by_brain.image > by_brain.image[by_brain.brain].mean()
    by_other = standardise(volume, brain, to_scan, EMBEDDED.grid, field=np.ones_like(brain), scored=scored)
    assert abs(by_other.image[scored].mean()) < 0.01
    assert by_other.image[by_other.brain].mean() < -1
    np.testing.assert_array_equal(masks[0], by_brain.brain)
    assert np.count_nonzero(masks[1]) > 1.5 * np.count_nonzero(masks[0])
    np.testing.assert_array_equal(by_other.brain, by_brain.brain)


def test_z_scores_of_the_whole_brain_are_of_the_scored_voxels():
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 20, 20), dtype=np.bool_)
    mask[3:17, 3:17, 3:17] = True
    values = (rng.normal(300, 20, mask.shape) + 40 * (np.arange(20) > 9)).astype(np.float32)
    scored = mask & (np.arange(20) > 9)
    found = whole_brain.z_scores(values, mask, np.ones(3), bias=False, scored=scored)
    assert abs(found[scored].mean()) < 0.02
    assert found[mask & ~scored].mean() < -1.5
    assert not found[~mask].any()


def test_the_bias_field_of_the_whole_head_is_estimated_once(head, monkeypatch):
    masks = []

    def flat(values, mask, _spacing):
        masks.append(mask)
        return values

    monkeypatch.setattr(whole_brain, "correct_bias", flat)
    found = aligned(head, SlantParams(align="head"), [])
    box = tuple(slice(0, n) for n in head.scan.shape)
    whole_brain._scored(head, found, box, bias=True)
    assert len(masks) == 1
    np.testing.assert_array_equal(masks[0], head.head)
    whole_brain._scored(head, found, box, bias=False)
    assert len(masks) == 1


def test_labels_by_the_whole_head_are_on_the_scan_grid(compact, monkeypatch):
    volume, brain, turn = ball()
    affine = EMBEDDED.to_template @ np.linalg.inv(turn)
    monkeypatch.setattr(alignment, "head_to_template", lambda _anatomy: affine)
    scan = SimpleNamespace(
        volume=volume, data=volume.data, grid=volume.grid, shape=volume.data.shape, affine=volume.affine
    )
    ball_anatomy = SimpleNamespace(scan=scan, image=volume, brain=brain, head=np.ones_like(brain))
    labels = segment_slant(ball_anatomy, SlantParams(compact=str(compact), align="head"))
    assert set(np.unique(labels.values)) == {0, LABEL_IDS[6]}
    centre = apply_affine(volume.affine, np.argwhere(labels.values > 0)).mean(axis=0)
    expected = [-85 + 2 * 23.5, -124 + 2 * 44.5, -72 + 2 * 34.5]
    np.testing.assert_allclose(centre, apply_affine(turn, np.array([expected]))[0], atol=1.5)
    assert labels.provenance.params["align"] == "head"


def test_a_paper_says_that_the_whole_head_was_aligned():
    assert described("slant", {"align": "head"}).endswith("at 1 mm, aligned by the whole head")
    assert "aligned" not in described("slant")


def test_another_word_for_the_alignment_is_refused():
    with pytest.raises(InputError, match="align must be one of brain, head, no; received skull"):
        segment(None, "slant", {"align": "skull"})
