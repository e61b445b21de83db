"""Rows of statistics.tsv: what is compared with what, the finding, and Holm's correction over families of tests."""

import math
from dataclasses import dataclass
from typing import Any

from efface.statistics.inference import Finding, holm
from efface.study.resampled_scans import RESAMPLED

ALPHA = 0.05
SUMMARY, FRIEDMAN, WILCOXON, MIXED_MODEL, ICC, TOST = (
    "summary",
    "friedman",
    "wilcoxon",
    "mixed model",
    "icc(2,1)",
    "tost",
)
SUPERIORITY = "noninferiority"
"""Value of the column ``test`` for a paired one-sided superiority test; the name is kept from earlier versions."""
SMALLER, LARGER, UNDECIDED = "smaller than a rescan", "larger than a rescan", "not decided"
EQUIVALENT, NOT_SHOWN = "equivalent", "not shown"
RESCAN = "rescan"


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
        For `SUPERIORITY`, the median cost of the subjects' rescans, for information; for `TOST`, the equivalence margin.
    opposite_p
        For `SUPERIORITY`, p of the opposite one-sided test.
    family, corrected, verdict
        Set by `correct`.
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
    verdict: str = ""

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
    """Correct all p by Holm's method within families, and set the verdicts.

    A family is all rows of one test of one measure on one level; questions about rescans are families for each kind of
    registration, and the control has its own.
    """
    families: dict[str, list[StatisticsRow]] = {}
    for row in rows:
        if not math.isnan(row.finding.p):
            families.setdefault(_family(row), []).append(row)
    for name, members in families.items():
        corrected = holm([row.finding.p for row in members])
        opposite = holm([row.opposite_p for row in members])
        for row, p, other in zip(members, corrected, opposite, strict=True):
            row.corrected, row.family = p, f"{name}: {len(members)} test{'' if len(members) == 1 else 's'}"
            if row.test == SUPERIORITY:
                row.verdict = SMALLER if p < ALPHA else LARGER if other < ALPHA else UNDECIDED
            elif row.test == TOST:
                row.verdict = EQUIVALENT if p < ALPHA else NOT_SHOWN


def _family(row: StatisticsRow) -> str:
    about = row.comparison
    compared = about.reference if row.test in (SUPERIORITY, TOST) else "methods"
    if about.method in (RESCAN, RESAMPLED):
        compared = f"{about.method}, {about.reference}"
    return f"{row.test}, {about.measure}, {about.level}, {compared}"
