"""Table 1 and the other summaries of the report, as rows for its templates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from efface.metrics.dice import NINE_REGIONS, POOLED, WHOLE_BRAIN
from efface.study import Tables
from efface.study.comparisons import HALFWAY_REFERENCE, OWN_REFERENCE
from efface.study.native_volumes import UNREGISTERED

SOURCES = ("automatic", "manual")
ROWS = (WHOLE_BRAIN, POOLED, *NINE_REGIONS)
"""Of the tables of numbers: both readings of the whole brain's Dice, and the nine regions."""


def table_one(tables: Tables, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Counts a method: what was defaced, what failed to run, what reached the brain, and the quality classes.

    ``failed`` of the runs gave no defaced scan; they are among Failure I, as in the paper. ``classes`` maps each source
    that the study has (automatic, manual) to Success, Failure I, Failure II and their sum.
    """
    rows = []
    for method in methods:
        edits = tables.edits[tables.edits.method == method]
        brain = edits.edited_brain_ml.dropna()
        classes = {}
        for source in SOURCES:
            found = tables.table1[(tables.table1.method == method) & (tables.table1.source == source)]
            if len(found):
                first = found.iloc[0]
                classes[source] = [int(first[c]) for c in ("success", "failure_i", "failure_ii", "scans")]
        counted = tables.table1[(tables.table1.method == method) & (tables.table1.source == SOURCES[0])]
        unrun = tables.failures[(tables.failures.method == method) & (tables.failures.measure == "deface")]
        failed = int(counted.failed_runs.iloc[0]) if len(counted) else unrun.scan.nunique()
        rows.append(
            {
                "method": method,
                "scans": len(edits),
                "failed": failed,
                "head_ml": float(edits.edited_head_ml.median()) if len(edits) else float("nan"),
                "brain_scans": int((brain > 0).sum()),
                "brain_max_ml": float(brain.max()) if len(brain) else float("nan"),
                "classes": classes,
            }
        )
    return rows


def sources_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Sources of quality classes that some method has."""
    return [source for source in SOURCES if any(source in row["classes"] for row in rows)]


def left_out(table: pd.DataFrame) -> list[dict[str, Any]]:
    """What of the folder is not part of the study: kind, reason, and number of scans."""
    kinds = table[["what", "reason"]].drop_duplicates().itertuples(index=False, name=None)
    return [
        {"what": what, "reason": reason, "scans": table[(table.what == what) & (table.reason == reason)].scan.nunique()}
        for what, reason in kinds
    ]


def medians(dice: pd.DataFrame, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Median and quartiles for every method and row of `ROWS`; None where there is no value."""
    rows = []
    unions = dice[dice.level != "label"]
    for method in methods:
        row: dict[str, Any] = {"method": method}
        for group in ROWS:
            values = unions[(unions.method == method) & (unions.region == group)].value.dropna()
            row[group] = None if values.empty else np.percentile(values, (50, 25, 75)).tolist()
        rows.append(row)
    return rows


def against_rescan(statistics: pd.DataFrame, methods: Sequence[str], *, halfway: bool = False) -> list[dict[str, Any]]:
    """Rows of the tests against the rescan (with `halfway`, of sessions resampled half-way), one a region.

    For each method a cell (effect, low, high, p, verdict, reason), or None.
    """
    chosen = statistics[(statistics.test == "superiority") & (statistics.measure == "dice")]
    chosen = chosen[(chosen.reference == HALFWAY_REFERENCE) == halfway]
    rows = []
    for region in ROWS:
        mine = chosen[(chosen.region == region) & (chosen.level != "label")]
        cells = [_cell(mine[mine.method == method]) for method in methods]
        if any(cells):
            rows.append({"region": region, "cells": cells})
    return rows


def own_grids(tables: Tables, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the volumes without any resampling, one a region; empty where they were not measured.

    ``sessions`` is the median size of the change between sessions in percent, each on its own grid, and ``cells`` that
    of each method in the same subjects, with the verdict of the test; None where there is no value.
    """
    changes = tables.rescan[tables.rescan.measure == "volume_change_percent"].dropna(subset=["value"])
    changes = changes[changes.level != "label"]
    tested = tables.statistics[
        (tables.statistics.test == "superiority") & (tables.statistics.reference == OWN_REFERENCE)
    ].set_index(["region", "method"])
    rows = []
    for region in (WHOLE_BRAIN, *NINE_REGIONS):
        mine = changes[changes.region == region]
        sessions = mine[mine.method == UNREGISTERED]
        cells: list[dict[str, Any] | None] = []
        for method in methods:
            values = mine[(mine.method == method) & mine.subject.isin(sessions.subject)].value
            found = tested.loc[[(region, method)]].iloc[0] if (region, method) in tested.index else None
            said = "" if found is None else str(found.verdict) or str(found.reason)
            cells.append({"size": float(values.abs().median()), "said": said} if len(values) else None)
        if len(sessions):
            rows.append({"region": region, "sessions": float(sessions.value.abs().median()), "cells": cells})
    return rows


def _cell(rows: pd.DataFrame) -> dict[str, Any] | None:
    affine = rows[rows.reference == "rescan (affine)"]
    rows = affine if len(affine) else rows
    if rows.empty:
        return None
    first = rows.iloc[0]
    numbers = {name: float(first[name]) for name in ("effect", "low", "high", "p_corrected", "n")}
    return {**numbers, "verdict": str(first.verdict), "reason": str(first.reason)}


def pairs(statistics: pd.DataFrame) -> list[dict[str, Any]]:
    """Paired comparisons of methods on the whole brain."""
    chosen = statistics[
        (statistics.test == "wilcoxon") & (statistics.measure == "dice") & (statistics.region == WHOLE_BRAIN)
    ]
    chosen = chosen[chosen.method != "rescan"]
    columns = ["method", "reference", "n", "effect", "low", "high", "p_corrected", "reason", "verdict"]
    return [dict(zip(columns, row, strict=True)) for row in chosen[columns].itertuples(index=False, name=None)]
