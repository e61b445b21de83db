"""The tables a report is written from; those that a study does not have are empty, and the report leaves them out."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from efface.errors import InputError
from efface.study import load_tables

_KEYS = ("subject", "session", "scan", "method", "implementation")
_TEXT = frozenset(
    (*_KEYS, "segmenter", "measure", "level", "region", "reference", "test", "effect_is", "family", "verdict", "reason",
     "source", "manual", "brain_where", "features_left")
)  # fmt: skip
COLUMNS = {
    "volumes": (*_KEYS, "segmenter", "level", "region", "volume_ml", "volume_change_ml", "volume_change_percent"),
    "distances": (*_KEYS, "segmenter", "level", "region", "hd95_mm", "surface_distance_mm"),
    "rescan": (*_KEYS, "segmenter", "measure", "level", "region", "value"),
    "statistics": (
        "measure", "level", "region", "method", "implementation", "reference", "test", "n", "scans", "effect_is",
        "effect", "low", "high", "confidence", "q1", "q3", "statistic", "p", "p_corrected", "family", "margin",
        "verdict", "reason",
    ),
    "qc": (*_KEYS, "verdict", "score", "reason", "manual", "reviewers", "agreed"),
    "table1": ("method", "source", "scans", "success", "failure_i", "failure_ii", "agreement", "kappa"),
}  # fmt: skip
"""Tables in which not every study has rows, and the columns the report reads of them."""
FAILURE_I = "Failure I"


@dataclass(frozen=True)
class Evidence:
    """All tables of a study: see `efface.study.Tables` for the first three, `COLUMNS` for the others."""

    dice: pd.DataFrame
    edits: pd.DataFrame
    failures: pd.DataFrame
    volumes: pd.DataFrame
    distances: pd.DataFrame
    rescan: pd.DataFrame
    statistics: pd.DataFrame
    qc: pd.DataFrame
    table1: pd.DataFrame

    def faces_left(self) -> frozenset[tuple[str, str]]:
        """Pairs (scan, method) that the quality check, or the reviewers, call Failure I or find a face left in."""
        qc = self.qc
        left = (qc.verdict == FAILURE_I) | (qc.manual == FAILURE_I)
        if "face_failed" in qc.columns:
            left |= qc.face_failed == 1
        return frozenset(qc[left & (qc.manual != "Success")][["scan", "method"]].itertuples(index=False, name=None))


def read_evidence(out_dir: Path) -> Evidence:
    """Read every table that is there.

    Raises
    ------
    InputError
        If dice.tsv, edits.tsv or failures.tsv is missing, or a table cannot be read.
    """
    tables = load_tables(out_dir)
    quality = {name: _read(out_dir / f"{name}.tsv", COLUMNS[name]) for name in ("qc", "table1")}
    return Evidence(
        tables.dice, tables.edits, tables.failures, tables.volumes, tables.distances, tables.rescan, tables.statistics,
        **quality,
    )  # fmt: skip


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame({c: pd.Series(dtype=object if c in _TEXT else "float64") for c in columns})
    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
        missing = [c for c in columns if c not in frame.columns]
        if missing:
            msg = f"{path} lacks the columns {', '.join(missing)}: delete it and run the group level again"
            raise InputError(msg)
        for name in frame.columns:
            text = frame[name].replace("n/a", "")
            frame[name] = text if name in _TEXT else text.replace("", "nan").map(float).astype("float64")
    except (ValueError, pd.errors.ParserError) as error:
        if isinstance(error, InputError):
            raise
        msg = f"{path} is no table that can be read ({' '.join(str(error).split())}): run the group level again"
        raise InputError(msg) from error
    return frame
