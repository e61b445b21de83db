"""Dice: brute force, symmetry, and what an empty region means."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efface.errors import InputError
from efface.metrics import compare_labels, dice, volumes_ml
from efface.metrics.dice import LEVELS, NINE_REGIONS, POOLED, WHOLE_BRAIN, joint_counts, unknown_labels
from efface.segmentation.labels import LABEL_IDS, LABELS, REGIONS

SHAPE = (7, 8, 9)


def random_labels(seed, ids=(0, *LABEL_IDS), shape=SHAPE):
    return np.random.default_rng(seed).choice(np.array(ids, np.int32), shape)


def brute_force(a, b, ids):
    one, two = np.isin(a, ids), np.isin(b, ids)
    total = one.sum() + two.sum()
    return 2 * (one & two).sum() / total if total else math.nan


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_every_dice_is_what_sets_give(seed):
    few = (0, 4, 35, 44, 45, 207)
    a, b = random_labels(seed, few), random_labels(seed + 1, few)
    rows = compare_labels(a, b)
    assert [r.region for r in rows].index(POOLED) == 1
    rows = [row for row in rows if row.region != POOLED]
    members = [LABEL_IDS, *REGIONS.values(), *[(x.id,) for x in LABELS]]
    assert len(rows) == len(members)
    for row, ids in zip(rows, members, strict=True):
        assert row.dice == pytest.approx(brute_force(a, b, ids), nan_ok=True)
        assert row.voxels_a == np.isin(a, ids).sum()
        assert row.voxels_b == np.isin(b, ids).sum()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_dice_is_symmetric(seed):
    a, b = random_labels(seed), random_labels(seed + 1)
    forth, back = ([r.dice for r in compare_labels(x, y)] for x, y in ((a, b), (b, a)))
    np.testing.assert_array_equal(forth, back)


def test_a_segmentation_agrees_with_itself_and_absent_regions_are_undefined():
    a = random_labels(3, (0, 4, 36))
    rows = {r.region: r for r in compare_labels(a, a)}
    assert rows["whole brain"].dice == 1
    assert rows["caudate"].dice == 1
    assert math.isnan(rows["thalamus"].dice)


def test_a_region_lost_on_one_side_has_dice_zero():
    a = np.full(SHAPE, 35, np.int32)
    rows = {r.region: r.dice for r in compare_labels(a, np.zeros_like(a))}
    assert rows["brainstem"] == 0
    assert dice(0, 5, 0) == 0
    assert math.isnan(dice(0, 0, 0))


def test_the_union_hides_what_the_pooled_dice_shows():
    """All voxels stay brain; a quarter moves from one label to another, 46 is no label and counts for neither."""
    a = np.array([4, 4, 35, 44, 46, 0], np.int32).reshape(1, 2, 3)
    b = np.array([4, 4, 35, 45, 46, 0], np.int32).reshape(1, 2, 3)
    rows = {r.region: r for r in compare_labels(a, b)}
    assert rows[WHOLE_BRAIN].dice == 1
    assert rows[POOLED].dice == 0.75
    labels = [r for r in rows.values() if r.level == "label"]
    both, sizes = sum(r.voxels_both for r in labels), sum(r.voxels_a + r.voxels_b for r in labels)
    assert rows[POOLED].dice == 2 * both / sizes
    assert math.isnan({r.region: r for r in compare_labels(a * 0, b * 0)}[POOLED].dice)


def test_memory_order_does_not_matter():
    a, b = random_labels(4), random_labels(5)
    mixed = joint_counts(np.asfortranarray(a), b)
    np.testing.assert_array_equal(mixed, joint_counts(a, b))
    np.testing.assert_array_equal(joint_counts(np.asfortranarray(a), np.asfortranarray(b)), joint_counts(a, b))


def test_numbers_that_are_no_labels_count_as_background():
    a = np.full(SHAPE, 35, np.int32)
    b = a.copy()
    b[0] = 1024
    b[1] = 46
    row = {r.region: r for r in compare_labels(a, b)}["brainstem"]
    assert row.voxels_b == a.size - 2 * 8 * 9
    assert unknown_labels(b) == [46, 1024]


def test_different_shapes_are_refused_with_both():
    with pytest.raises(InputError, match=r"\(7, 8, 9\) and \(7, 9, 8\)"):
        compare_labels(random_labels(0), random_labels(0, shape=(7, 9, 8)))


def test_negative_labels_are_refused():
    with pytest.raises(InputError, match="negative"):
        compare_labels(np.full(SHAPE, -1, np.int32), random_labels(0))


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i2"])
def test_whole_numbers_of_any_width_are_counted_alike(kind):
    a, b = random_labels(1), random_labels(2)
    np.testing.assert_array_equal(joint_counts(a.astype(kind), b.astype(kind)), joint_counts(a, b))


def test_labels_that_are_no_whole_numbers_are_refused():
    with pytest.raises(InputError, match="must be whole; received float32 and int32"):
        compare_labels(random_labels(1).astype(np.float32), random_labels(2))


def test_levels_are_whole_brain_nine_regions_other_and_labels():
    rows = compare_labels(random_labels(0), random_labels(1))
    assert [sum(r.level == level for r in rows) for level in LEVELS] == [1, 1, 10, 132]
    assert len(NINE_REGIONS) == 9


def test_volumes_count_voxels_in_ml():
    labels = np.zeros(SHAPE, np.int32)
    labels[0, 0, :5] = 59
    labels[0, 1, :3] = 60
    found = {(level, name): ml for level, name, ml in volumes_ml(labels, np.array([1.0, 2.0, 3.0]))}
    assert found["whole brain", "whole brain"] == pytest.approx(8 * 6 / 1000)
    assert found["region", "thalamus"] == pytest.approx(8 * 6 / 1000)
    assert found["region", "caudate"] == 0
