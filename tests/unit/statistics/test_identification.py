"""Ranks, rates, curves and AUC of an attack: right values, and who is counted."""

import numpy as np
import pytest

from efface.statistics.identification import centred, identification, wilson

N = 12


def distances(seed=0, own=0.5):
    """Everybody is 1 to 2 from everybody; the own person at `own` times that."""
    found = np.random.default_rng(seed).uniform(1, 2, (N, N))
    found[np.diag_indices(N)] *= own
    return found


def attack(found, own=None, attacked=None):
    own = np.arange(len(found)) if own is None else np.asarray(own)
    return identification(found, own, np.ones(len(found), bool) if attacked is None else np.asarray(attacked))


def test_people_who_fit_best_are_all_found():
    found = attack(distances(own=0.1))
    assert found.rank1 == found.auc == found.auc_low == found.auc_high == 1
    np.testing.assert_array_equal(found.ranks, 1)
    np.testing.assert_array_equal(found.curve, 1)
    assert found.rank1_low == pytest.approx(0.7575, abs=1e-4)  # Wilson, 12 of 12
    assert found.chance == pytest.approx(1 / N)


def test_people_who_are_like_all_others_are_found_by_chance():
    many = [attack(distances(seed, own=1.0)) for seed in range(40)]
    assert np.mean([found.rank1 for found in many]) == pytest.approx(1 / N, abs=0.04)
    assert np.mean([found.auc for found in many]) == pytest.approx(0.5, abs=0.03)
    covered = [found.auc_low <= 0.5 <= found.auc_high for found in many]
    assert np.mean(covered) >= 0.85


def test_the_wrong_person_is_not_the_right_one():
    found = attack(distances(own=0.1), own=np.roll(np.arange(N), 1))
    assert found.rank1 == 0
    assert found.rank1_low == pytest.approx(0, abs=1e-12)
    assert found.auc < 0.5


def test_a_rank_counts_those_who_are_nearer():
    found = distances(own=1.0)[:4]  # of so few probes, people are compared as they are
    found[0] = np.arange(1, N + 1)
    found[0, 0] = 3.5  # nearer: 2 and 3
    assert attack(found).ranks[0] == 3
    share = attack(found).curve
    assert (np.diff(share) >= 0).all()
    assert share[-1] == 1


def test_a_person_who_looks_like_the_average_does_not_hide_the_others():
    near_all = np.ones(N)
    near_all[4] = 0.1
    found = attack(distances(own=0.5) * near_all)
    assert found.rank1 == attack(distances(own=0.5)).rank1 == 1
    assert attack(distances(own=0.5)[:4] * near_all).rank1 == 0  # nobody can tell who that is from so few


def test_the_curve_is_the_share_of_people_up_to_each_rank():
    found = np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, 3]])
    np.testing.assert_allclose(attack(found).curve, [1 / 3, 2 / 3, 1])


def test_what_was_not_attacked_widens_the_interval_and_stays_in_the_rate():
    attacked = np.arange(N) >= 3
    found = attack(distances(own=0.1), attacked=attacked)
    assert found.not_attacked == 3
    assert found.rank1 == pytest.approx(9 / N)
    assert found.rank1_low == pytest.approx(wilson(9, N)[0])
    assert found.rank1_high == pytest.approx(wilson(N, N)[1])
    assert np.isnan(found.ranks[:3]).all()


def test_a_probe_with_nothing_left_is_not_found_and_fits_everybody_alike():
    values = distances(own=0.1)
    values[0] = np.nan
    found = attack(values)
    assert found.not_attacked == 0
    assert found.rank1 == pytest.approx((N - 1) / N)
    assert found.rank1_high < 1
    assert found.auc == pytest.approx((N - 0.5) / N, abs=0.06)


def test_a_person_who_is_not_in_the_gallery_is_counted_as_not_found():
    attacked = np.arange(N) > 0
    found = attack(distances(own=0.1), own=[-1, *range(1, N)], attacked=attacked)
    assert found.people == N
    assert found.rank1 == pytest.approx((N - 1) / N)


def test_probes_of_one_person_count_as_one():
    once = attack(distances(own=0.1))
    again = attack(np.repeat(distances(own=0.1), 5, axis=0), own=np.repeat(np.arange(N), 5))
    assert again.probes == 5 * N
    assert (again.people, again.rank1_low) == (once.people, once.rank1_low)


def test_the_interval_of_the_auc_is_over_people_not_pairs():
    found = attack(distances(own=0.85))
    pairs = N * (N - 1)
    naive = 2 * 1.96 * np.sqrt(found.auc * (1 - found.auc) / pairs)
    assert found.auc_high - found.auc_low > naive


def test_the_same_distances_give_the_same_interval():
    assert attack(distances()).auc_low == attack(distances()).auc_low


def test_few_people_have_an_auc_without_an_interval():
    found = attack(distances()[:4, :4])
    assert not np.isnan(found.auc)
    assert np.isnan(found.auc_low)


def test_a_persons_level_is_taken_away_where_probes_of_six_people_are_there():
    rng = np.random.default_rng(0)
    distances = np.exp(rng.normal(size=(6, 3)))
    of_three = centred(distances, np.array([0, 0, 1, 1, 2, 2]))
    np.testing.assert_allclose(np.median(of_three, axis=1), 0, atol=1e-12)
    assert np.abs(np.median(of_three, axis=0)).max() > 0.1
    of_six = centred(distances, np.arange(6))
    np.testing.assert_allclose(np.median(of_six, axis=0), 0, atol=1e-12)


def test_the_level_of_a_probe_does_not_count():
    scale = np.linspace(1, 50, N)[:, None]
    assert attack(distances() * scale).auc == pytest.approx(attack(distances()).auc)
