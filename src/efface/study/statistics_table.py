"""statistics.tsv: estimates and tests of a study's tables, each with number of subjects, interval and corrected p.

The column ``test`` names the question; formulas and limits are in docs/explanation/statistics.md:

``summary``
    Median, quartiles and interval of a method, a rescan or the control. No test.
``friedman``, ``wilcoxon``, ``mixed model``
    Whether methods differ: all at once, by pairs, and by pairs with all sessions.
``superiority``
    Whether a method costs less than scanning the same subject again: paired, one-sided, without a margin. The opposite
    question is tested too, so that the two verdicts together err in 10 %. Where resampling alone (the control; sessions
    half-way between each other have their own) costs at least what the rescan costs, no verdict is given.
``tost``
    Whether the mean volume is unchanged: equivalence with 0, with a margin from the rescans of the same subjects.
``icc(2,1)``
    Absolute agreement of volumes before and after. No test.

References
----------
Walker, Nowacki. "Understanding equivalence and noninferiority testing." Journal of General Internal Medicine 26
(2011) 192-196.
FDA. "Non-inferiority clinical trials to establish effectiveness: guidance for industry" (2016), section IV (the
margin from the reference's own distribution; its interval's lower end where it is fixed).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from efface.metrics import icc21
from efface.statistics.inference import (
    CONFIDENCE,
    Finding,
    Values,
    equivalence,
    friedman,
    median_of,
    mixed,
    paired,
    too_few,
)
from efface.study.comparisons import (
    EQUIVALENT,
    FRIEDMAN,
    ICC,
    LARGER,
    MIXED_MODEL,
    NOT_SHOWN,
    PRIMARY,
    RESCAN,
    SMALLER,
    SUMMARY,
    SUPERIORITY,
    TOST,
    UNDECIDED,
    WILCOXON,
    Comparison,
    StatisticsRow,
    correct,
)
from efface.study.native_volumes import UNREGISTERED
from efface.study.records import STATISTICS, TEXT_COLUMNS
from efface.study.rescan_job import ALL_GROUPS
from efface.study.yardsticks import Cost, compared, rescan_costs

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

LEVELS = (*PRIMARY, "region")
SUMMARISED = ("dice", "volume_change_ml", "volume_change_percent", "hd95_mm", "surface_distance_mm")
TESTED = ("dice", "volume_change_percent", "hd95_mm", "surface_distance_mm")
"""Volume changes are summarised in ml and percent but tested in percent only: both ask the same question."""
COSTS: Mapping[str, Cost] = {
    "dice": lambda values: 1 - values,
    "volume_change_percent": np.abs,
    "hd95_mm": lambda values: values,
    "surface_distance_mm": lambda values: values,
}
"""Cost of each measure: its distance from no effect at all, which is 0."""
TOST_EFFECT = "mean; margin from rescans of the same subjects"


@dataclass(frozen=True)
class _Measure:
    """One measure's values in long form, one row for each scan, method and region.

    Attributes
    ----------
    name
        Of the measure.
    methods
        In the order of the study.
    values
        Of all scans.
    rescans
        Of the subjects with two sessions: methods on the first session, rescans, control.
    implementations
        By method.
    """

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
    """Compute summaries, intervals and tests of all measures in the tables.

    Parameters
    ----------
    dice, volumes, distances, rescan
        Tables of a study (`efface.study.Tables`); all but `dice` may be empty.
    levels
        Levels to use; ``label`` adds the 132 labels and takes minutes.

    Returns
    -------
    pandas.DataFrame
        Columns `efface.study.records.STATISTICS`.
    """
    rows: list[StatisticsRow] = []
    for measured in _measures(dice, volumes, distances, rescan, levels):
        rows += _summaries(measured)
        if measured.name in TESTED:
            rows += _between_methods(measured)
            rows += _against_rescans(measured)
    rows += _agreements(volumes, levels)
    correct(rows)
    frame = pd.DataFrame([row.cells() for row in rows], columns=list(STATISTICS))
    return frame.astype({c: "str" if c in TEXT_COLUMNS else "float64" for c in STATISTICS})


def _measures(
    dice: pd.DataFrame, volumes: pd.DataFrame, distances: pd.DataFrame, rescan: pd.DataFrame, levels: Sequence[str]
) -> Iterator[_Measure]:
    """Yield every measure of the tables in long form."""
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


def _summaries(measured: _Measure) -> Iterator[StatisticsRow]:
    """Median, quartiles and interval of every method, rescan and control."""
    others = measured.rescans[measured.rescans.method.isin((*ALL_GROUPS, UNREGISTERED))]
    for frame in (measured.values, others):
        for (level, region, method, implementation), part in _groups(frame, "method", "implementation"):
            kept = part.dropna(subset=["value"])
            by_subject = [g.to_numpy(np.float64) for _, g in kept.groupby("subject", sort=True).value]
            finding = median_of(by_subject)
            if not by_subject:
                finding = replace(finding, reason="undefined (empty) in every scan")
            quartiles = np.percentile(kept.value, (25, 75)) if by_subject else (math.nan, math.nan)
            about = Comparison(measured.name, level, region, method, implementation)
            spread = (float(quartiles[0]), float(quartiles[1]))
            yield StatisticsRow(about, SUMMARY, "median", finding, len(kept), quartiles=spread)


def _between_methods(measured: _Measure) -> Iterator[StatisticsRow]:
    """Friedman's test over all methods; Wilcoxon's test and a mixed model for every pair."""
    repeated = bool((measured.values.groupby("subject").scan.nunique() > 1).any())
    pairs = list(itertools.combinations(measured.methods, 2))
    if pairs and not repeated:
        n = measured.values.subject.nunique()
        finding = Finding(n, reason="no subject has more than one scan: see wilcoxon")
        yield StatisticsRow(Comparison(measured.name), MIXED_MODEL, "mean difference", finding, n)
    for (level, region), part in _groups(measured.values):
        wide = part.pivot(index=["subject", "scan"], columns="method", values="value")
        wide = wide.reindex(columns=list(measured.methods))
        complete = wide.dropna()  # a mean over other scans than another method's would differ by the scans alone
        about = Comparison(measured.name, level, region, "all methods")
        finding = friedman(complete.groupby(level="subject").mean().to_numpy(np.float64))
        yield StatisticsRow(about, FRIEDMAN, "mean rank correlation between subjects", finding, len(complete))
        for one, other in pairs:
            about = Comparison(measured.name, level, region, one, measured.implementations[one], other)
            yield from _pair(about, (wide[one] - wide[other]).dropna(), repeated=repeated)


def _pair(about: Comparison, differences: pd.Series, *, repeated: bool) -> Iterator[StatisticsRow]:
    """Compare two methods by their differences, indexed by subject and scan."""
    by_subject = differences.groupby(level="subject").mean().to_numpy(np.float64)
    yield StatisticsRow(about, WILCOXON, "median difference", paired(by_subject), len(differences))
    if repeated:
        names = differences.index.get_level_values("subject").to_numpy()
        finding = mixed(differences.to_numpy(np.float64), names)
        yield StatisticsRow(about, MIXED_MODEL, "mean difference", finding, len(differences))


def _against_rescans(measured: _Measure) -> Iterator[StatisticsRow]:
    """Compare methods and control with scanning again, in the same subjects; and kinds of rescans with each other."""
    cost = COSTS[measured.name]
    for (level, region), part in _groups(measured.rescans):
        values = {
            (str(method), str(implementation)): _by_subject(x)
            for (method, implementation), x in part.groupby(["method", "implementation"], sort=False)
        }
        rescans = rescan_costs(part, cost)
        for transform, reference in rescans.items():
            for (method, implementation), found in compared(values, transform).items():
                about = Comparison(measured.name, level, region, method, implementation, f"rescan ({transform})")
                both = pd.DataFrame({"found": found, "rescan": reference}).dropna()
                yield _superiority(about, both, cost)
                if measured.name == "volume_change_percent":
                    yield _equivalence(about, both)
        for one, other in itertools.combinations(rescans, 2):
            differences = (rescans[other] - rescans[one]).dropna()
            about = Comparison(measured.name, level, region, RESCAN, other, f"rescan ({one})")
            finding = paired(differences.to_numpy(np.float64))
            yield StatisticsRow(about, WILCOXON, "median difference of cost", finding, 2 * len(differences))


def _superiority(about: Comparison, both: pd.DataFrame, cost: Cost) -> StatisticsRow:
    """Test whether a method costs less than scanning the same subject again: paired, without a margin.

    Both one-sided tests are made, each at 5 %: in 10 % of cohorts without a difference one of them finds one.

    Parameters
    ----------
    about
        What is compared.
    both
        Columns ``found`` (the method's values) and ``rescan`` (costs of the rescans), one row a subject.
    cost
        Of the measure.
    """
    differences = cost(both.found.to_numpy(np.float64)) - both.rescan.to_numpy(np.float64)
    finding = paired(differences, "less")
    opposite = math.nan if math.isnan(finding.p) else paired(differences, "greater").p
    return StatisticsRow(about, SUPERIORITY, "median difference of cost", finding, len(both), opposite_p=opposite)


def _equivalence(about: Comparison, both: pd.DataFrame) -> StatisticsRow:
    """Test whether the mean signed change is equivalent to 0.

    The margin is the lower end of the interval of the rescans' median cost, so that a margin that is estimated too large
    by chance does not make equivalence too easy. It comes from the same subjects as what is tested, and the row says so.
    """
    values, sizes = (both[c].to_numpy(np.float64) for c in ("found", "rescan"))
    margin = median_of([np.array([s]) for s in sizes]).low
    return StatisticsRow(about, TOST, TOST_EFFECT, equivalence(values, margin), len(both), margin=margin)


def _agreements(volumes: pd.DataFrame, levels: Sequence[str]) -> Iterator[StatisticsRow]:
    """ICC(2,1) of volumes before and after, on each subject's first scan."""
    for (level, region, method, implementation), part in _groups(
        volumes[volumes.level.isin(levels)], "method", "implementation"
    ):
        first = part.dropna(subset=["volume_ml"]).sort_values(["subject", "scan"]).drop_duplicates("subject")
        before = first.volume_ml.to_numpy(np.float64)
        finding = _icc(before, before + first.volume_change_ml.to_numpy(np.float64))
        about = Comparison("volume_ml", level, region, method, implementation, "original")
        yield StatisticsRow(about, ICC, "ICC(2,1)", finding, finding.n)


def _icc(before: Values, after: Values) -> Finding:
    n = before.size
    if n < 2:
        return Finding(n, reason=too_few(n))
    found = icc21(np.stack([before, after], axis=1))
    enough = not too_few(n) and not math.isnan(found.low)
    reason = too_few(n) or ("" if enough else "no interval: volumes do not vary, or changed by a constant only")
    low, high = (found.low, found.high) if enough else (math.nan, math.nan)
    return Finding(n, found.icc, low, high, CONFIDENCE if enough else math.nan, reason=reason)


def _groups(frame: pd.DataFrame, *more: str) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """Yield the parts of a table by level, region and the columns `more`, in the table's own order."""
    for key, part in frame.groupby(["level", "region", *more], sort=False):
        yield tuple(str(k) for k in key), part


def _by_subject(frame: pd.DataFrame) -> pd.Series:
    found: pd.Series = frame.groupby("subject", sort=True).value.mean()
    return found
