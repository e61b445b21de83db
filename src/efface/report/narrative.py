"""Sentences of the report, computed from the tables."""

from collections.abc import Sequence

import pandas as pd

from efface.metrics.dice import NINE_REGIONS, WHOLE_BRAIN
from efface.study import Tables
from efface.study.comparisons import HALFWAY_REFERENCE
from efface.visualization.palette import title_of
from efface.wording import counted


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
    """Where the effect is smaller than a rescan's, by the verdicts; described only, where there are too few subjects."""
    rows = statistics[
        (statistics.test == "superiority")
        & (statistics.measure == "dice")
        & statistics.region.isin((WHOLE_BRAIN, *NINE_REGIONS))
        & (statistics.level != "label")
        & (statistics.method == method)
    ]
    registered = rows[rows.reference != HALFWAY_REFERENCE]
    rows = registered if len(registered) else rows
    rows = rows[rows.reference == "rescan (affine)"] if (rows.reference == "rescan (affine)").any() else rows
    if rows.effect.isna().all():
        return ""
    subjects = counted(int(rows.n.max()), "subject")
    said = [
        f"{verdict} {_places(rows, part)}" for verdict, part in rows[rows.verdict != ""].groupby("verdict", sort=False)
    ]
    untested = rows[(rows.verdict == "") & rows.effect.notna()]
    below = untested[untested.effect < 0]
    if len(untested):
        said.append(f"median effect below a rescan's {_places(untested, below) or 'nowhere'} (not tested)")
    corrected = " (Holm-corrected)" if (rows.verdict != "").any() else ""
    return f" Against a rescan of the same {subjects}{corrected}: {'; '.join(said)}."


def _places(rows: pd.DataFrame, part: pd.DataFrame) -> str:
    """Write which of the rows are meant: the whole brain, and how many of the regions."""
    regions, mine = (int((frame.region != WHOLE_BRAIN).sum()) for frame in (rows, part))
    places = ["on the whole brain"] if (part.region == WHOLE_BRAIN).any() else []
    return " and ".join([*places, *([f"in {mine} of {regions} regions"] if mine else [])])


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
