"""Sentences of the report, computed from the tables."""

from collections.abc import Sequence

import pandas as pd

from efface.metrics.dice import NINE_REGIONS, WHOLE_BRAIN
from efface.study import Tables
from efface.visualization.palette import counted, listed, title_of

SMALLER, LARGER = "smaller than a rescan", "larger than a rescan"


def headline(tables: Tables, methods: Sequence[str]) -> list[str]:
    """The result as a whole: the methods in order, and the yardstick."""
    whole = _unions(tables.dice)
    whole = whole[whole.region == WHOLE_BRAIN]
    medians = whole.groupby("method").value.median().reindex(list(methods)).dropna()
    medians = medians.sort_values(ascending=False, kind="stable")
    said = []
    if len(medians) > 1:
        best, worst = str(medians.index[0]), str(medians.index[-1])
        said.append(
            f"Over {counted(whole.scan.nunique(), 'scan')} of {counted(whole.subject.nunique(), 'subject')}, the median "
            f"whole-brain Dice before and after defacing lies between {medians.iloc[-1]:.4f} ({title_of(worst)}) and "
            f"{medians.iloc[0]:.4f} ({title_of(best)})."
        )
    said += _yardstick(tables, medians)
    failed = tables.failures.scan.nunique()
    if failed:
        said.append(f"Something failed on {counted(failed, 'scan')}: see Failures.")
    return said


def _yardstick(tables: Tables, medians: "pd.Series[float]") -> list[str]:
    rescans = _unions(tables.rescan)
    rescans = rescans[(rescans.measure == "dice") & (rescans.region == WHOLE_BRAIN)]
    again = rescans[rescans.method.str.startswith("rescan-")]
    if again.empty:
        return []
    said = []
    for transform, rows in again.groupby("implementation"):
        said.append(
            f"The yardstick, the same person scanned again: median whole-brain Dice between sessions "
            f"({transform} registration) {rows.value.median():.4f} in {counted(rows.subject.nunique(), 'subject')}."
        )
    affine = again[again.implementation == "affine"]
    yardstick = (affine if len(affine) else again).value.median()
    below = [title_of(str(m)) for m in medians.index if medians[m] < yardstick]
    if len(medians):
        verdict = (
            f"Defacing moved the whole brain more than that with {listed(below)}."
            if below
            else "No method moved the whole brain as much as that."
        )
        said.append(verdict)
    control = rescans[rescans.method == "resampled"]
    if len(control):
        said.append(
            f"Resampling alone, with no second scan, gives {control.value.median():.4f}: that much of the difference "
            "between sessions comes from interpolation."
        )
    return said


def method_sentences(tables: Tables, methods: Sequence[str]) -> list[str]:
    """What each method did, in a few sentences."""
    return [_sentence(tables, method) for method in methods]


def _sentence(tables: Tables, method: str) -> str:
    name = title_of(method)
    dice = _unions(tables.dice)
    dice = dice[dice.method == method].dropna(subset=["value"])
    edits = tables.edits[tables.edits.method == method]
    failed = tables.failures[tables.failures.method == method].scan.nunique()
    failures = f" It failed on {counted(failed, 'scan')}." if failed else ""
    whole = dice[dice.region == WHOLE_BRAIN]
    if whole.empty:
        return f"{name} has no result.{failures}"
    lowest = whole.sort_values(["value", "scan"]).iloc[0]
    changed = edits.edited_head_ml.dropna()
    much = f" changed {changed.median():.0f} ml of the head (median)." if len(changed) else ":"
    return (
        f"{name}{much} {_brain(edits)} Median whole-brain Dice {whole.value.median():.4f}"
        f"{_interval(tables.statistics, method)} over {counted(len(whole), 'scan')}, lowest {lowest.value:.4f} "
        f"({lowest.scan}). {_region(dice)}{_against_rescan(tables.statistics, method)}{_volumes(tables, method)}"
        f"{failures}"
    )


def _interval(statistics: pd.DataFrame, method: str) -> str:
    row = statistics[
        (statistics.test == "summary")
        & (statistics.measure == "dice")
        & (statistics.method == method)
        & (statistics.region == WHOLE_BRAIN)
    ]
    if row.empty or row[["low", "high"]].isna().any(axis=None):
        return ""
    first = row.iloc[0]
    return f" ({first.confidence:.0%} interval {first.low:.4f} to {first.high:.4f})"


def _region(dice: pd.DataFrame) -> str:
    medians = dice[dice.region.isin(NINE_REGIONS)].groupby("region").value.median()
    if medians.empty:
        return ""
    lowest = str(medians.idxmin())
    return f"Most affected region: {lowest} (median {medians[lowest]:.4f})."


def _against_rescan(statistics: pd.DataFrame, method: str) -> str:
    """In how many regions the effect is smaller than a rescan's: by the test, or described where it had too few."""
    rows = statistics[
        (statistics.test == "noninferiority")
        & (statistics.measure == "dice")
        & (statistics.level == "region")
        & statistics.region.isin(NINE_REGIONS)
        & (statistics.method == method)
    ]
    rows = rows[rows.reference == "rescan (affine)"] if (rows.reference == "rescan (affine)").any() else rows
    if rows.empty:
        return ""
    decided = rows[rows.verdict != ""]
    if len(decided):
        smaller, larger = (int((decided.verdict == v).sum()) for v in (SMALLER, LARGER))
        more = f", larger in {larger}" if larger else ""
        return f" Its effect is smaller than a rescan's in {smaller} of {len(rows)} regions{more} (Holm-corrected)."
    effects = rows.dropna(subset=["effect"])
    if effects.empty:
        return ""
    cheaper = int((effects.effect < 0).sum())
    subjects = counted(int(effects.n.max()), "subject")
    return f" In {cheaper} of {len(effects)} regions its median effect is below a rescan's (not tested: {subjects})."


def _volumes(tables: Tables, method: str) -> str:
    mine = tables.volumes[(tables.volumes.method == method) & tables.volumes.region.isin(NINE_REGIONS)]
    changes = mine.groupby("region").volume_change_percent.median().dropna()
    if changes.empty:
        return ""
    largest = str(changes.abs().idxmax())
    return f" Largest median change of volume: {changes[largest]:+.2f} % ({largest})."


def _brain(edits: pd.DataFrame) -> str:
    inside = edits.edited_brain_ml.dropna()
    touched = inside[inside > 0]
    if inside.empty:
        return "How much brain mask it changed is not known."
    if touched.empty:
        return f"It changed no voxel of the brain mask in any of {counted(len(inside), 'scan')}."
    return (
        f"It changed voxels of the brain mask in {len(touched)} of {counted(len(inside), 'scan')} "
        f"(at most {touched.max():.2f} ml)."
    )


def _unions(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.level != "label"]
