"""statistics.tsv: what a study's tables say, each number with its n, interval and corrected p.

What each row asks, its formula and its limits are in docs/study/statistics.md.

References
----------
Holm. "A simple sequentially rejective multiple test procedure." Scandinavian Journal of Statistics 6 (1979) 65-70.
Walker, Nowacki. "Understanding equivalence and noninferiority testing." Journal of General Internal Medicine 26
(2011) 192-196.
FDA. "Non-inferiority clinical trials to establish effectiveness: guidance for industry" (2016), section IV (the
margin from the reference's own distribution; its interval's lower end where it is fixed).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from efface.metrics import icc21
from efface.statistics.inference import (
    CONFIDENCE,
    Finding,
    Values,
    equivalence,
    friedman,
    holm,
    median_of,
    mixed,
    paired,
    too_few,
)
from efface.study.records import STATISTICS, TEXT_COLUMNS
from efface.study.rescan_job import RESAMPLED, RESCAN_12, RESCAN_21, RESCAN_GROUPS
from efface.study.settings import TRANSFORMS

LEVELS = ("whole brain", "region")
SUMMARISED = ("dice", "volume_change_ml", "volume_change_percent", "hd95_mm", "surface_distance_mm")
TESTED = ("dice", "volume_change_percent", "hd95_mm", "surface_distance_mm")
"""Volume changes are tested in percent, and summarised in ml too: one question, one test."""
COSTS: Mapping[str, Callable[[Values], Values]] = {
    "dice": lambda values: 1 - values,
    "volume_change_percent": np.abs,
    "hd95_mm": lambda values: values,
    "surface_distance_mm": lambda values: values,
}
"""How far a value is from no effect at all, 0."""
ALPHA = 0.05
SMALLER, LARGER, UNDECIDED = "smaller than a rescan", "larger than a rescan", "not decided"
EQUIVALENT, NOT_SHOWN = "equivalent", "not shown"


@dataclass
class _Row:
    measure: str
    level: str
    region: str
    method: str
    reference: str
    test: str
    effect_is: str
    finding: Finding
    scans: int
    implementation: str = ""
    quartiles: tuple[float, float] = (math.nan, math.nan)
    margin: float = math.nan
    opposite_p: float = math.nan
    family: str = ""
    corrected: float = math.nan
    verdict: str = ""

    def cells(self) -> tuple[Any, ...]:
        f = self.finding
        return (
            self.measure, self.level, self.region, self.method, self.implementation, self.reference, self.test,
            float(f.n), float(self.scans), self.effect_is, f.effect, f.low, f.high, f.confidence, *self.quartiles,
            f.statistic, f.p, self.corrected, self.family, self.margin, self.verdict, f.reason,
        )  # fmt: skip


@dataclass(frozen=True)
class _Measure:
    """One measure's values: scans (rows) by region; for the methods, and for what rescan.tsv holds."""

    name: str
    methods: Sequence[str]
    values: pd.DataFrame
    rescans: pd.DataFrame
    implementations: Mapping[str, str] = field(default_factory=dict)


def compute_statistics(
    dice: pd.DataFrame,
    volumes: pd.DataFrame,
    distances: pd.DataFrame,
    rescan: pd.DataFrame,
    *,
    levels: Sequence[str] = LEVELS,
) -> pd.DataFrame:
    """Summaries, intervals and tests of all measures that the tables hold.

    Parameters
    ----------
    dice, volumes, distances, rescan
        Tables of a study (`efface.study.Tables`); all but `dice` may be empty.
    levels
        Which levels to look at; ``label`` gives the 132 labels too, and takes minutes.

    Returns
    -------
    pandas.DataFrame
        Columns `efface.study.records.STATISTICS`.
    """
    rows: list[_Row] = []
    for measured in _measures(dice, volumes, distances, rescan, levels):
        rows += _summaries(measured)
        if measured.name in TESTED:
            rows += _between_methods(measured)
            rows += _against_rescans(measured)
    rows += _agreements(volumes, levels)
    _correct(rows)
    frame = pd.DataFrame([row.cells() for row in rows], columns=list(STATISTICS))
    return frame.astype({c: "str" if c in TEXT_COLUMNS else "float64" for c in STATISTICS})


def _measures(
    dice: pd.DataFrame, volumes: pd.DataFrame, distances: pd.DataFrame, rescan: pd.DataFrame, levels: Sequence[str]
) -> Iterator[_Measure]:
    """Every measure that was measured, in long form."""
    for name in SUMMARISED:
        if name == "dice":
            frame = dice
        else:
            table = volumes if name in volumes.columns else distances
            if table.empty:
                continue
            frame = table.rename(columns={name: "value"})
        frame = frame[frame.level.isin(levels)]
        other = rescan[(rescan.measure == name) & rescan.level.isin(levels)]
        if frame.empty:
            continue
        methods = list(frame.method.drop_duplicates())
        made = {m: "+".join(sorted(set(frame.implementation[frame.method == m]))) for m in methods}
        yield _Measure(name, methods, frame, other, made)


def _summaries(measured: _Measure) -> Iterator[_Row]:
    """Median, quartiles and interval of every method, rescan and control."""
    others = measured.rescans[measured.rescans.method.isin(RESCAN_GROUPS)]
    for frame in (measured.values, others):
        for (level, region, method, implementation), part in _groups(frame, "method", "implementation"):
            kept = part.dropna(subset=["value"])
            by_subject = [g.to_numpy(np.float64) for _, g in kept.groupby("subject", sort=True).value]
            finding = median_of(by_subject)
            if not by_subject:
                finding = replace(finding, reason="undefined (empty) in every scan")
            quartiles = np.percentile(kept.value, (25, 75)) if by_subject else (math.nan, math.nan)
            yield _Row(
                measured.name, level, region, method, "", "summary", "median", finding, len(kept),
                implementation, (float(quartiles[0]), float(quartiles[1])),
            )  # fmt: skip


def _between_methods(measured: _Measure) -> Iterator[_Row]:
    """Friedman over all methods; Wilcoxon and a mixed model for each two of them."""
    repeated = bool((measured.values.groupby("subject").scan.nunique() > 1).any())
    pairs = list(itertools.combinations(measured.methods, 2))
    if pairs and not repeated:
        reason = "no subject has more than one scan: see wilcoxon"
        n = measured.values.subject.nunique()
        yield _Row(measured.name, "", "", "", "", "mixed model", "mean difference", Finding(n, reason=reason), n)
    for (level, region), part in _groups(measured.values):
        wide = part.pivot(index=["subject", "scan"], columns="method", values="value")
        wide = wide.reindex(columns=list(measured.methods))
        subjects = wide.groupby(level="subject").mean()
        complete = subjects.dropna()
        whole = wide.dropna()
        yield _Row(
            measured.name, level, region, "all methods", "", "friedman", "mean rank correlation between subjects",
            friedman(complete.to_numpy(np.float64)), len(whole),
        )  # fmt: skip
        for one, other in pairs:
            by_scan = (wide[one] - wide[other]).dropna()
            by_subject = by_scan.groupby(level="subject").mean().to_numpy(np.float64)
            compared = _Row(
                measured.name, level, region, one, other, "wilcoxon", "median difference", paired(by_subject),
                len(by_scan), measured.implementations[one],
            )  # fmt: skip
            yield compared
            if repeated:
                names = by_scan.index.get_level_values("subject").to_numpy()
                finding = mixed(by_scan.to_numpy(np.float64), names)
                yield replace(compared, test="mixed model", effect_is="mean difference", finding=finding)


def _against_rescans(measured: _Measure) -> Iterator[_Row]:
    """Whether a method costs less than scanning again, in the same subjects."""
    cost = COSTS[measured.name]
    for (level, region), part in _groups(measured.rescans):
        values = {
            (str(method), str(implementation)): _by_subject(x)
            for (method, implementation), x in part.groupby(["method", "implementation"], sort=False)
        }
        rescans = {
            t: _rescan_costs(part, t, cost) for t in TRANSFORMS if (RESCAN_12, t) in values or (RESCAN_21, t) in values
        }
        for transform, reference in rescans.items():
            for (method, implementation), found in values.items():
                if method in (RESCAN_12, RESCAN_21):
                    continue
                yield _cheaper(measured.name, level, region, method, implementation, found, cost, transform, reference)
                if measured.name == "volume_change_percent":
                    yield _unchanged(measured.name, level, region, method, implementation, found, transform, reference)
        for one, other in itertools.combinations(rescans, 2):
            both = (rescans[other] - rescans[one]).dropna()
            yield _Row(
                measured.name, level, region, "rescan", f"rescan ({one})", "wilcoxon", "median difference of cost",
                paired(both.to_numpy(np.float64)), 2 * len(both), other,
            )  # fmt: skip


def _cheaper(
    measure: str, level: str, region: str, method: str, implementation: str, found: pd.Series,
    cost: Callable[[Values], Values], transform: str, rescan: pd.Series,
) -> _Row:  # fmt: skip
    """Paired non-inferiority: the margin of a subject is what scanning that subject again costs."""
    both = pd.DataFrame({"found": found, "rescan": rescan}).dropna()
    differences = cost(both.found.to_numpy(np.float64)) - both.rescan.to_numpy(np.float64)
    finding = paired(differences, "less")
    opposite = paired(differences, "greater").p if finding.p == finding.p else math.nan
    margin = float(both.rescan.median()) if len(both) else math.nan
    return _Row(
        measure, level, region, method, f"rescan ({transform})", "noninferiority", "median difference of cost", finding,
        len(both), implementation, margin=margin, opposite_p=opposite,
    )  # fmt: skip


def _unchanged(
    measure: str, level: str, region: str, method: str, implementation: str, found: pd.Series, transform: str,
    rescan: pd.Series,
) -> _Row:  # fmt: skip
    """Equivalence of the mean signed change with 0, within what rescans change for sure."""
    both = pd.DataFrame({"found": found, "rescan": rescan}).dropna()
    values, sizes = (both[c].to_numpy(np.float64) for c in ("found", "rescan"))
    margin = median_of([np.array([s]) for s in sizes]).low
    finding = equivalence(values, margin)
    return _Row(
        measure, level, region, method, f"rescan ({transform})", "tost", "mean", finding, len(both), implementation,
        margin=margin,
    )  # fmt: skip


def _agreements(volumes: pd.DataFrame, levels: Sequence[str]) -> Iterator[_Row]:
    """ICC(2,1) of volumes before and after, on each subject's first scan."""
    for (level, region, method, implementation), part in _groups(
        volumes[volumes.level.isin(levels)], "method", "implementation"
    ):
        first = part.dropna(subset=["volume_ml"]).sort_values(["subject", "scan"]).drop_duplicates("subject")
        before = first.volume_ml.to_numpy(np.float64)
        n = before.size
        if n < 2:
            finding = Finding(n, reason=too_few(n))
        else:
            found = icc21(np.stack([before, before + first.volume_change_ml.to_numpy(np.float64)], axis=1))
            enough = not too_few(n) and not math.isnan(found.low)
            reason = too_few(n) or ("" if enough else "no interval: volumes do not vary, or changed by a constant only")
            low, high = (found.low, found.high) if enough else (math.nan, math.nan)
            finding = Finding(n, found.icc, low, high, CONFIDENCE if enough else math.nan, reason=reason)
        yield _Row("volume_ml", level, region, method, "original", "icc(2,1)", "ICC(2,1)", finding, n, implementation)


def _correct(rows: list[_Row]) -> None:
    """Holm within each family: one test of one measure on one level; and what the corrected p says."""
    families: dict[str, list[_Row]] = {}
    for row in rows:
        if not math.isnan(row.finding.p):
            compared = row.reference if row.test in ("noninferiority", "tost") else "methods"
            if row.method in ("rescan", RESAMPLED):
                compared = f"{row.method}, {row.reference}"
            name = f"{row.test}, {row.measure}, {row.level}, {compared}"
            families.setdefault(name, []).append(row)
    for name, members in families.items():
        corrected = holm([row.finding.p for row in members])
        opposite = holm([row.opposite_p for row in members])
        for row, p, other in zip(members, corrected, opposite, strict=True):
            row.corrected, row.family = p, f"{name}: {len(members)} test{'' if len(members) == 1 else 's'}"
            if row.test == "noninferiority":
                row.verdict = SMALLER if p < ALPHA else LARGER if other < ALPHA else UNDECIDED
            elif row.test == "tost":
                row.verdict = EQUIVALENT if p < ALPHA else NOT_SHOWN


def _groups(frame: pd.DataFrame, *more: str) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """Parts of a table by level, region and whatever else, in the table's own order."""
    for key, part in frame.groupby(["level", "region", *more], sort=False):
        yield tuple(str(k) for k in key), part


def _by_subject(frame: pd.DataFrame) -> pd.Series:
    found: pd.Series = frame.groupby("subject", sort=True).value.mean()
    return found


def _rescan_costs(part: pd.DataFrame, transform: str, cost: Callable[[Values], Values]) -> pd.Series:
    """What scanning again costs each subject: the mean of both directions."""
    both = part[part.method.isin((RESCAN_12, RESCAN_21)) & (part.implementation == transform)]
    costs: pd.Series = pd.Series(cost(both.value.to_numpy(np.float64)), both.subject.to_numpy())
    return costs.groupby(level=0, sort=True).mean()


__all__ = [
    "EQUIVALENT",
    "LARGER",
    "NOT_SHOWN",
    "SMALLER",
    "SUMMARISED",
    "TESTED",
    "UNDECIDED",
    "compute_statistics",
]
