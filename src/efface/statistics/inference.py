"""Estimates, intervals and tests on the values of a study's subjects; scipy and statsmodels do the computing.

The subject is the unit of inference: scans of one subject are not independent. What a number of subjects cannot
support is NaN, with the reason; `docs/explanation/statistics.md` says what each test asks.

References
----------
Efron, Tibshirani. "An Introduction to the Bootstrap." Chapman & Hall (1993), chapter 13 (percentile intervals).
Pratt. "Remarks on zeros and ties in the Wilcoxon signed rank procedures." JASA 54 (1959) 655-667.
Iman, Davenport. "Approximations of the critical region of the Friedman statistic." Communications in Statistics A9
(1980) 571-595.
Schuirmann. "A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence
of average bioavailability." Journal of Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680.
"""

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MINIMUM_SUBJECTS = 6
"""With fewer, no signed-rank test can reach p < 0.05 (2 / 2**5 = 0.0625), and no interval of a median 95 %."""
RESAMPLES = 4999
EXACT, EXACT_WITH_TIES = 50, 13
"""Subjects up to which signed ranks are tested exactly."""
CONFIDENCE, ONE_SIDED_CONFIDENCE = 0.95, 0.90
"""Of two-sided questions; and of one-sided ones, whose 5 % are in one tail."""

Alternative = Literal["two-sided", "less", "greater"]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One number with its interval and its test.

    Attributes
    ----------
    n
        Subjects it rests on.
    effect
        The number.
    low, high, confidence
        Its interval.
    statistic, p
        Of the test, uncorrected.
    reason
        Why something is NaN; empty where nothing is.
    """

    n: int
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    confidence: float = math.nan
    statistic: float = math.nan
    p: float = math.nan
    reason: str = ""


def too_few(n: int) -> str:
    """The reason why so few subjects give no interval and no test; empty where they do."""
    if n >= MINIMUM_SUBJECTS:
        return ""
    return f"{n} subject{'' if n == 1 else 's'}: an interval or a test needs at least {MINIMUM_SUBJECTS}"


def median_of(by_subject: Sequence[Values], confidence: float = CONFIDENCE) -> Finding:
    """Median over all scans, with a bootstrap interval over subjects (all scans of a drawn subject together).

    Parameters
    ----------
    by_subject
        The values of each subject's scans, none empty, no NaN.
    confidence
        Of the interval.
    """
    n = len(by_subject)
    if n == 0:
        return Finding(0, reason="no subject has a value")
    padded = np.full((n, max(len(v) for v in by_subject)), np.nan)
    for row, values in zip(padded, by_subject, strict=True):
        row[: len(values)] = values
    effect = float(np.nanmedian(padded))
    if too_few(n):
        return Finding(n, effect, reason=too_few(n))
    full = not np.isnan(padded).any()

    def median(index: NDArray[np.intp], axis: int = -1) -> Any:
        drawn = padded[np.moveaxis(index, axis, -1)]
        flat = drawn.reshape(*drawn.shape[:-2], -1)
        return np.median(flat, axis=-1) if full else np.nanmedian(flat, axis=-1)

    low, high = _bootstrap(median, np.arange(n), padded, confidence)
    return Finding(n, effect, low, high, confidence)


def paired(differences: Values, alternative: Alternative = "two-sided") -> Finding:
    """Median difference, its bootstrap interval, and Wilcoxon's signed-rank test (zeros ranked as Pratt does).

    Parameters
    ----------
    differences
        One a subject, no NaN, shape (n,).
    alternative
        ``less`` asks whether the differences lie below 0; the interval of a one-sided question has 90 %.
    """
    n = differences.size
    if n == 0:
        return Finding(0, reason="no subject has both values")
    effect = float(np.median(differences))
    if too_few(n):
        return Finding(n, effect, reason=too_few(n))
    confidence = CONFIDENCE if alternative == "two-sided" else ONE_SIDED_CONFIDENCE
    low, high = _bootstrap(_median, differences, differences, confidence)
    if not differences.any():
        return Finding(n, effect, low, high, confidence, reason="no subject differs: nothing to rank")
    statistic, p = _signed_ranks(differences, alternative)
    return Finding(n, effect, low, high, confidence, statistic, p)


def smallest_p(n: int, alternative: Alternative = "two-sided") -> float:
    """The smallest p that `paired` can give with so many subjects: all their differences have one sign.

    Parameters
    ----------
    n
        Subjects.
    alternative
        As of `paired`.

    Examples
    --------
    >>> smallest_p(6), smallest_p(6, "less")
    (0.03125, 0.015625)
    """
    return min(1.0, (2.0 if alternative == "two-sided" else 1.0) / 2.0**n)


def friedman(values: Values) -> Finding:
    """Friedman's test over methods, in Iman and Davenport's F form.

    The effect is the mean rank correlation between subjects, ``(n W - 1) / (n - 1)`` with Kendall's W: what W
    estimates, without its bias in few subjects. Its interval is a jackknife over subjects (a percentile bootstrap of
    W covers the truth in 55 to 80 of 100 cohorts of 8 to 20 subjects, this in 93 to 98).

    Parameters
    ----------
    values
        One row a subject, one column a method, no NaN, shape (n, k).
    """
    n, k = values.shape
    if k < 3:
        return Finding(n, reason=f"{k} method{'' if k == 1 else 's'}: needs at least 3")
    if n < 2:
        return Finding(n, reason=too_few(n))
    ranks = np.asarray(stats.rankdata(values, axis=1))
    concordance = _kendall(ranks)
    if math.isnan(concordance):
        return Finding(n, reason="no method differs in any subject")
    effect = (n * concordance - 1) / (n - 1)
    if too_few(n):
        return Finding(n, effect, reason=too_few(n))
    left_out = [_kendall(np.delete(ranks, i, axis=0)) for i in range(n)]
    pseudo = n * effect - (n - 1) * ((n - 1) * np.array(left_out) - 1) / (n - 2)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * pseudo.std(ddof=1) / math.sqrt(n))
    low, high = max(-1.0, float(pseudo.mean()) - reach), min(1.0, float(pseudo.mean()) + reach)
    statistic = (n - 1) * concordance / (1 - concordance) if concordance < 1 else math.inf
    p = float(stats.f.sf(statistic, k - 1, (k - 1) * (n - 1)))
    return Finding(n, effect, low, high, CONFIDENCE, statistic, p)


def equivalence(values: Values, margin: float) -> Finding:
    """Two one-sided t tests of whether the mean lies within -margin to margin; the interval has 90 %.

    Parameters
    ----------
    values
        One a subject, no NaN, shape (n,).
    margin
        Positive.
    """
    from statsmodels.stats.weightstats import DescrStatsW

    n = values.size
    if n == 0:
        return Finding(0, reason="no subject has a value")
    effect = float(values.mean())
    if too_few(n):
        return Finding(n, effect, reason=too_few(n))
    if not margin > 0:
        return Finding(n, effect, reason="the rescans do not differ from each other: there is no margin")
    if np.ptp(values) == 0:
        return Finding(n, effect, reason="no subject differs from another: there is no variance to test with")
    described = DescrStatsW(values)
    p, lower, upper = described.ttost_mean(-margin, margin)
    low, high = described.tconfint_mean(1 - ONE_SIDED_CONFIDENCE)
    weaker = max(lower, upper, key=lambda test: float(test[1]))
    return Finding(n, effect, float(low), float(high), ONE_SIDED_CONFIDENCE, float(weaker[0]), float(p))


def mixed(differences: Values, subjects: NDArray[Any]) -> Finding:
    """Mean difference of all scans by a linear mixed model: a random intercept for each subject, REML.

    Parameters
    ----------
    differences
        One a scan, no NaN, shape (m,).
    subjects
        Whose scan it is, shape (m,).

    Notes
    -----
    The test is a t test with (subjects - 1) degrees of freedom, which is exact where every subject has as many scans,
    and otherwise errs on the safe side.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    names, counts = np.unique(subjects, return_counts=True)
    n = names.size
    if n == 0:
        return Finding(0, reason="no subject has both values")
    effect = float(differences.mean())
    if too_few(n):
        return Finding(n, effect, reason=too_few(n))
    if (counts > 1).sum() < 2:
        return Finding(n, effect, reason="fewer than two subjects have two scans: see wilcoxon")
    scale = float(differences.std())
    if scale == 0:
        return Finding(n, effect, reason="all differences are the same: there is no variance to test with")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a subject variance of 0 is an answer here, not a problem
        try:
            fit = MixedLM(differences / scale, np.ones_like(differences), groups=subjects).fit(reml=True, method="bfgs")
            effect, error = float(fit.fe_params[0]) * scale, float(fit.bse_fe[0]) * scale
        except (np.linalg.LinAlgError, ValueError):
            error = math.nan
    if not (math.isfinite(error) and error > 0):
        return Finding(n, effect, reason="the model could not be fitted")
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    statistic = effect / error
    p = 2 * float(stats.t.sf(abs(statistic), n - 1))
    return Finding(n, effect, effect - reach, effect + reach, CONFIDENCE, statistic, p)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction of the p values that there are; NaN stays NaN and is not counted.

    Notes
    -----
    The same numbers as ``statsmodels.stats.multitest.multipletests``, which collects garbage at every call: with a
    family for each method that takes longer than all tests of a study.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN are sorted last
    corrected = np.full(values.shape, np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.arange(order.size, 0, -1) * values[order]))
    return [float(x) for x in corrected]


def _bootstrap(statistic: Any, data: NDArray[Any], seed: Values, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile interval; seeded from the values, so the same table gives the same interval."""
    digest = hashlib.sha256(np.ascontiguousarray(seed).tobytes()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    found = stats.bootstrap(
        (data,), statistic, n_resamples=RESAMPLES, vectorized=True, confidence_level=confidence, method="percentile",
        rng=rng,
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _median(values: Values, axis: int = -1) -> Any:
    return np.median(values, axis=axis)


def _kendall(ranks: Values) -> float:
    """Kendall's W of ranks (n, k), corrected for ties; NaN where all are tied."""
    n, k = ranks.shape
    within = float(((ranks - (k + 1) / 2) ** 2).sum())
    between = n * float(((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum())
    return between / within if within > 0 else math.nan


def _signed_ranks(differences: Values, alternative: Alternative) -> tuple[float, float]:
    """Wilcoxon's statistic and p, exact up to 50 subjects (with ties or zeros 13), else by the normal distribution."""
    sizes = np.abs(differences)
    plain = bool(sizes.all()) and np.unique(sizes).size == sizes.size
    if plain or differences.size > EXACT_WITH_TIES:
        method: Any = "exact" if plain and differences.size <= EXACT else "asymptotic"
        found = stats.wilcoxon(differences, zero_method="pratt", alternative=alternative, method=method)
        return float(found.statistic), float(found.pvalue)
    # All sign flips at once: scipy's own enumeration takes a quarter of a second a test.
    ranks = stats.rankdata(sizes)[differences != 0]
    flips = (np.arange(2**ranks.size)[:, None] >> np.arange(ranks.size)) & 1
    sums, positive = flips @ ranks, float(ranks[differences[differences != 0] > 0].sum())
    less, greater = float((sums <= positive + 1e-9).mean()), float((sums >= positive - 1e-9).mean())
    if alternative == "two-sided":
        return min(positive, float(ranks.sum()) - positive), min(1.0, 2 * min(less, greater))
    return positive, less if alternative == "less" else greater
