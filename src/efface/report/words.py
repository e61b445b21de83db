"""What the tables say, in sentences that are computed from them."""

from collections.abc import Sequence

import pandas as pd

from efface.measure.dice import NINE_REGIONS, WHOLE_BRAIN
from efface.study import Tables


def method_sentences(tables: Tables, methods: Sequence[str]) -> list[str]:
    """One sentence a method."""
    return [_sentence(tables, method) for method in methods]


def _sentence(tables: Tables, method: str) -> str:
    dice = tables.dice[(tables.dice.method == method) & (tables.dice.level != "label")].dropna(subset=["value"])
    edits = tables.edits[tables.edits.method == method]
    failed = tables.failures[tables.failures.method == method].scan.nunique()
    failures = f" It failed on {_count(failed, 'scan')}." if failed else ""
    whole = dice[dice.region == WHOLE_BRAIN].value
    if whole.empty:
        return f"{method} has no result.{failures}"
    medians = dice[dice.region.isin(NINE_REGIONS)].groupby("region").value.median()
    lowest = str(medians.idxmin())
    return (
        f"{method}: median whole-brain Dice {whole.median():.4f} (lowest {whole.min():.4f}) over "
        f"{_count(len(whole), 'scan')}; most affected region: {lowest} (median {medians[lowest]:.4f}). "
        f"{_brain(edits)}{failures}"
    )


def _brain(edits: pd.DataFrame) -> str:
    inside = edits.edited_brain_ml.dropna()
    touched = inside[inside > 0]
    if inside.empty:
        return "How much brain mask it changed is not known."
    if touched.empty:
        return f"It changed no voxel of the brain mask in any of {_count(len(inside), 'scan')}."
    return (
        f"It changed voxels of the brain mask in {len(touched)} of {_count(len(inside), 'scan')} "
        f"(at most {touched.max():.2f} ml)."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
