"""The one shape of every result: a tidy row, and tables of them on disk."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pandas as pd

from efface.errors import InputError
from efface.io.atomic import write_atomically

OK, FAILED = "ok", "failed"
NOT_AVAILABLE = "n/a"
"""How BIDS tables write a missing value."""


@dataclass(frozen=True)
class Row:
    """One result, or one failure with its reason.

    Attributes
    ----------
    subject, session, scan
        Where it comes from; `scan` is the BIDS name up to the suffix.
    method, implementation, segmenter
        What made it.
    measure
        ``edited_ml``, ``edited_head_ml``, ``edited_brain_ml``, or a number of `efface.metrics.MEASURES` (``dice``); for
        a failure, the step that failed.
    level, region
        ``whole brain``, ``region`` or ``label``, and its name.
    value
        The number; NaN where undefined or failed.
    status, reason
        ``ok`` or ``failed``, and why in one line.
    """

    subject: str
    session: str
    scan: str
    method: str
    implementation: str
    segmenter: str
    measure: str
    level: str
    region: str
    value: float
    status: str = OK
    reason: str = ""


UNENCODABLE = "backslashreplace"
"""Names of files need not be text."""
COLUMNS = tuple(f.name for f in fields(Row))
STATISTICS = (
    "measure", "level", "region", "method", "implementation", "reference", "test", "n", "scans", "effect_is", "effect",
    "low", "high", "confidence", "q1", "q3", "statistic", "p", "p_corrected", "family", "margin", "verdict", "reason",
)  # fmt: skip
"""Columns of statistics.tsv."""
TEXT_COLUMNS = frozenset(f.name for f in fields(Row) if f.type is str) | {
    "reference", "test", "effect_is", "family", "verdict",
}  # fmt: skip


def rows_to_tsv(rows: Iterable[Row]) -> bytes:
    """Format rows as a table; numbers with six significant digits, missing values as ``n/a``."""
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(_cell(value) for value in astuple(row)) for row in rows]
    return ("\n".join(lines) + "\n").encode(errors=UNENCODABLE)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as TSV, atomically; the same frame gives the same bytes."""
    text_columns = [name for name in frame.columns if name in TEXT_COLUMNS]
    shown = frame.assign(**{name: frame[name].map(_cell) for name in text_columns})
    lines = shown.to_csv(
        sep="\t", index=False, na_rep=NOT_AVAILABLE, float_format="%.6g", lineterminator="\n",
        quoting=csv.QUOTE_NONE, escapechar="\\",
    )  # fmt: skip
    write_atomically(path, lines.encode(errors=UNENCODABLE), force=True)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` or `rows_to_tsv` wrote; missing text is empty, missing numbers are NaN.

    Raises
    ------
    InputError
        If the file is no such table.
    """
    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
        for name in frame.columns:
            if name in TEXT_COLUMNS:
                frame[name] = frame[name].replace(NOT_AVAILABLE, "")
            else:
                frame[name] = frame[name].replace(NOT_AVAILABLE, "nan").map(float).astype("float64")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        msg = f"{path} cannot be read as a table ({' '.join(str(error).split())}): delete it and run the study again"
        raise InputError(msg) from error
    return frame


def require_columns(frame: pd.DataFrame, path: Path, columns: Sequence[str]) -> None:
    """Refuse a table that lacks columns.

    Raises
    ------
    InputError
        Naming them.
    """
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        msg = f"{path} lacks the columns {', '.join(missing)}: delete it and run the study again"
        raise InputError(msg)


def _cell(value: str | float) -> str:
    if isinstance(value, float):
        return NOT_AVAILABLE if math.isnan(value) else f"{value:.6g}"
    words = " ".join(str(value).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words) or NOT_AVAILABLE
