"""The tables a report is written from; those without rows are what a study did not measure, and are left out."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from efface.study import Tables, load_tables

FAILURE_I, SUCCESS = "Failure I", "Success"


@dataclass(frozen=True)
class Evidence(Tables):
    """All tables of a study, and what follows from them."""

    @property
    def qc(self) -> pd.DataFrame:
        """Verdicts of the quality check and of its reviewers."""
        return self.quality

    def faces_left(self) -> frozenset[tuple[str, str]]:
        """Pairs (scan, method) that the check or the reviewers call Failure I, or in which the check found a face left.

        Reviewers who say Success overrule the check.
        """
        qc = self.quality
        left = (qc.verdict == FAILURE_I) | (qc.manual == FAILURE_I) | (qc.face_failed == 1)
        return frozenset(qc[left & (qc.manual != SUCCESS)][["scan", "method"]].itertuples(index=False, name=None))


def read_evidence(out_dir: Path) -> Evidence:
    """Read every table that is there.

    Raises
    ------
    InputError
        If dice.tsv, edits.tsv or failures.tsv is missing, or a table cannot be read.
    """
    return Evidence(**vars(load_tables(out_dir)))
