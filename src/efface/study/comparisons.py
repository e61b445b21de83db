"""Rows of statistics.tsv: what is compared with what, the finding, and the correction for many tests.

The whole brain is tested first, and is the gate of the regions (serial gatekeeping).

References
----------
Holm. "A simple sequentially rejective multiple test procedure." Scandinavian Journal of Statistics 6 (1979) 65-70.
Dmitrienko, Tamhane. "Gatekeeping procedures with clinical trial applications." Pharmaceutical Statistics 6 (2007)
171-180.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from efface.metrics.dice import POOLED_LEVEL, WHOLE_BRAIN
from efface.statistics.inference import Alternative, Finding, holm, smallest_p
from efface.study.native_volumes import OWN_GRIDS
from efface.study.resampled_scans import RESAMPLED, RESAMPLED_HALFWAY
from efface.study.settings import HALFWAY

ALPHA = 0.05
SUMMARY, FRIEDMAN, WILCOXON, MIXED_MODEL, ICC, TOST = (
    "summary",
    "friedman",
    "wilcoxon",
    "mixed model",
    "icc(2,1)",
    "tost",
)
SUPERIORITY = "superiority"
"""Whether a method costs less than a rescan: one-sided, paired, without a margin."""
PRIMARY = (WHOLE_BRAIN, POOLED_LEVEL)
"""Levels that are tested first. The first of them is the gate of the other levels."""
SMALLER, LARGER, UNDECIDED = "smaller than a rescan", "larger than a rescan", "not decided"
EQUIVALENT, NOT_SHOWN = "equivalent", "not shown"
CANNOT = "cannot be decided"
"""Start of the verdict where so few subjects cannot decide a question, whatever their values."""
CONFOUNDED = "the yardstick cannot decide: resampling alone costs as much as the rescan"
"""Verdict on methods where the control, which is no rescan, costs at least what the rescan costs."""
UNCONTROLLED = "the yardstick cannot be judged: no scan was only resampled beside it"
"""Verdict on methods where there is no such control: what interpolation costs is not known."""
RESCAN = "rescan"
CONTROLS = (RESAMPLED, RESAMPLED_HALFWAY)
"""What is only resampled, on a session's own grid and half-way between the sessions."""
OWN_REFERENCE = f"{RESCAN} ({OWN_GRIDS})"
"""Reference of volumes that need no registration."""
HALFWAY_REFERENCE = f"{RESCAN} ({HALFWAY})"
"""Reference of sessions that are both resampled once."""


@dataclass(frozen=True)
class Comparison:
    """What a row of statistics.tsv is about.

    Attributes
    ----------
    measure, level, region
        Which number, where; empty where a row is about all regions.
    method, implementation
        A method, a rescan or the control; or ``all methods``.
    reference
        What it is compared with; empty for a summary.
    """

    measure: str
    level: str = ""
    region: str = ""
    method: str = ""
    implementation: str = ""
    reference: str = ""


@dataclass
class StatisticsRow:
    """One row of statistics.tsv.

    Attributes
    ----------
    comparison
        What it is about.
    test
        The question: a value of the column ``test``.
    effect_is
        What the effect is, in words.
    finding
        Effect, interval and uncorrected test.
    scans
        Number of scans; `Finding.n` is the number of subjects.
    quartiles
        Of a summary.
    margin
        Of `TOST`.
    opposite_p
        For `SUPERIORITY`, p of the opposite one-sided test.
    family, corrected, opposite_corrected, verdict
        Set by `correct`.
    reachable
        Set by `correct`: the smallest corrected p that so many subjects can reach.
    """

    comparison: Comparison
    test: str
    effect_is: str
    finding: Finding
    scans: int
    quartiles: tuple[float, float] = (math.nan, math.nan)
    margin: float = math.nan
    opposite_p: float = math.nan
    family: str = ""
    corrected: float = math.nan
    opposite_corrected: float = math.nan
    reachable: float = 0.0
    verdict: str = ""

    @property
    def smallest_p(self) -> float:
        """The smallest p that the test can give with so many subjects; 0 where there is no such limit."""
        sides: dict[str, Alternative] = {SUPERIORITY: "less", WILCOXON: "two-sided"}
        return smallest_p(self.finding.n, sides[self.test]) if self.test in sides else 0.0

    def cells(self) -> tuple[Any, ...]:
        """Return the cells in the order of `efface.study.records.STATISTICS`."""
        about, found = self.comparison, self.finding
        return (
            about.measure, about.level, about.region, about.method, about.implementation, about.reference, self.test,
            float(found.n), float(self.scans), self.effect_is, found.effect, found.low, found.high, found.confidence,
            *self.quartiles, found.statistic, found.p, self.corrected, self.family, self.margin, self.verdict,
            found.reason,
        )  # fmt: skip


def correct(rows: list[StatisticsRow]) -> None:
    """Correct all p for many tests, whole brain first, and set the verdicts.

    A family of the whole brain is all rows of one test of one measure: all methods, or all pairs of methods. A family of
    regions (or labels) is the regions of one method, or of one pair; its gate is the row that asks the same of the whole
    brain, and no region's corrected p is smaller than that row's. Both are corrected by Holm's method. Questions about
    rescans are families for each kind of registration, and the control has its own.
    """
    gates = {_question(row): row for row in rows if row.comparison.level == PRIMARY[0]}
    families: dict[str, list[StatisticsRow]] = {}
    for row in sorted(rows, key=lambda row: row.comparison.level not in PRIMARY):
        if not math.isnan(row.finding.p):
            families.setdefault(_family(row), []).append(row)
    for name, members in families.items():
        first = members[0]
        gate = None if first.comparison.level in PRIMARY else gates.get(_question(first))
        _correct_family(members, gate)
        for row in members:
            row.family = f"{name}: {len(members)} test{'' if len(members) == 1 else 's'}"
            row.family += ", after the whole brain" if gate is not None else ""
            row.verdict = _verdict(row)
    _refuse_confounded(rows)


def _refuse_confounded(rows: Sequence[StatisticsRow]) -> None:
    """Give no verdict on methods where resampling alone costs as much as the rescan, tested or not, or is not known.

    The moving session is interpolated once, the fixed and the defaced scan never; half-way, both sessions are. Where
    interpolation explains the whole rescan, a method that is below it is below an interpolation. Sessions on their own
    grids are not interpolated.
    """
    compared = [row for row in rows if row.test in (SUPERIORITY, TOST)]
    controls = [row for row in compared if row.test == SUPERIORITY and row.comparison.method in CONTROLS]
    passed = {_yardstick(row.comparison) for row in controls if row.finding.effect < 0}
    failed = {_yardstick(row.comparison) for row in controls if row.finding.effect >= 0}
    for row in compared:
        if row.comparison.method in CONTROLS or row.comparison.reference == OWN_REFERENCE:
            continue
        if _yardstick(row.comparison) in failed:
            row.verdict = CONFOUNDED
        elif row.verdict and _yardstick(row.comparison) not in passed:
            row.verdict = UNCONTROLLED


def _yardstick(about: Comparison) -> tuple[str, ...]:
    return (about.measure, about.level, about.region, about.reference)


def _correct_family(members: Sequence[StatisticsRow], gate: StatisticsRow | None) -> None:
    """Set the corrected p of a family's rows, none smaller than what its gate has; a gate without a p stays shut."""
    shut, least = 0.0, 0.0
    if gate is not None:
        found = [p for p in (gate.corrected, gate.opposite_corrected) if not math.isnan(p)]
        shut, least = min(found, default=1.0), gate.reachable
    p = holm([row.finding.p for row in members])
    opposite = holm([row.opposite_p for row in members])
    reachable = holm([row.smallest_p for row in members])  # corrected p grow with every p of the family
    for row, one, other, reached in zip(members, p, opposite, reachable, strict=True):
        row.corrected = max(one, shut)
        row.opposite_corrected = other if math.isnan(other) else max(other, shut)
        row.reachable = max(reached, least)


def _verdict(row: StatisticsRow) -> str:
    """What the corrected p of a row say."""
    if row.reachable >= ALPHA:
        return f"{CANNOT} with {row.finding.n} subjects"
    if row.test == SUPERIORITY:
        return SMALLER if row.corrected < ALPHA else LARGER if row.opposite_corrected < ALPHA else UNDECIDED
    if row.test == TOST:
        return EQUIVALENT if row.corrected < ALPHA else NOT_SHOWN
    return ""


def _question(row: StatisticsRow) -> tuple[str, ...]:
    """What a row asks, wherever it asks it."""
    about = row.comparison
    return (row.test, about.measure, about.method, about.implementation, about.reference)


def _family(row: StatisticsRow) -> str:
    about = row.comparison
    compared = about.reference if row.test in (SUPERIORITY, TOST) else "methods"
    if about.method in (RESCAN, *CONTROLS) or about.level not in PRIMARY:
        compared = ", ".join(x for x in (about.method, about.implementation, about.reference) if x)
    return f"{row.test}, {about.measure}, {about.level}, {compared}"
