"""How well people are found again: ranks, rank-1 rate, rank-k curve and AUC, with intervals over people.

The person is the unit: probes of one person are not independent. The interval of a rate is Wilson's, with as many
observations as people; that of the AUC is a bootstrap over people, who appear both as probes and in the gallery.

References
----------
Wilson. "Probable inference, the law of succession, and statistical inference." JASA 22 (1927), 209-212.
Grother, Phillips. "Models of large population recognition performance." CVPR (2004), II-68 (rank-k curves).
Poh, Martin, Bengio. "Performance generalization in biometric authentication using joint user-specific and sample
bootstraps." IEEE PAMI 29 (2007), 492-498 (pairs that share people).
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.statistics.inference import CONFIDENCE, MINIMUM_SUBJECTS

RESAMPLES = 2000
SMALLEST = 1e-6
"""Distances are compared by their logarithm; smaller ones count as this."""

TIE = 1e-12
"""Differences of logarithms below this are rounding."""

Distances = NDArray[np.float64]
"""Of every probe to every person of the gallery, shape (probes, people)."""


@dataclass(frozen=True, eq=False)
class Identification:
    """Result of an attack on the probes of one kind.

    Attributes
    ----------
    probes, people, gallery
        Scans that were to be attacked, whose they are, and how many people an attacker chooses from.
    not_attacked
        Probes that could not be attacked.
    ranks
        Of the true person for every probe, 1 is best, of equally near people the mean; NaN where nothing was there to
        compare or not attacked, shape (probes,).
    rank1, rank1_low, rank1_high
        Share of the people who are found at rank 1, and its interval. What was not attacked counts as not found in the
        rate and in its lower end, and as found in its upper end.
    curve
        Share of people whose rank is at most 1, 2, ...; of equally near people one is drawn. Shape (gallery,).
    auc, auc_low, auc_high
        Probability that a probe is more like its own person than like another one, and its interval; NaN where there
        are too few people.
    """

    probes: int
    people: int
    gallery: int
    not_attacked: int
    ranks: NDArray[np.float64]
    rank1: float
    rank1_low: float
    rank1_high: float
    curve: NDArray[np.float64]
    auc: float
    auc_low: float
    auc_high: float

    @property
    def chance(self) -> float:
        """Rank-1 rate of somebody who guesses."""
        return 1 / self.gallery if self.gallery else math.nan


def identification(distances: Distances, own: NDArray[np.intp], attacked: NDArray[np.bool_]) -> Identification:
    """Compute what an attack found.

    Parameters
    ----------
    distances
        Smaller is more alike. A row of NaN: nothing was there to compare.
    own
        Column of the person whose probe it is; -1 (or any unique negative number a person) where that person is not in
        the gallery. Shape (probes,).
    attacked
        False where the probe, or its person's original, could not be used. Shape (probes,).
    """
    probes, gallery = distances.shape
    nearer, tied = _nearer_and_tied(distances, own, attacked)
    _, person = np.unique(own, return_inverse=True)
    people = int(person.max()) + 1 if probes else 0
    chances = [np.nan_to_num(np.clip((k - nearer) / (tied + 1), 0, 1)) for k in range(1, gallery + 1)]
    shares = np.array([_by_person(chance, person, people) for chance in chances]).reshape(gallery, people)
    curve = shares.mean(axis=1) if people else np.full(gallery, np.nan)
    lost = _by_person(~attacked, person, people)
    found = shares[0] if gallery and people else np.zeros(people)
    low, _ = wilson(float(found.sum()), people)
    _, high = wilson(float(np.minimum(1, found + lost).sum()), people)
    auc, auc_low, auc_high = _auc(distances, own, attacked)
    rate = float(found.mean()) if people else math.nan
    return Identification(
        probes, people, gallery, int((~attacked).sum()), 1 + nearer + tied / 2,
        rate, low, high, curve, auc, auc_low, auc_high,
    )  # fmt: skip


def wilson(found: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a rate; NaN where n is 0.

    Parameters
    ----------
    found
        How many of `n`; need not be whole, where a person has several probes.
    n
        People.
    """
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return math.nan, math.nan
    low, high = proportion_confint(found, n, alpha=1 - CONFIDENCE, method="wilson")
    return float(low), float(high)


def _nearer_and_tied(
    distances: Distances, own: NDArray[np.intp], attacked: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many others are nearer to each probe than its own person, and how many as near; NaN if not compared."""
    usable = attacked & (own >= 0)
    usable &= ~np.isnan(distances).all(axis=1)
    nearer, tied = np.full((2, len(own)), np.nan)
    scores, mine = centred(distances[usable], own[usable]), own[usable]
    if scores.size:
        ahead = scores - scores[np.arange(len(mine)), mine][:, None]
        nearer[usable] = (ahead < -TIE).sum(axis=1)
        tied[usable] = (np.abs(ahead) <= TIE).sum(axis=1) - 1.0
    return nearer, tied


def _by_person(values: NDArray[Any], person: NDArray[np.intp], people: int) -> NDArray[np.float64]:
    """Mean over each person's probes, shape (people,)."""
    counts = np.bincount(person, minlength=people)
    shares: NDArray[np.float64] = np.bincount(person, weights=values.astype(float), minlength=people) / counts
    return shares


def centred(distances: Distances, own: NDArray[np.intp]) -> Distances:
    """How near each probe is to each person, compared with how near it is to all, and they are to all probes.

    Of log distances, each probe's median over the gallery is taken away: a probe with a large cut fits nobody well. With
    probes of `MINIMUM_SUBJECTS` people or more, each person's median over the probes too: whoever looks like the average
    fits everybody. An attacker who has all of a shared data set can do both. Rows in which nothing was there to compare
    become 0: like everybody.

    Parameters
    ----------
    distances
        Shape (probes, people).
    own
        The person of each probe, shape (probes,).
    """
    logs = np.log(np.maximum(distances, SMALLEST))
    nothing = np.asarray(np.isnan(logs).all(axis=1))
    logs -= np.median(np.where(nothing[:, None], 0.0, logs), axis=1, keepdims=True)
    if np.unique(own[~nothing]).size >= MINIMUM_SUBJECTS:
        logs -= np.median(logs[~nothing], axis=0, keepdims=True)
    logs[nothing] = 0.0
    return np.asarray(logs)


def _auc(distances: Distances, own: NDArray[np.intp], attacked: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Area under the curve and its bootstrap interval over people."""
    usable = attacked & (own >= 0)
    scores, mine = centred(distances[usable], own[usable]), own[usable]
    count, gallery = scores.shape
    if not count or gallery < 2:
        return math.nan, math.nan, math.nan
    is_same = np.arange(gallery) == mine[:, None]
    same, different = scores[np.arange(count), mine], scores[~is_same]
    order = np.argsort(different, kind="stable")
    of_probe = np.repeat(mine, gallery - 1)[order]
    of_gallery = np.tile(np.arange(gallery), (count, 1))[~is_same][order]
    below = np.searchsorted(different[order], same, side="left")
    until = np.searchsorted(different[order], same, side="right")

    def area(weight: NDArray[np.float64]) -> float:
        heavy = np.concatenate([[0.0], np.cumsum(weight[of_probe] * weight[of_gallery])])
        above = heavy[-1] - (heavy[below] + heavy[until]) / 2
        total = weight[mine].sum() * heavy[-1]
        return float((weight[mine] * above).sum() / total) if total > 0 else math.nan

    auc = area(np.ones(gallery))
    if np.unique(mine).size < MINIMUM_SUBJECTS:
        return auc, math.nan, math.nan
    digest = hashlib.sha256(np.ascontiguousarray(scores).tobytes()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    drawn = rng.multinomial(gallery, np.full(gallery, 1 / gallery), size=RESAMPLES).astype(float)
    areas = np.array([area(weight) for weight in drawn])
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(areas, (tail, 100 - tail))
    return auc, float(low), float(high)
