"""Agreement of measurements of the same subjects (ICC), and of raters of the same cases (kappa).

References
----------
Shrout, Fleiss. "Intraclass correlations: uses in assessing rater reliability." Psychological Bulletin 86 (1979)
420-428.
McGraw, Wong. "Forming inferences about some intraclass correlation coefficients." Psychological Methods 1 (1996)
30-46 (the interval, table 7, ICC(A,1)).
Cohen. "A coefficient of agreement for nominal scales." Educational and Psychological Measurement 20 (1960) 37-46.
Fleiss. "Measuring nominal scale agreement among many raters." Psychological Bulletin 76 (1971) 378-382.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.statistics.undefined import ratio


@dataclass(frozen=True)
class Agreement:
    """An intraclass correlation and its interval; NaN where it cannot be told."""

    icc: float
    low: float
    high: float


def icc21(values: NDArray[np.float64], confidence: float = 0.95) -> Agreement:
    """ICC(2,1): two-way random effects, absolute agreement, single measurement.

    A systematic change lowers it as much as a random one does.

    Parameters
    ----------
    values
        One row a subject, one column a measurement (before, after), shape (n, k), no NaN, n and k at least 2.
    confidence
        Of the interval.

    Raises
    ------
    InputError
        If there are fewer than two rows or columns.
    """
    if values.ndim != 2 or min(values.shape) < 2:
        msg = f"ICC needs at least 2 subjects and 2 measurements of each; received shape {values.shape}"
        raise InputError(msg)
    n, k = values.shape
    grand = values.mean()
    by_subject, by_column = values.mean(axis=1), values.mean(axis=0)
    subjects = k * float(((by_subject - grand) ** 2).sum()) / (n - 1)
    columns = n * float(((by_column - grand) ** 2).sum()) / (k - 1)
    rest = values - by_subject[:, None] - by_column + grand
    error = float((rest**2).sum()) / ((n - 1) * (k - 1))
    if np.ptp(by_subject) <= 1e-12 * max(1.0, abs(float(grand))):  # no subject differs: nothing to correlate
        return Agreement(math.nan, math.nan, math.nan)
    icc = ratio(subjects - error, subjects + (k - 1) * error + k * (columns - error) / n)
    if error <= 1e-24 * max(1.0, float(grand) ** 2):  # measurements differ by a constant at most: no interval from F
        return Agreement(icc, math.nan, math.nan)
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * columns + b * error) ** 2 / ((a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    tail = 1 - (1 - confidence) / 2
    from scipy import stats  # takes half a second, and few who import this module need it

    lower, upper = float(stats.f.ppf(tail, n - 1, freedom)), float(stats.f.ppf(tail, freedom, n - 1))
    both = k * columns + (k * n - k - n) * error
    low = n * (subjects - lower * error) / (lower * both + n * subjects)
    high = n * (upper * subjects - error) / (both + n * upper * subjects)
    return Agreement(icc, low, high)


def cohen_kappa(counts: NDArray[np.intp]) -> tuple[float, float, float]:
    """Cohen's kappa and its 95% interval from a square table of counts; NaN where undefined."""
    from statsmodels.stats.inter_rater import cohens_kappa

    if counts.diagonal().max() == counts.sum():  # nothing, or one and the same verdict from both: chance explains all
        return math.nan, math.nan, math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no spread, no interval
        found = cohens_kappa(counts)
    return float(found.kappa), float(found.kappa_low), float(found.kappa_upp)


def fleiss_kappa(verdicts: NDArray[np.str_]) -> float:
    """Fleiss' kappa of verdicts, shape (cases, raters); NaN where undefined."""
    from statsmodels.stats import inter_rater

    if not verdicts.size or len(np.unique(verdicts)) < 2:
        return math.nan
    counts, _ = inter_rater.aggregate_raters(verdicts)
    return float(inter_rater.fleiss_kappa(counts, method="fleiss"))
