"""The first sentences of the report: methods in order on the same scans, and against the rescan of the same subjects."""

from collections.abc import Sequence

import pandas as pd

from efface.metrics.dice import WHOLE_BRAIN
from efface.report.dice_figures import REGISTERED
from efface.report.inputs import faces_left
from efface.study import Tables
from efface.study.comparisons import HALFWAY_REFERENCE, OWN_REFERENCE
from efface.study.native_volumes import UNREGISTERED
from efface.study.passed_scans import final_verdicts
from efface.study.rescan_job import RESAMPLED_HALFWAY, RESCAN_HALFWAY
from efface.visualization.palette import title_of
from efface.wording import counted, listed


def headline(tables: Tables, methods: Sequence[str]) -> list[str]:
    """The result as a whole: the methods in order, the scans that passed, the yardstick, and what failed."""
    said = [*_order(tables, methods), *_passed(tables, methods), *_yardstick(tables, methods)]
    failed = tables.failures.scan.nunique()
    if failed:
        said.append(f"Something failed on {counted(failed, 'scan')}: see Failures.")
    return said


def _order(tables: Tables, methods: Sequence[str]) -> list[str]:
    """The methods by median whole-brain Dice on the same scans, Failures I left out; a face left costs no Dice."""
    whole = _whole_brain(tables.dice, methods)
    judged, left = set(final_verdicts(tables.quality)), faces_left(tables)
    cases = pd.Series(list(zip(whole.scan, whole.method, strict=True)), index=whole.index, dtype=object)
    usable = whole[cases.isin(judged - left)]
    scans = {m: (int((whole.method == m).sum()), int((usable.method == m).sum())) for m in methods}
    counts = listed([f"{title_of(m)} {mine} of {of}" for m, (of, mine) in scans.items()])
    if whole.empty:
        return []
    if usable.empty:
        return [
            f"The methods are not put in order: no scan is known to be without a face left (results: {counts} scans), "
            "and a method that changes nothing would come first."
        ]
    said = [f"Scans with a whole-brain Dice and without Failure I (face left): {counts}."]
    ranked = [m for m, (_, mine) in scans.items() if mine]
    said += _medians(usable, ranked, "On the {} that have such a result of {}", "This order is not tested.")
    left_out = [title_of(m) for m in methods if m not in ranked]
    if left_out:
        said.append(f"Not put in order, because no scan is left: {listed(left_out)}.")
    return said


def _passed(tables: Tables, methods: Sequence[str]) -> list[str]:
    """The methods on the scans that passed the quality check with every one of them."""
    passed = tables.passed()
    whole = _whole_brain(passed.dice, methods)
    ranked = [m for m in methods if (whole.method == m).any()]
    if whole.empty:
        return ["No scan passed the quality check with every method."] if len(tables.quality) else []
    return _medians(whole, ranked, "On the {} that passed the quality check with {}", "Tests: statistics_passed.tsv.")


def _medians(whole: pd.DataFrame, ranked: Sequence[str], where: str, tested: str) -> list[str]:
    """Medians of the methods on the scans that all of them have, highest first."""
    table = (
        whole.pivot(index=["subject", "scan"], columns="method", values="value").reindex(columns=list(ranked)).dropna()
    )
    if table.empty:
        return ["The methods are not put in order: no scan has a result of all of them."]
    medians = table.median().sort_values(ascending=False, kind="stable")
    subjects = counted(table.index.get_level_values("subject").nunique(), "subject")
    place = where.format(f"{counted(len(table), 'scan')} of {subjects}", counted(len(ranked), "method"))
    values = listed([f"{title_of(str(m))} {value:.4f}" for m, value in medians.items()])
    return [f"{place}, the median whole-brain Dice before and after defacing is: {values}. {tested}"]


def _yardstick(tables: Tables, methods: Sequence[str]) -> list[str]:
    """How far apart two scans of a person are, and what the tests say of the methods against that."""
    rescans = tables.rescan[(tables.rescan.measure == "dice") & (tables.rescan.region == WHOLE_BRAIN)]
    again = rescans[rescans.method.isin(REGISTERED)].dropna(subset=["value"])
    said = []
    for transform, rows in again.groupby("implementation"):
        said.append(
            f"The yardstick, the same person scanned again: median whole-brain Dice between sessions "
            f"({transform} registration) {rows.value.median():.4f} in {counted(rows.subject.nunique(), 'subject')}."
        )
        said += _verdicts(tables.statistics, methods, f"rescan ({transform})", "dice")
    control = rescans[rescans.method == "resampled"].dropna(subset=["value"])
    if len(again) and len(control):
        said.append(
            f"Resampling alone, with no second scan, gives {control.value.median():.4f} in "
            f"{counted(control.subject.nunique(), 'subject')}: that much of the difference between sessions can come "
            "from interpolation."
        )
    said += _halfway(tables, methods, rescans)
    return said + (_own_grids(tables, methods) if said else [])


def _halfway(tables: Tables, methods: Sequence[str], rescans: pd.DataFrame) -> list[str]:
    """The yardstick that is fair to the rescan: both sessions interpolated once, half-way between them."""
    both = rescans[rescans.method == RESCAN_HALFWAY].dropna(subset=["value"])
    control = rescans[rescans.method == RESAMPLED_HALFWAY].dropna(subset=["value"])
    if both.empty:
        return []
    alone = f" Resampling alone gives {control.value.median():.4f} there." if len(control) else ""
    return [
        f"Half-way between the sessions, both of them resampled once: median whole-brain Dice {both.value.median():.4f} "
        f"in {counted(both.subject.nunique(), 'subject')}.{alone}",
        *_verdicts(tables.statistics, methods, HALFWAY_REFERENCE, "dice"),
    ]


def _own_grids(tables: Tables, methods: Sequence[str]) -> list[str]:
    """The yardstick without interpolation: volumes of the sessions, each on its own grid."""
    rows = tables.rescan[(tables.rescan.method == UNREGISTERED) & (tables.rescan.measure == "volume_change_percent")]
    rows = rows[rows.region == WHOLE_BRAIN].dropna(subset=["value"])
    if rows.empty:
        return ["Volumes without any resampling were not compared: that needs --measures dice,volume."]
    return [
        f"Without any resampling: the volume of the whole brain differs between sessions, each segmented on its own "
        f"grid, by {rows.value.abs().median():.2f} % (median of {counted(rows.subject.nunique(), 'subject')}).",
        *_verdicts(tables.statistics, methods, OWN_REFERENCE, "volume_change_percent"),
    ]


def _verdicts(statistics: pd.DataFrame, methods: Sequence[str], reference: str, measure: str) -> list[str]:
    """Verdicts on the whole brain against one kind of rescan, each of subjects who have both values."""
    rows = statistics[
        (statistics.test == "superiority")
        & (statistics.measure == measure)
        & (statistics.level == WHOLE_BRAIN)
        & (statistics.reference == reference)
        & statistics.method.isin(list(methods))
    ].dropna(subset=["effect"])
    if rows.empty:
        return ["Defacing is not compared with it: there are no statistics."]
    tested = rows.verdict != ""
    words = rows.verdict.where(
        tested, rows.effect.map(lambda x: f"median {'below' if x < 0 else 'not below'} it, not tested")
    )
    parts = []
    for verdict, mine in rows.groupby(words, sort=False):
        names = [f"{title_of(m)} (n = {int(n)})" for m, n in zip(mine.method, mine.n, strict=True)]
        parts.append(f"{listed(names)}: {verdict}")
    return [f"Effect of defacing against it, in the same subjects: {'; '.join(parts)}."]


def _whole_brain(dice: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    return dice[(dice.region == WHOLE_BRAIN) & dice.method.isin(list(methods))].dropna(subset=["value"])
