"""qc.tsv and table1.tsv: the verdicts of the quality check and the reviewers' ratings of all defaced scans."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from efface.bids.derivatives import GroupPaths
from efface.errors import InputError
from efface.metrics import cohen_kappa
from efface.quality import FACE_FEATURES, QualityClass
from efface.statistics.undefined import ratio
from efface.study.ratings import Rating, current_ratings
from efface.study.records import NOT_AVAILABLE, write_table

UNIT = ("subject", "session", "scan", "method", "implementation")
"""Columns that identify a defaced scan."""
BRAIN = ("failed", "score", "damaged_ml", "damaged_voxels", "edited_ml", "deepest_mm", "where")
TIED = "tied"
AUTOMATIC, MANUAL, ALL = "automatic", "manual", "all"
QUALITY_COLUMNS = (
    *UNIT, "verdict", "score", "reason",
    *(f"brain_{name}" for name in BRAIN), *(f"brain_{axis}_mm" for axis in "xyz"),
    "face_failed", "face_score", "face_changed", "features_left",
    *(f"{name}_changed" for name in FACE_FEATURES), *(f"{name}_moved_mm" for name in FACE_FEATURES),
    "manual", "reviewers", "agreed",
)  # fmt: skip
"""Columns of qc.tsv."""
TABLE1_COLUMNS = ("method", "source", "scans", "success", "failure_i", "failure_ii", "agreement", "kappa")
"""Columns of table1.tsv."""
_TEXT = frozenset({*UNIT, "verdict", "reason", "brain_where", "features_left", "manual", "source"})


def write_quality(out_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make qc.tsv and table1.tsv from all verdicts and ratings, and return both.

    A defaced scan that reviewers have rated has a row even where the quality check has given no verdict.

    Raises
    ------
    OutputError
        If a table cannot be written.
    """
    paths = GroupPaths(out_dir)
    ratings: dict[tuple[str, str], list[Rating]] = {}
    for rating in current_ratings(out_dir):
        ratings.setdefault(rating.case, []).append(rating)
    found = (_read(path) for path in paths.unit_qualities())
    rows = [_judged(content) for content in found if content is not None and "unit" in content]
    known = {(row["scan"], row["method"]) for row in rows}
    rows += [_unjudged(given[0]) for case, given in sorted(ratings.items()) if case not in known]
    for row in rows:
        row |= _manual([rating.verdict for rating in ratings.get((row["scan"], row["method"]), ())], row["verdict"])
    quality = pd.DataFrame(rows, columns=list(QUALITY_COLUMNS))
    table1 = count(quality)
    for path, frame in ((paths.quality, quality), (paths.table1, table1)):
        texts = [name for name in frame.columns if name in _TEXT]
        write_table(path, frame.assign(**{name: frame[name].replace("", NOT_AVAILABLE) for name in texts}))
    return quality, table1


def read_quality(out_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the tables of `write_quality`; empty frames where a study has no verdicts.

    Raises
    ------
    InputError
        If a table cannot be read.
    """
    paths = GroupPaths(out_dir)
    return _table(paths.quality, QUALITY_COLUMNS), _table(paths.table1, TABLE1_COLUMNS)


def count(quality: pd.DataFrame) -> pd.DataFrame:
    """Make Table 1: successes and failures by method and in all, by the check and by reviewers, and their agreement."""
    methods = list(dict.fromkeys(quality.method))
    rows = []
    for method in [*methods, *([ALL] if methods else [])]:
        mine = quality if method == ALL else quality[quality.method == method]
        judged = mine[mine.verdict.isin(list(QualityClass))]
        rows.append(_counts(method, AUTOMATIC, judged.verdict))
        reviewed = mine[mine.manual.isin(list(QualityClass))]
        if len(reviewed):
            both = judged[judged.manual.isin(list(QualityClass))]
            pairs = pd.crosstab(both.verdict, both.manual).reindex(index=list(QualityClass), columns=list(QualityClass))
            counts = pairs.fillna(0).to_numpy(dtype=np.intp)
            row = _counts(method, MANUAL, reviewed.manual)
            row["agreement"] = float(ratio(counts.trace(), counts.sum()))
            row["kappa"], _, _ = cohen_kappa(counts)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(TABLE1_COLUMNS))


def _counts(method: str, source: str, verdicts: pd.Series) -> dict[str, Any]:
    words = Counter(verdicts)
    values = (len(verdicts), *(words[name] for name in QualityClass), math.nan, math.nan)
    return dict(zip(TABLE1_COLUMNS, (method, source, *values), strict=True))


def _judged(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the quality check for one defaced scan."""
    unit, damage, left = content["unit"], content["brain"], content["face"]
    row: dict[str, Any] = {name: unit[name] for name in UNIT}
    row |= {name: content[name] for name in ("verdict", "score", "reason")}
    row |= {f"brain_{name}": damage[name] for name in BRAIN}
    row |= dict(zip((f"brain_{axis}_mm" for axis in "xyz"), damage["centre_mm"] or [math.nan] * 3, strict=True))
    row |= {f"face_{name}": left[name] for name in ("failed", "score", "changed")}
    row |= {name: int(row[name]) for name in ("brain_failed", "face_failed")}
    row["features_left"] = ",".join(left["left"]) or "none"
    for name, parts in FACE_FEATURES.items():
        seen = [left["features"][part] for part in parts if left["features"][part]["changed"] is not None]
        area = sum(part["area_cm2"] for part in seen)
        for what in ("changed", "moved_mm"):
            row[f"{name}_{what}"] = sum(p[what] * p["area_cm2"] for p in seen) / area if area else math.nan
    return row


def _unjudged(rating: Rating) -> dict[str, Any]:
    """Return the columns of the quality check for a defaced scan without a verdict."""
    row: dict[str, Any] = {name: "" if name in _TEXT else math.nan for name in QUALITY_COLUMNS}
    return row | {name: getattr(rating, name) for name in UNIT if name != "implementation"}


def _manual(given: list[str], automatic: str) -> dict[str, Any]:
    """Return the reviewers' columns: majority verdict, number of reviewers, agreement with the check (1, 0, NaN)."""
    manual = _majority(given)
    comparable = bool(automatic) and manual not in ("", TIED)
    return {"manual": manual, "reviewers": len(given), "agreed": float(manual == automatic) if comparable else math.nan}


def _majority(verdicts: list[str]) -> str:
    ranked = Counter(verdicts).most_common(2)
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        return TIED
    return ranked[0][0] if ranked else ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame({name: pd.Series(dtype=object if name in _TEXT else float) for name in columns})
    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3)
        values = {
            name: frame[name].replace(NOT_AVAILABLE, "")
            if name in _TEXT
            else frame[name].replace(NOT_AVAILABLE, "nan").astype(float)
            for name in columns
        }
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, KeyError) as error:
        msg = f"{path} cannot be read as a table ({' '.join(str(error).split())}): run `efface study ... group` again"
        raise InputError(msg) from error
    return pd.DataFrame(values)
