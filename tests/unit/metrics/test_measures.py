"""Volumes, surface distances and agreement: brute force on tiny unequal arrays, published numbers, empty regions."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from efface.errors import InputError
from efface.metrics import (
    MEASURES,
    cohen_kappa,
    compare_labels,
    compare_surfaces,
    fleiss_kappa,
    icc21,
    measure,
    volume_changes,
)
from efface.metrics.dice import POOLED
from efface.segmentation.labels import LABEL_IDS, LABELS, REGIONS

SHAPE = (7, 8, 9)
SPACING_MM = np.array([0.8, 1.0, 2.5])
MEMBERS = [LABEL_IDS, *REGIONS.values(), *[(x.id,) for x in LABELS]]
FEW = (0, 0, 0, 4, 35, 44, 45, 207)


def random_labels(seed, ids=FEW, shape=SHAPE):
    return np.random.default_rng(seed).choice(np.array(ids, np.int32), shape)


def surface_points(mask):
    """Voxels with a face neighbour outside, one by one."""
    points = []
    for index in np.argwhere(mask):
        for step in (*np.eye(3, dtype=int), *-np.eye(3, dtype=int)):
            near = index + step
            if (near < 0).any() or (near >= mask.shape).any() or not mask[tuple(near)]:
                points.append(index)
                break
    return np.array(points) * SPACING_MM


def brute_force(a, b):
    if not (a.any() and b.any()):
        return math.nan, math.nan
    one, two = surface_points(a), surface_points(b)
    between = np.linalg.norm(one[:, None] - two[None], axis=-1)
    forth, back = between.min(axis=1), between.min(axis=0)
    return max(np.percentile(forth, 95), np.percentile(back, 95)), np.concatenate([forth, back]).mean()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_every_surface_distance_is_what_all_pairs_of_voxels_give(seed):
    a, b = random_labels(seed), random_labels(seed + 1)
    b[:4] = a[:4]  # surfaces partly shared
    rows = compare_surfaces(a, b, SPACING_MM)
    assert len(rows) == len(MEMBERS)
    for row, ids in zip(rows, MEMBERS, strict=True):
        expected = brute_force(np.isin(a, ids), np.isin(b, ids))
        assert (row.hd95_mm, row.mean_mm) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_surface_distances_agree_with_distance_transforms():
    rng = np.random.default_rng(3)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(31, 28, 25)), 3) > 0.01 for _ in range(2))
    surfaces = [m & ~ndimage.binary_erosion(m) for m in (a, b)]
    maps = [ndimage.distance_transform_edt(~s, sampling=SPACING_MM) for s in surfaces]
    forth, back = maps[1][surfaces[0]], maps[0][surfaces[1]]
    (whole, *_) = compare_surfaces(np.where(a, 44, 0), np.where(b, 44, 0), SPACING_MM)
    assert whole.hd95_mm == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert whole.mean_mm == pytest.approx(np.concatenate([forth, back]).mean())


@pytest.mark.parametrize("axis", range(3))
def test_a_shifted_cube_is_as_far_away_as_it_was_moved_in_mm(axis):
    a = np.zeros((16, 17, 18), np.int32)
    a[5:10, 5:10, 5:10] = 59
    b = np.roll(a, 3, axis)
    row = next(r for r in compare_surfaces(a, b, SPACING_MM) if r.label == 59)
    nearest = 3 * SPACING_MM[axis]
    assert row.hd95_mm == pytest.approx(nearest)
    assert 0 < row.mean_mm < nearest


def test_nothing_moved_is_zero_and_nothing_there_is_nan():
    a = random_labels(0)
    for row, ids in zip(compare_surfaces(a, a.copy(), SPACING_MM), MEMBERS, strict=True):
        expected = 0.0 if np.isin(a, ids).any() else math.nan
        assert (row.hd95_mm, row.mean_mm) == pytest.approx((expected, expected), nan_ok=True)
    gone = compare_surfaces(a, np.zeros_like(a), SPACING_MM)
    assert all(math.isnan(r.hd95_mm) and math.isnan(r.mean_mm) for r in gone)
    assert all(math.isnan(r.hd95_mm) for r in compare_surfaces(a * 0, a * 0, SPACING_MM))


def test_unknown_numbers_count_as_background_in_distances_too():
    a, b = random_labels(0), random_labels(1)
    strange = np.where(a == 0, 300, a).astype(np.int32)
    strange[0, 0, 0] = 46 if a[0, 0, 0] == 0 else a[0, 0, 0]  # csf of the atlas: none of the 132
    assert repr(compare_surfaces(strange, b, SPACING_MM)) == repr(compare_surfaces(a, b, SPACING_MM))


def test_distances_of_other_shapes_are_refused():
    with pytest.raises(InputError, match="same shape"):
        compare_surfaces(random_labels(0), random_labels(0, shape=(7, 8, 8)), SPACING_MM)


def test_volume_changes_are_signed_and_in_ml():
    a, b = random_labels(0), random_labels(1)
    voxel_ml = 0.8 * 1.0 * 2.5 / 1000
    for row, ids in zip(volume_changes(compare_labels(a, b), SPACING_MM), MEMBERS, strict=True):
        before, after = np.isin(a, ids).sum(), np.isin(b, ids).sum()
        assert row.before_ml == pytest.approx(before * voxel_ml)
        assert row.change_ml == pytest.approx((after - before) * voxel_ml)
        expected = 100 * (after - before) / before if before else math.nan
        assert row.change_percent == pytest.approx(expected, nan_ok=True)


def test_all_measures_name_what_the_table_promises():
    a, b = random_labels(0), random_labels(1)
    rows = measure(a, b, SPACING_MM, tuple(MEASURES))
    names = [n for spec in MEASURES.values() for n in spec.numbers]
    assert {r.measure for r in rows} == set(names)
    for name in names:
        regions = [r.region for r in compare_labels(a, b) if name == "dice" or r.region != POOLED]
        assert [r.region for r in rows if r.measure == name] == regions
    assert {r.measure for r in measure(a, b, SPACING_MM)} == {"dice"}


@pytest.mark.parametrize("names", [(), ("volume",), ("dice", "dice"), ("dice", "weight")])
def test_unknown_or_missing_measures_are_refused(names):
    with pytest.raises(InputError, match="dice always"):
        measure(random_labels(0), random_labels(1), SPACING_MM, names)


def test_icc_is_what_shrout_and_fleiss_published():
    """Their table 2 and 4: six targets, four judges; ICC(2,1) = .29, with the interval .02 to .76 (table 5)."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = icc21(np.array(ratings, float))
    assert found.icc == pytest.approx(0.29, abs=0.005)
    assert (found.low, found.high) == pytest.approx((0.02, 0.76), abs=0.005)


def test_a_systematic_change_lowers_the_icc_and_constant_volumes_have_none():
    before = np.random.default_rng(0).normal(100, 5, 40)
    small = np.random.default_rng(1).normal(0, 0.5, 40)
    equal, shifted = (icc21(np.stack([before, before + small + shift], axis=1)) for shift in (0.0, 10.0))
    assert equal.icc > 0.98 > 0.5 > shifted.icc
    assert equal.low < equal.icc < equal.high
    assert math.isnan(icc21(np.full((5, 2), 3.0)).icc)
    same = icc21(np.stack([before, before], axis=1))
    assert same.icc == 1
    assert math.isnan(same.low)
    with pytest.raises(InputError, match="2 subjects"):
        icc21(np.ones((1, 2)))


def test_icc_intervals_cover_the_truth_at_their_rate():
    rng = np.random.default_rng(5)
    truth = 9.0 / (9.0 + 1.0)
    hits = 0
    for _ in range(400):
        pair = rng.normal(0, 3, (25, 1)) + rng.normal(0, 1, (25, 2))
        found = icc21(pair)
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_all_distances_of_a_head_take_seconds():
    """A ball of 132 labels, 160 voxels wide, as large as a brain at 1 mm."""
    index = np.indices((160, 160, 160)) - 80
    inside = (index**2).sum(axis=0) < 75**2
    cells = ndimage.zoom(np.random.default_rng(0).choice(np.array(LABEL_IDS, np.int32), (10, 10, 10)), 16, order=0)
    a = np.where(inside, cells, 0).astype(np.int32)
    b = np.roll(a, 1, axis=1)
    start = time.process_time()
    compare_surfaces(a, b, np.ones(3))
    assert time.process_time() - start < 15


def test_cohens_kappa_of_a_published_example():
    # Fleiss, Levin, Paik: Statistical Methods for Rates and Proportions, 3rd ed., Table 18.1: kappa = 0.68.
    counts = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    kappa, low, high = cohen_kappa(counts)
    assert kappa == pytest.approx(0.676, abs=0.001)
    assert low < kappa < high


def test_fleiss_kappa_of_his_own_kind_of_table():
    # The worked example of 10 subjects and 14 raters in five categories: kappa = 0.210.
    counts = [(0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
              (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)]  # fmt: skip
    verdicts = np.array([[str(c) for c, n in enumerate(row) for _ in range(n)] for row in counts])
    assert fleiss_kappa(verdicts) == pytest.approx(0.210, abs=0.001)


def test_kappa_is_one_for_agreement_none_for_chance_and_undefined_for_one_word():
    assert cohen_kappa(np.diag([1, 1]))[0] == 1
    assert cohen_kappa(np.ones((2, 2), dtype=np.intp))[0] == 0
    assert np.isnan(cohen_kappa(np.diag([4, 0]))).all()
    assert math.isnan(fleiss_kappa(np.array([["a", "a"]])))
