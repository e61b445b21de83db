"""The tables that a report is written from; tables without rows were not measured, and are left out."""

from pathlib import Path

from efface.quality import QualityClass
from efface.study import Tables, load_tables


def read_tables(out_dir: Path) -> Tables:
    """Read every table of a study.

    Raises
    ------
    InputError
        If dice.tsv, edits.tsv or failures.tsv is missing, or a table cannot be read.
    """
    return load_tables(out_dir)


def faces_left(tables: Tables) -> frozenset[tuple[str, str]]:
    """Pairs (scan, method) that the check or the reviewers call Failure I, or in which the check found a face left.

    Reviewers who say Success overrule the check.
    """
    qc = tables.quality
    failure, success = QualityClass.FAILURE_I.value, QualityClass.SUCCESS.value
    left = (qc.verdict == failure) | (qc.manual == failure) | (qc.face_failed == 1)
    return frozenset(qc[left & (qc.manual != success)][["scan", "method"]].itertuples(index=False, name=None))
