"""The scans that passed the quality check with every method, and the rows of a study's tables that are about them.

References
----------
Gao, Landman, Prince, Carass. "A reproducibility evaluation of the effects of MRI defacing on brain segmentation."
medRxiv 2023.05.15.23289995 (2023): all results are also given for the outputs that pass the quality check.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from efface.quality import QualityClass
from efface.study.native_volumes import UNREGISTERED
from efface.study.rescan_job import ALL_GROUPS


@dataclass(frozen=True)
class PassedScans:
    """Scans on which every one of these methods is a Success.

    Attributes
    ----------
    scans
        Names of the scans.
    methods
        The methods that are a Success on any scan, in the order of the study. One that never is would leave no scan.
    """

    scans: frozenset[str]
    methods: tuple[str, ...]

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows of a table with columns scan and method that are about these scans and methods."""
        return frame[frame.scan.isin(self.scans) & frame.method.isin(self.methods)].reset_index(drop=True)

    def rescan_rows(self, rescan: pd.DataFrame) -> pd.DataFrame:
        """Rows of rescan.tsv: the methods on these scans, and the rescans and the control of the same subjects."""
        mine = rescan.scan.isin(self.scans) & rescan.method.isin(self.methods)
        again = rescan.method.isin((*ALL_GROUPS, UNREGISTERED)) & rescan.subject.isin(rescan.subject[mine])
        return rescan[mine | again].reset_index(drop=True)


def final_verdicts(quality: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Verdict of each (scan, method): the reviewers' where they decided, else the check's; none where neither did.

    Parameters
    ----------
    quality
        The table qc.tsv.
    """
    classes = list(QualityClass)
    verdicts = quality.manual.where(quality.manual.isin(classes), quality.verdict)
    found = zip(quality.scan, quality.method, verdicts, strict=True)
    return {(scan, method): str(verdict) for scan, method, verdict in found if verdict in classes}


def passed_by_all(quality: pd.DataFrame, methods: Sequence[str]) -> PassedScans:
    """Find the scans that passed with every method that passes at all.

    Parameters
    ----------
    quality
        The table qc.tsv.
    methods
        Of the study, in order.
    """
    passed = {case for case, verdict in final_verdicts(quality).items() if verdict == QualityClass.SUCCESS}
    usable = tuple(m for m in methods if any(method == m for _, method in passed))
    scans = {scan for scan, _ in passed} if usable else set()
    return PassedScans(frozenset(s for s in scans if all((s, m) in passed for m in usable)), usable)
