"""Rows: one result or one failure each, in the same columns everywhere; and tables of rows on disk."""

import contextlib
import csv
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

import pandas as pd

from efface.errors import EffaceError, InputError, OutputError, one_line
from efface.io.absent_content import check_content
from efface.io.atomic import write_atomically
from efface.metrics.table import Value

log = logging.getLogger(__name__)

OK, FAILED = "ok", "failed"
NOT_AVAILABLE = "n/a"
"""How BIDS tables write a missing value."""


@dataclass(frozen=True)
class Row:
    """One result, or one failure with its reason.

    Attributes
    ----------
    subject, session, scan
        The scan; `scan` is its BIDS name up to the suffix.
    method, implementation, segmenter
        What the result was made with.
    measure
        ``edited_ml``, ``edited_head_ml``, ``edited_brain_ml``, or a number of `efface.metrics.MEASURES` (``dice``); for
        a failure, the step that failed.
    level, region
        ``whole brain``, ``pooled`` (Dice only), ``region`` or ``label``, and its name.
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


@dataclass(frozen=True)
class RowLabels:
    """The first six columns of a row: which scan, and what the result was made with."""

    subject: str
    session: str
    scan: str
    method: str
    implementation: str
    segmenter: str


@dataclass
class JobRows:
    """Rows of one job while it runs.

    Attributes
    ----------
    job_name
        For messages.
    label
        Gives the first columns of a row from its method and segmenter; an empty segmenter is the study's main one.
    clean
        Makes a reason fit to be shared.
    rows
        All rows so far.
    """

    job_name: str
    label: Callable[[str, str], RowLabels]
    clean: Callable[[str], str] = str
    rows: list[Row] = field(default_factory=list)

    @property
    def failures(self) -> tuple[Row, ...]:
        """Rows that say what failed."""
        return tuple(row for row in self.rows if row.status == FAILED)

    def add(self, method: str, values: Iterable[Value], segmenter: str = "") -> None:
        """Add one row for each value."""
        first = _cells(self.label(method, segmenter))
        self.rows += [Row(*first, value.measure, value.level, value.region, value.value) for value in values]

    def fail(self, method: str, step: str, reason: str, segmenter: str = "") -> None:
        """Add a row that says what failed and why."""
        reason = self.clean(reason)
        log.warning("%s", one_line(f"{self.job_name}: {step} of {method} failed: {reason}"))
        first = _cells(self.label(method, segmenter))
        self.rows.append(Row(*first, step, "", "", math.nan, FAILED, reason))

    @contextlib.contextmanager
    def failing(self, method: str, step: str, segmenter: str = "") -> Iterator[None]:
        """Turn an expected error of the body into a failed row.

        Raises
        ------
        OutputError
            If results cannot be written: this ends the run.
        """
        try:
            yield
        except OutputError:
            raise
        except EffaceError as error:
            self.fail(method, step, str(error), segmenter)


def _cells(labels: RowLabels) -> tuple[str, str, str, str, str, str]:
    return (
        labels.subject, labels.session, labels.scan, labels.method, labels.implementation, labels.segmenter,
    )  # fmt: skip


UNENCODABLE = "backslashreplace"
"""File names need not be valid text."""
COLUMNS = tuple(f.name for f in fields(Row))
STATISTICS = (
    "measure", "level", "region", "method", "implementation", "reference", "test", "n", "scans", "effect_is", "effect",
    "low", "high", "confidence", "q1", "q3", "statistic", "p", "p_corrected", "family", "margin", "verdict", "reason",
)  # fmt: skip
"""Columns of statistics.tsv; `efface.study.statistics_table` describes them."""
PRIVACY_GROUP = ("method", "implementation", "attack", "gallery_scan")
PRIVACY_SUMMARY = (
    *PRIVACY_GROUP, "people", "probes", "not_attacked", "gallery", "rank1", "rank1_low", "rank1_high", "chance",
    "auc", "auc_low", "auc_high", "confidence", "unusable",
)  # fmt: skip
"""Columns of privacy_summary.tsv; `efface.study.privacy_tables` describes them."""
TEXT_COLUMNS = frozenset(f.name for f in fields(Row) if f.type is str) | {
    "reference", "test", "effect_is", "family", "verdict", "what", "attack", "gallery_scan", "unusable",
}  # fmt: skip


def rows_to_tsv(rows: Iterable[Row]) -> bytes:
    """Format rows as a table; numbers with six significant digits, missing values as ``n/a``."""
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(cell(value) for value in astuple(row)) for row in rows]
    return ("\n".join(lines) + "\n").encode(errors=UNENCODABLE)


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as TSV, atomically; the same frame always gives the same bytes.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    text_columns = [name for name in frame.columns if name in TEXT_COLUMNS]
    shown = frame.assign(**{name: frame[name].map(cell) for name in text_columns})
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
        If the file cannot be read as such a table.
    """
    check_content(path)
    try:
        frame = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, encoding="utf-8-sig"
        )
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
    """Check that a table has these columns.

    Raises
    ------
    InputError
        If some are missing; the text names them.
    """
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        msg = f"{path} lacks the columns {', '.join(missing)}: delete it and run the study again"
        raise InputError(msg)


def cell(value: str | float) -> str:
    """One cell of a table: printable, in one line, ``n/a`` where there is nothing; numbers with six digits."""
    if isinstance(value, float):
        return NOT_AVAILABLE if math.isnan(value) else f"{value:.6g}"
    words = " ".join(str(value).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words) or NOT_AVAILABLE
