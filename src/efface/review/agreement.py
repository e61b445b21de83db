"""Agreement of reviewers with each other and with the automatic verdict: Cohen's and Fleiss' kappa."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from efface.metrics import cohen_kappa, fleiss_kappa
from efface.study.ratings import VERDICTS

AUTOMATIC = "automatic"
Words = Mapping[tuple[str, str], str]
"""(scan, method) to verdict."""


@dataclass(frozen=True)
class RaterPair:
    """Two raters on the cases both have judged.

    Attributes
    ----------
    a, b
        Names; `AUTOMATIC` is the automatic verdict.
    cases
        How many both judged.
    same
        Share on which they agree; NaN without cases.
    kappa, low, high
        Cohen's kappa and its 95% interval; NaN where undefined (both gave one and the same verdict to all).
    """

    a: str
    b: str
    cases: int
    same: float
    kappa: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """All pairs, and Fleiss' kappa of all reviewers on the cases that every one of them judged."""

    pairs: tuple[RaterPair, ...]
    raters: int
    cases: int
    fleiss: float


def agreement(reviewers: Mapping[str, Words], automatic: Words) -> Agreement:
    """Compare all raters pairwise.

    Parameters
    ----------
    reviewers
        Verdicts of each reviewer.
    automatic
        The automatic verdicts; may be empty.
    """
    names = sorted(reviewers)
    pairs = [_pair(a, reviewers[a], b, reviewers[b]) for a, b in itertools.combinations(names, 2)]
    if automatic:
        pairs += [_pair(name, reviewers[name], AUTOMATIC, automatic) for name in names]
    shared = sorted(set.intersection(*(set(reviewers[n]) for n in names))) if names else []
    table = np.array([[reviewers[n][case] for n in names] for case in shared])
    return Agreement(tuple(pairs), len(names), len(shared), fleiss_kappa(table) if len(names) > 1 else math.nan)


def _pair(a: str, first: Words, b: str, second: Words) -> RaterPair:
    both = sorted(set(first) & set(second))
    counts = np.zeros((len(VERDICTS), len(VERDICTS)), dtype=np.intp)
    for case in both:
        counts[VERDICTS.index(first[case]), VERDICTS.index(second[case])] += 1
    same = float(np.trace(counts) / len(both)) if both else math.nan
    return RaterPair(a, b, len(both), same, *cohen_kappa(counts))
