"""Intervals cover and tests err at their rates on simulated data; every row says what it says; few subjects give n/a."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from efface.segmentation.labels import REGIONS
from efface.statistics import inference
from efface.statistics.inference import (
    MINIMUM_SUBJECTS,
    Finding,
    equivalence,
    friedman,
    holm,
    median_of,
    mixed,
    paired,
    smallest_p,
)
from efface.study.comparisons import (
    CONFOUNDED,
    SUPERIORITY,
    UNCONTROLLED,
    WILCOXON,
    Comparison,
    StatisticsRow,
    correct,
)
from efface.study.records import STATISTICS, TEXT_COLUMNS
from efface.study.statistics_table import (
    EQUIVALENT,
    LARGER,
    NOT_SHOWN,
    SMALLER,
    UNDECIDED,
    compute_statistics,
)

RUNS = 300
RESCANS = ("rescan-1-2", "rescan-2-1")
TEST = "superiority"


@pytest.fixture
def quick(monkeypatch):
    """Fewer bootstrap samples, where hundreds of intervals are made."""
    monkeypatch.setattr(inference, "RESAMPLES", 399)


def rate(outcomes):
    return float(np.mean(list(outcomes)))


def binomial_limits(p, runs=RUNS):
    """Between these lies the rate of an event of probability p, but once in 1000."""
    low, high = stats.binom.interval(0.999, runs, p)
    return low / runs, high / runs


# --- rates -----------------------------------------------------------------------------------------------------------


def test_intervals_of_the_median_cover_the_truth(quick):
    """Skewed values, as Dice is; two scans a subject that share a subject's effect."""
    rng = np.random.default_rng(1)
    truth = np.median(rng.exponential(1, 200_000) + rng.normal(0, 0.3, 200_000))

    def covers():
        subject = rng.exponential(1, (25, 1))
        found = median_of(list(subject + rng.normal(0, 0.3, (25, 2))))
        return found.low <= truth <= found.high

    assert 0.90 <= rate(covers() for _ in range(RUNS)) <= 0.99


def test_ignoring_whose_scans_they_are_would_not_cover(quick):
    """What the bootstrap over subjects is for: scans drawn one by one give intervals that are too short."""
    rng = np.random.default_rng(2)

    def covers(by_subject):
        values = rng.normal(0, 1, (15, 1)) + rng.normal(0, 0.1, (15, 6))
        found = median_of(list(values) if by_subject else [np.array([v]) for v in values.ravel()])
        return found.low <= 0 <= found.high

    assert rate(covers(True) for _ in range(RUNS)) > 0.88
    assert rate(covers(False) for _ in range(RUNS)) < 0.7


@pytest.mark.parametrize("n", [6, 20, 60])
def test_wilcoxon_errs_at_its_rate_and_its_interval_covers(quick, n):
    rng = np.random.default_rng(n)
    found = [paired(rng.laplace(0, 1, n)) for _ in range(RUNS)]
    assert rate(f.p < 0.05 for f in found) <= binomial_limits(0.05)[1]
    assert 0.89 <= rate(f.low <= 0 <= f.high for f in found) <= 1.0


@pytest.mark.parametrize("n", [10, 40])
def test_wilcoxon_with_ties_and_zeros_errs_at_its_rate(n):
    """Dice that is often the same: differences of whole steps, many of them 0."""
    rng = np.random.default_rng(n)
    drawn = (rng.integers(-2, 3, n).astype(float) for _ in range(RUNS))
    found = [inference._signed_ranks(d, "two-sided")[1] for d in drawn if d.any()]
    assert rate(p < 0.05 for p in found) <= binomial_limits(0.05)[1]


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_exact_signed_ranks_with_ties_are_what_scipy_enumerates(alternative):
    values = np.array([0, 0, 1, 1, -2, 3, 4, 4.0])
    method = stats.PermutationMethod(n_resamples=2**13)
    expected = stats.wilcoxon(values, zero_method="pratt", alternative=alternative, method=method)
    found = inference._signed_ranks(values, alternative)
    assert found == pytest.approx((expected.statistic, expected.pvalue))
    plain = np.array([0.5, 1, -2, 3, 4, 4.5])
    expected = stats.wilcoxon(plain, alternative=alternative)
    assert inference._signed_ranks(plain, alternative) == pytest.approx((expected.statistic, expected.pvalue))


def test_the_one_sided_question_errs_at_its_rate_and_finds_what_is_there(quick):
    rng = np.random.default_rng(4)
    assert rate(paired(rng.normal(0, 1, 20), "less").p < 0.05 for _ in range(RUNS)) <= binomial_limits(0.05)[1]
    assert rate(paired(rng.normal(-1, 1, 20), "less").p < 0.05 for _ in range(100)) > 0.9
    assert rate(paired(rng.normal(1, 1, 20), "less").p < 0.05 for _ in range(100)) == 0


@pytest.mark.parametrize("n", [6, 20])
def test_friedman_errs_at_its_rate_and_its_interval_covers(n):
    rng = np.random.default_rng(10 + n)
    found = [friedman(rng.normal(0, 1, (n, 6)) + rng.normal(0, 3, (n, 1))) for _ in range(RUNS)]
    low, high = binomial_limits(0.05)
    assert low <= rate(f.p < 0.05 for f in found) <= high
    shift = np.arange(6) * 0.5
    big = stats.rankdata(rng.normal(0, 1, (50_000, 6)) + shift, axis=1).mean(axis=0)
    truth = ((big - 3.5) ** 2).sum() / (6 * 35 / 12)
    shifted = [friedman(rng.normal(0, 1, (n, 6)) + shift) for _ in range(RUNS)]
    assert rate(f.p < 0.05 for f in shifted) > 0.5
    assert 0.90 <= rate(f.low <= truth <= f.high for f in shifted) <= 1.0


def test_friedman_agrees_with_scipy():
    values = np.random.default_rng(0).normal(0, 1, (15, 4)) + np.arange(4) * 0.4
    found = friedman(values)
    chi2 = stats.friedmanchisquare(*values.T).statistic
    w = chi2 / (15 * 3)
    assert found.effect == pytest.approx((15 * w - 1) / 14)
    rho = np.corrcoef(stats.rankdata(values, axis=1))
    assert found.effect == pytest.approx(rho[~np.eye(15, dtype=bool)].mean())
    assert found.statistic == pytest.approx(14 * chi2 / (15 * 3 - chi2))


def test_equivalence_errs_at_its_rate_at_the_margin_and_finds_what_is_equivalent():
    rng = np.random.default_rng(5)
    assert rate(equivalence(rng.normal(1, 1, 20), 1.0).p < 0.05 for _ in range(RUNS)) <= binomial_limits(0.05)[1]
    found = [equivalence(rng.normal(0, 1, 20), 1.0) for _ in range(100)]
    assert rate(f.p < 0.05 for f in found) > 0.8
    assert all((f.p < 0.05) == (f.low > -1 and f.high < 1) for f in found), "the test and its 90 % interval agree"


@pytest.mark.parametrize("scans", [2, (1, 2, 3)])
def test_mixed_models_err_at_their_rate_and_their_intervals_cover(scans):
    rng = np.random.default_rng(6)
    runs, truth = 60, 0.3
    found = []
    for _ in range(runs):
        counts = np.full(12, scans) if isinstance(scans, int) else rng.choice(scans, 12)
        who = np.repeat(np.arange(12), counts)
        found.append(mixed(truth + rng.normal(0, 1, 12)[who] + rng.normal(0, 0.5, who.size), who))
    assert rate(f.low <= truth <= f.high for f in found) >= binomial_limits(0.95, runs)[0]
    assert rate(abs(f.effect - truth) / ((f.high - f.low) / 2) > 1 for f in found) <= binomial_limits(0.05, runs)[1]


def test_a_balanced_mixed_model_is_the_t_test_of_subject_means():
    rng = np.random.default_rng(7)
    values = rng.normal(0.2, 1, (12, 1)) + rng.normal(0, 0.5, (12, 2))
    found = mixed(values.ravel(), np.repeat(np.arange(12), 2))
    assert found.p == pytest.approx(stats.ttest_1samp(values.mean(axis=1), 0).pvalue, rel=1e-3)


def test_holm_gives_what_statsmodels_gives():
    p = np.random.default_rng(0).uniform(0, 0.1, 40).round(2)  # with ties
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_holm_counts_only_what_was_tested():
    nan = math.nan
    assert holm([0.01, nan, 0.04, 0.03]) == pytest.approx([0.03, nan, 0.06, 0.06], nan_ok=True)
    assert all(math.isnan(p) for p in holm([nan, nan]))


@pytest.mark.parametrize("alternative", ["two-sided", "less"])
@pytest.mark.parametrize("n", [6, 9])
def test_the_smallest_p_is_that_of_differences_of_one_sign(quick, n, alternative):
    assert smallest_p(n, alternative) == paired(-np.arange(1.0, n + 1), alternative).p


# --- many tests ------------------------------------------------------------------------------------------------------


def rows_of(p, n=20):
    """Rows of superiority tests from {(method, region): p}; the opposite p is 1 - p."""
    rows = []
    for (method, region), value in p.items():
        about = Comparison("dice", region if region == "whole brain" else "region", region, method, "native", "rescan")
        rows.append(StatisticsRow(about, SUPERIORITY, "", Finding(n, p=value), n, opposite_p=1 - value))
    return rows


def controls_of(rows):
    """Of every rescan that rows are compared with: a scan that was only resampled, and costs less."""
    about = {dataclasses.replace(row.comparison, method="resampled", implementation="resample") for row in rows}
    return [StatisticsRow(x, SUPERIORITY, "", Finding(20, effect=-0.1), 20) for x in about]


def corrected(p, n=20):
    rows = rows_of(p, n)
    correct([*rows, *controls_of(rows)])
    return {(row.comparison.method, row.comparison.region): row for row in rows}


def test_regions_are_corrected_within_a_method_and_behind_the_whole_brain():
    p = {("a", "whole brain"): 0.01, ("a", "x"): 0.02, ("a", "y"): 0.001,
         ("b", "whole brain"): 0.03, ("b", "x"): 0.0001}  # fmt: skip
    found = corrected(p)
    assert {key: row.corrected for key, row in found.items()} == pytest.approx(
        {("a", "whole brain"): 0.02, ("a", "x"): 0.02, ("a", "y"): 0.02,
         ("b", "whole brain"): 0.03, ("b", "x"): 0.03}
    )  # fmt: skip
    assert "2 tests" in found["a", "x"].family
    assert found["b", "x"].family.endswith("1 test, after the whole brain")


def test_where_the_whole_brain_does_not_pass_no_region_does_and_an_opposite_effect_opens_the_gate():
    shut = corrected({("a", "whole brain"): 0.2, ("a", "x"): 1e-6})
    assert shut["a", "x"].corrected == pytest.approx(0.2)
    assert {row.verdict for row in shut.values()} == {UNDECIDED}
    opposite = corrected({("a", "whole brain"): 0.999, ("a", "x"): 1e-6})
    assert [row.verdict for row in opposite.values()] == [LARGER, SMALLER]
    without = corrected({("a", "whole brain"): math.nan, ("a", "x"): 1e-6})
    assert without["a", "x"].verdict == UNDECIDED
    assert corrected({("a", "x"): 1e-6})["a", "x"].verdict == SMALLER, "a table without the whole brain has no gate"


def test_the_two_verdicts_of_a_method_without_effect_err_in_ten_percent_together():
    rng = np.random.default_rng(0)
    regions = ["whole brain", *"abcdefghi"]
    runs = [{row.verdict for row in corrected({("m", r): rng.uniform() for r in regions}).values()} for _ in range(RUNS)]
    low, high = binomial_limits(0.10)
    assert low <= rate(bool(found & {SMALLER, LARGER}) for found in runs) <= high


@pytest.mark.parametrize(
    ("n", "whole", "regions"),
    [
        (6, "cannot be decided with 6 subjects", "cannot be decided with 6 subjects"),
        (7, SMALLER, "cannot be decided with 7 subjects"),
        (8, SMALLER, SMALLER),
    ],
)
def test_what_so_few_subjects_cannot_decide_of_six_methods_is_said(n, whole, regions):
    """Every method costs less than the rescan in every subject and region: nothing can be clearer."""
    least = smallest_p(n, "less")
    found = corrected({(m, region): least for m in "abcdef" for region in ("whole brain", *REGIONS)}, n)
    assert {row.verdict for (_, region), row in found.items() if region == "whole brain"} == {whole}
    assert {row.verdict for (_, region), row in found.items() if region != "whole brain"} == {regions}


@pytest.mark.parametrize(("n", "said"), [(9, "cannot be decided with 9 subjects"), (10, "")])
def test_pairs_of_six_methods_on_the_whole_brain_need_ten_subjects(n, said):
    pairs = itertools.combinations("abcdef", 2)
    about = (Comparison("dice", "whole brain", "whole brain", one, "native", other) for one, other in pairs)
    rows = [StatisticsRow(x, WILCOXON, "", Finding(n, p=smallest_p(n)), n) for x in about]
    correct(rows)
    assert {row.verdict for row in rows} == {said}


# --- few subjects, and nothing to test -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(MINIMUM_SUBJECTS))
def test_few_subjects_give_the_effect_and_a_reason_but_no_interval_and_no_p(n):
    values = np.arange(1.0, n + 1)
    found = [median_of([np.array([v]) for v in values]), paired(values), equivalence(values, 1.0),
             friedman(np.arange(3.0) + values[:, None]), mixed(values, np.arange(n))]  # fmt: skip
    for f in found:
        assert f.n == n
        assert f.reason
        assert all(math.isnan(x) for x in (f.low, f.high, f.p))
    assert n == 0 or found[0].effect == np.median(values)


def test_what_does_not_vary_has_no_p_and_says_why():
    zeros = np.zeros(10)
    for found in (
        paired(zeros),
        equivalence(zeros, 1.0),
        mixed(zeros, np.repeat(range(5), 2)),
        friedman(np.ones((8, 4))),
    ):
        assert math.isnan(found.p)
        assert found.reason
    assert friedman(np.tile(np.arange(4.0), (8, 1))).p == 0
    assert "margin" in equivalence(np.arange(8.0), 0.0).reason


# --- the table -------------------------------------------------------------------------------------------------------


def long(values, measure="dice", sessions=("1",), region="thalamus", implementation="native", level="region"):
    """Rows of {method: one value a subject}; the same in every session."""
    rows = [
        (f"{i:02d}", s, f"sub-{i:02d}_ses-{s}", method, implementation, "atlas", measure, level, region, float(v))
        for s in sessions
        for method, column in values.items()
        for i, v in enumerate(column)
    ]
    names = [
        "subject",
        "session",
        "scan",
        "method",
        "implementation",
        "segmenter",
        "measure",
        "level",
        "region",
        "value",
    ]
    return pd.DataFrame(rows, columns=names)


def cohort(n, cost, rescan_cost, seed=0, control=0.0):
    """Whole-brain Dice of methods with these mean costs, of rescans, and of the control that is only resampled."""
    rng = np.random.default_rng(seed)
    dice = {m: 1 - c * rng.uniform(0.8, 1.2, n) for m, c in cost.items()}
    whole = {"level": "whole brain", "region": "whole brain"}
    frame = long(dice, **whole)
    again = [
        long({g: 1 - rescan_cost * rng.uniform(0.8, 1.2, n)}, implementation="affine", **whole)
        for g in ("rescan-1-2", "rescan-2-1")
    ]
    if control is not None:
        again.append(long({"resampled": np.full(n, 1 - control)}, implementation="resample", **whole))
    return frame, pd.concat([frame, *again], ignore_index=True)


EMPTY = pd.DataFrame(columns=["subject", "level", "region", "method", "implementation", "scan", "measure", "value",
                              "volume_ml", "volume_change_ml"])  # fmt: skip
COSTS = {"small": 0.01, "equal": 0.05, "large": 0.2}


def row(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_a_method_is_told_smaller_larger_or_not_decided():
    dice, rescan = cohort(15, COSTS, 0.05)
    table = compute_statistics(dice, EMPTY, EMPTY, rescan)
    assert tuple(table.columns) == STATISTICS
    found = {m: row(table, test=TEST, method=m) for m in COSTS}
    assert [found[m].verdict for m in COSTS] == [SMALLER, UNDECIDED, LARGER]
    small = found["small"]
    assert small.n == small.scans == 15
    assert small.reference == "rescan (affine)"
    assert small.effect == pytest.approx(-0.04, abs=0.005)
    assert small.low <= small.effect <= small.high < 0
    assert math.isnan(small.margin), "superiority has no margin"
    assert small.confidence == 0.9
    assert "3 tests" in small.family
    assert found["small"].p_corrected == pytest.approx(3 * small.p)


def test_pairs_and_friedman_are_there_and_corrected_together():
    dice, _ = cohort(15, COSTS, 0.05)
    table = compute_statistics(dice, EMPTY, EMPTY, dice.iloc[:0])
    wilcoxon = table[table.test == "wilcoxon"]
    assert list(zip(wilcoxon.method, wilcoxon.reference, strict=True)) == [
        ("small", "equal"), ("small", "large"), ("equal", "large"),
    ]  # fmt: skip
    assert (wilcoxon.effect > 0).all()
    assert (wilcoxon.p_corrected >= wilcoxon.p).all()
    assert (wilcoxon.p_corrected < 0.05).all()
    assert row(table, test="friedman").effect == 1
    assert "more than one scan" in row(table, test="mixed model").reason
    summary = row(table, test="summary", method="large")
    assert summary.q1 <= summary.effect <= summary.q3
    assert summary.low <= summary.effect <= summary.high


def test_sessions_that_repeat_give_mixed_models_and_do_not_inflate_n():
    dice, _ = cohort(12, {"a": 0.01, "b": 0.05}, 0.05)
    both = pd.concat([dice, dice.assign(session="2", scan=dice.scan + "x", value=dice.value - 0.001)])
    table = compute_statistics(both, EMPTY, EMPTY, dice.iloc[:0])
    for test in ("wilcoxon", "mixed model"):
        found = row(table, test=test)
        assert (found.n, found.scans) == (12, 24)
        assert found.p_corrected < 0.05


def test_friedman_compares_methods_on_the_scans_that_all_of_them_have():
    """Three equal methods; on each subject's second scan, which is hard, one of them has no result."""
    rng = np.random.default_rng(0)
    easy = long({m: 0.99 + rng.normal(0, 1e-3, 12) for m in "abc"})
    hard = long({m: 0.90 + rng.normal(0, 1e-3, 12) for m in "abc"}, sessions=("2",))
    hard.loc[hard.method == "a", "value"] = math.nan
    table = compute_statistics(pd.concat([easy, hard]), EMPTY, EMPTY, easy.iloc[:0])
    found, expected = row(table, test="friedman"), compute_statistics(easy, EMPTY, EMPTY, easy.iloc[:0])
    assert (found.n, found.scans) == (12, 12)
    assert found.p == row(expected, test="friedman").p > 0.05


def test_a_rescan_in_one_direction_only_is_no_yardstick_for_its_subject():
    dice, rescan = cohort(12, COSTS, 0.05)
    rescan.loc[(rescan.method == RESCANS[1]) & (rescan.subject == "00"), "value"] = math.nan
    found = compute_statistics(dice, EMPTY, EMPTY, rescan)
    assert row(found, test=TEST, method="small").n == 11


def test_volume_changes_are_tested_against_what_rescans_change():
    rng = np.random.default_rng(0)
    n = 20
    change = {"still": rng.normal(0, 0.2, n), "shrinks": rng.normal(-4, 0.5, n)}
    frame = long(change, "volume_change_percent")
    control = long({"resampled": rng.normal(0, 0.1, n)}, "volume_change_percent", implementation="resample")
    volumes = frame.drop(columns="measure").rename(columns={"value": "volume_change_percent"})
    volumes["volume_ml"] = np.tile(rng.normal(8, 1, n), 2)
    volumes["volume_change_ml"] = volumes.volume_ml * volumes.volume_change_percent / 100
    again = [
        long({g: rng.normal(0, 1.5, n)}, "volume_change_percent", implementation="affine")
        for g in ("rescan-1-2", "rescan-2-1")
    ]
    dice, _ = cohort(n, {"still": 0.01, "shrinks": 0.02}, 0.05)
    table = compute_statistics(dice, volumes, EMPTY, pd.concat([frame, *again, control]))
    assert [row(table, test="tost", method=m).verdict for m in change] == [EQUIVALENT, NOT_SHOWN]
    assert 0.4 < row(table, test="tost", method="still").margin < 1.3
    assert "margin from rescans of the same subjects" in row(table, test="tost", method="still").effect_is
    still = row(table, test=TEST, measure="volume_change_percent", method="still")
    assert still.verdict == SMALLER
    icc = {m: row(table, test="icc(2,1)", method=m) for m in change}
    assert icc["still"].effect > 0.99
    assert icc["shrinks"].effect < icc["still"].effect
    assert icc["still"].low < icc["still"].effect < icc["still"].high
    assert row(table, test="summary", measure="volume_change_ml", method="shrinks").high < 0


def test_a_margin_from_few_rescans_does_not_make_equivalence_too_easy(quick):
    """The mean change is the median rescan change itself, just not equivalent; the margin is only estimated."""
    rng = np.random.default_rng(8)
    truth = np.median(np.abs(rng.normal(0, 1, (200_000, 2))).mean(axis=1))
    verdicts = []
    for _ in range(RUNS):
        sizes = np.abs(rng.normal(0, 1, (20, 2))).mean(axis=1)
        margin = median_of([np.array([s]) for s in sizes]).low
        verdicts.append(equivalence(rng.normal(truth, 0.3, 20), margin).p < 0.05)
    assert rate(verdicts) <= 0.05


@pytest.mark.parametrize("n", [1, 3, 5])
def test_few_subjects_fill_the_table_with_effects_and_reasons(n):
    dice, rescan = cohort(n, COSTS, 0.05)
    table = compute_statistics(dice, EMPTY, EMPTY, rescan)
    tested = table[table.test != "summary"]
    assert tested.p.isna().all()
    assert table.low.isna().all()
    assert (table.reason != "").all()
    assert (table.verdict == "").all()
    assert table[table.test == TEST].effect.notna().all()


def test_regions_that_are_empty_everywhere_are_rows_with_a_reason():
    dice, rescan = cohort(8, COSTS, 0.05)
    table = compute_statistics(dice.assign(value=math.nan), EMPTY, EMPTY, rescan.assign(value=math.nan))
    assert (table.n == 0).where(table.test != "mixed model", True).all()
    assert (table.reason != "").all()


def test_the_same_tables_give_the_same_statistics():
    dice, rescan = cohort(10, COSTS, 0.05)
    first, second = (compute_statistics(dice, EMPTY, EMPTY, rescan) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert all(first[c].dtype == "float64" for c in first.columns if c not in TEXT_COLUMNS)


@pytest.mark.parametrize("n", [4, 15])
@pytest.mark.parametrize(("control", "decides"), [(0.03, True), (0.06, False)])
def test_where_resampling_alone_costs_as_much_as_the_rescan_no_verdict_is_given(quick, n, control, decides):
    dice, rescan = cohort(n, COSTS, 0.05, control=None)
    whole = {"level": "whole brain", "region": "whole brain", "implementation": "resample"}
    resampled = long({"resampled": np.full(n, 1 - control)}, **whole)
    table = compute_statistics(dice, EMPTY, EMPTY, pd.concat([rescan, resampled]))
    found = {m: row(table, test=TEST, method=m).verdict for m in (*COSTS, "resampled")}
    expected = ["", "", ""] if n == 4 else [SMALLER, UNDECIDED, LARGER]
    assert [found[m] for m in COSTS] == (expected if decides else [CONFOUNDED] * 3)
    assert found["resampled"] == ("" if n == 4 else SMALLER if decides else LARGER), "the control itself is compared"


@pytest.mark.parametrize("n", [4, 15])
@pytest.mark.parametrize("control", [None, math.nan], ids=["there is none", "it failed"])
def test_where_nothing_was_only_resampled_no_verdict_is_given(quick, n, control):
    dice, rescan = cohort(n, COSTS, 0.05, control=control)
    table = compute_statistics(dice, EMPTY, EMPTY, rescan)
    expected = "" if n == 4 else UNCONTROLLED
    assert {row(table, test=TEST, method=m).verdict for m in COSTS} == {expected}


@pytest.mark.parametrize(("control", "decides"), [(0.01, True), (0.09, False)])
def test_half_way_has_its_own_rescan_and_its_own_control(quick, control, decides):
    """Registered, resampling alone explains the rescan; half-way it does or does not."""
    n = 15
    dice, rescan = cohort(n, COSTS, 0.05, control=None)
    whole = {"level": "whole brain", "region": "whole brain"}
    others = [
        long({"resampled": np.full(n, 1 - 0.09)}, implementation="resample", **whole),
        long({"resampled-halfway": np.full(n, 1 - control)}, implementation="resample", **whole),
        long({"rescan-halfway": rescan[rescan.method == "rescan-1-2"].value}, implementation="halfway", **whole),
    ]
    table = compute_statistics(dice, EMPTY, EMPTY, pd.concat([rescan, *others]))
    tests = table[table.test == TEST]
    of = {reference: rows.set_index("method").verdict for reference, rows in tests.groupby("reference")}
    assert set(of) == {"rescan (affine)", "rescan (halfway)"}
    assert set(of["rescan (affine)"].index) == {*COSTS, "resampled"}
    assert set(of["rescan (halfway)"].index) == {*COSTS, "resampled-halfway"}
    assert set(of["rescan (affine)"][list(COSTS)]) == {CONFOUNDED}
    expected = [SMALLER, UNDECIDED, LARGER] if decides else [CONFOUNDED] * 3
    assert list(of["rescan (halfway)"][list(COSTS)]) == expected
    summarised = set(table[table.test == "summary"].method)
    assert {"rescan-halfway", "resampled-halfway"} <= summarised


def test_sessions_on_their_own_grids_are_a_yardstick_that_resampling_does_not_confound():
    """Changes of volume by 0.1 % after defacing, 2 % between sessions, 3 % by resampling; nothing is registered."""
    n, rng = 15, np.random.default_rng(0)
    whole = {"measure": "volume_change_percent", "level": "whole brain", "region": "whole brain"}
    sizes = {"small": 0.1, "unregistered": 2.0, "resampled": 3.0}
    kinds = {"small": "native", "unregistered": "own grids", "resampled": "resample"}
    frames = {m: long({m: c * rng.uniform(0.8, 1.2, n)}, implementation=kinds[m], **whole) for m, c in sizes.items()}
    volumes = (
        frames["small"].rename(columns={"value": "volume_change_percent"}).assign(volume_ml=1.0, volume_change_ml=0)
    )
    dice, _ = cohort(n, {"small": 0.01}, 0.05)
    table = compute_statistics(dice, volumes, EMPTY, pd.concat(frames.values()))
    found = row(table, test=TEST, method="small")
    assert (found.reference, found.n, found.verdict) == ("rescan (own grids)", n, SMALLER)
    assert found.effect == pytest.approx(-1.9, abs=0.3)
    assert row(table, test="tost", method="small").verdict == EQUIVALENT
    assert row(table, test=TEST, method="resampled").verdict == LARGER
    assert len(table[table.method == "unregistered"]) == 1, "the yardstick has a summary, and is no method"


def test_kinds_of_rescans_are_compared():
    dice, rescan = cohort(10, COSTS, 0.05)
    better = rescan[rescan.method.str.startswith("rescan")].assign(implementation="deformable")
    better = better.assign(value=better.value + 0.02)
    table = compute_statistics(dice, EMPTY, EMPTY, pd.concat([rescan, better]))
    found = row(table, method="rescan", test="wilcoxon")
    assert (found.reference, found.implementation) == ("rescan (affine)", "deformable")
    assert found.effect == pytest.approx(-0.02)
    assert found.p_corrected < 0.05
    assert set(table[table.test == TEST].reference) == {"rescan (affine)", "rescan (deformable)"}
