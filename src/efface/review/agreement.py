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
        How many both judged blind: before the automatic verdict was shown.
    same
        Share of these on which they agree; NaN without cases.
    kappa, low, high
        Cohen's kappa of these and its 95% interval; NaN where undefined (both gave one and the same verdict to all).
    anchored
        How many cases both judged, at least one of them after the automatic verdict was shown.
    anchored_same
        Share of these on which they agree; NaN without cases. No kappa: such a vote is not independent.
    """

    a: str
    b: str
    cases: int
    same: float
    kappa: float
    low: float
    high: float
    anchored: int = 0
    anchored_same: float = math.nan


@dataclass(frozen=True)
class Agreement:
    """All pairs, and Fleiss' kappa of all reviewers on the cases that every one of them judged blind."""

    pairs: tuple[RaterPair, ...]
    raters: int
    cases: int
    fleiss: float


def agreement(
    reviewers: Mapping[str, Words], automatic: Words, anchored: Mapping[str, Words] | None = None
) -> Agreement:
    """Compare all raters pairwise.

    Parameters
    ----------
    reviewers
        Blind verdicts of each reviewer.
    automatic
        The automatic verdicts; may be empty.
    anchored
        Verdicts that each reviewer gave after the automatic verdict was shown. They are counted apart.
    """
    seen = anchored or {}
    names = sorted({*reviewers, *seen})
    blind = {name: reviewers.get(name, {}) for name in names}
    pairs = [
        _pair(a, b, blind[a], blind[b], seen.get(a, {}), seen.get(b, {})) for a, b in itertools.combinations(names, 2)
    ]
    if automatic:
        pairs += [_pair(name, AUTOMATIC, blind[name], automatic, seen.get(name, {}), {}) for name in names]
    voted = [name for name in names if blind[name]]
    shared = sorted(set.intersection(*(set(blind[n]) for n in voted))) if voted else []
    table = np.array([[blind[n][case] for n in voted] for case in shared])
    return Agreement(tuple(pairs), len(voted), len(shared), fleiss_kappa(table) if len(voted) > 1 else math.nan)


def _pair(a: str, b: str, first: Words, second: Words, first_seen: Words, second_seen: Words) -> RaterPair:
    both = sorted(set(first) & set(second))
    counts = np.zeros((len(VERDICTS), len(VERDICTS)), dtype=np.intp)
    for case in both:
        counts[VERDICTS.index(first[case]), VERDICTS.index(second[case])] += 1
    same = float(np.trace(counts) / len(both)) if both else math.nan
    ours, theirs = {**first, **first_seen}, {**second, **second_seen}
    seen = [case for case in set(ours) & set(theirs) if case in first_seen or case in second_seen]
    seen_same = float(np.mean([ours[case] == theirs[case] for case in seen])) if seen else math.nan
    return RaterPair(a, b, len(both), same, *cohen_kappa(counts), len(seen), seen_same)
