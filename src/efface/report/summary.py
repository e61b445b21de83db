"""Table 1 and the other summaries of the report, as rows for its templates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from efface.metrics.dice import WHOLE_BRAIN
from efface.report.dice_figures import GROUPS
from efface.study import Tables

SOURCES = ("automatic", "manual")


def table_one(tables: Tables, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Counts a method: what was defaced, what failed to run, what reached the brain, and the quality classes.

    ``classes`` maps each source that the study has (automatic, manual) to Success, Failure I, Failure II and their sum.
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
        failed = tables.failures[tables.failures.method == method].scan.nunique()
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


def medians(dice: pd.DataFrame, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Median and quartiles for every method and group; None where there is no value."""
    rows = []
    unions = dice[dice.level != "label"]
    for method in methods:
        row: dict[str, Any] = {"method": method}
        for group in GROUPS:
            values = unions[(unions.method == method) & (unions.region == group)].value.dropna()
            row[group] = None if values.empty else np.percentile(values, (50, 25, 75)).tolist()
        rows.append(row)
    return rows


def against_rescan(statistics: pd.DataFrame, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the tests against the rescan, one a region.

    For each method a cell (effect, low, high, p, verdict, reason), or None.
    """
    chosen = statistics[(statistics.test == "noninferiority") & (statistics.measure == "dice")]
    rows = []
    for region in GROUPS:
        mine = chosen[(chosen.region == region) & chosen.level.isin(["region", "whole brain"])]
        cells = [_cell(mine[mine.method == method]) for method in methods]
        if any(cells):
            rows.append({"region": region, "cells": cells})
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
    columns = ["method", "reference", "n", "effect", "low", "high", "p_corrected", "reason"]
    return [dict(zip(columns, row, strict=True)) for row in chosen[columns].itertuples(index=False, name=None)]
