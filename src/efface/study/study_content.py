"""What of an output folder belongs to the study now: results of its scans, methods and settings. The rest is left out.

An output folder keeps what earlier runs made: results of a scan that was removed from the data set, of a method that is
not run any more, of other parameters. The settings of the study are those of its latest run
(`efface.study.stored_settings`); its scans and rescans are on record (`efface.study.study_record`). Where an earlier
version kept no record, all count.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from efface.bids.derivatives import ORIGINAL, GroupPaths
from efface.io.json_files import read_object
from efface.metrics import MEASURES
from efface.study import provenance
from efface.study.records import COLUMNS, FAILED, read_table, require_columns
from efface.study.rescan_job import GROUPS_KEY
from efface.study.scan_job import DEFACE, QC, SEGMENT
from efface.study.settings import NO_RESCAN
from efface.study.stored_settings import KEY
from efface.study.study_record import recorded_pairs, recorded_scans

LEFT_OUT_COLUMNS = ("what", "subject", "scan", "method", "reason")
"""Columns of left_out.tsv."""
RESULTS, VERDICT, RATING = "results", "verdict", "rating"
NO_SCAN = "the scan is not in the study any more"
NO_METHOD = "the method is not in the study any more"
NO_SEGMENTER = "the segmenter is not in the study any more"
NO_MEASURE = "the measure is not in the study any more"
NO_PAIR = "these two sessions are not a rescan of the study any more"
NO_RESCANS = "the study has no rescans any more"
OTHER_SETTINGS = "made with other settings than the study has now; run the participant level again"
OTHER_IMPLEMENTATION = "made with another implementation than the study has now; run the participant level again"
UNFINISHED = "not made again to the end; run the participant level again"
EARLIER_IMAGE = "of an earlier image; the method failed in the latest run"
EARLIER_VERDICT = "of an earlier image; the quality check failed in the latest run"
EXCHANGED = "made by an earlier version, which exchanged the names of the rescans; run the participant level again"
_SCAN, _RESCAN = "_results.tsv", "_rescan.tsv"
_NUMBERS = frozenset(name for spec in MEASURES.values() for name in spec.numbers)


@dataclass(frozen=True)
class FailedStep:
    """A step of a method that failed on a scan in its latest run.

    Attributes
    ----------
    subject, session, scan, method, implementation
        As in every table.
    step
        ``deface``, ``qc``, or what failed of the whole scan.
    reason
        Why.
    """

    subject: str
    session: str
    scan: str
    method: str
    implementation: str
    step: str
    reason: str

    @property
    def is_run(self) -> bool:
        """Whether the method gave no defaced scan; otherwise the defaced scan could not be judged."""
        return self.step != QC


@dataclass
class StudyContent:
    """What belongs to a study; made by `of`.

    Attributes
    ----------
    out_dir
        The output folder.
    options
        Settings of the latest run; empty where unknown.
    scans
        BIDS names of the scans; None counts all.
    left_out
        What was met so far and does not belong to the study: rows of left_out.tsv.
    """

    out_dir: Path
    options: Mapping[str, Any]
    scans: frozenset[str] | None
    left_out: dict[tuple[str, ...], None] = field(default_factory=dict)
    _known: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)

    @classmethod
    def of(cls, out_dir: Path) -> "StudyContent":
        """Read settings and record of a study.

        Raises
        ------
        InputError
            If the record cannot be read.
        """
        options = read_object(GroupPaths(out_dir).description).get(KEY)
        return cls(out_dir, options if isinstance(options, dict) else {}, recorded_scans(out_dir))

    @property
    def table(self) -> pd.DataFrame:
        """What was left out, as left_out.tsv."""
        return pd.DataFrame(sorted(self.left_out), columns=list(LEFT_OUT_COLUMNS))

    @functools.cached_property
    def _results(self) -> dict[str, Path]:
        return {path.name.removesuffix(_SCAN): path for path in GroupPaths(self.out_dir).unit_results()}

    def leave_out(self, what: str, subject: str, scan: str, method: str, reason: str) -> None:
        """Note something that is left out."""
        self.left_out[what, subject, scan, method, reason] = None

    def why_not(self, scan: str, method: str, implementation: str | None = None) -> str:
        """Why results of a method on a scan are not of the study; empty where they are.

        Parameters
        ----------
        scan
            BIDS name of the scan.
        method
            Name of a method, or ``original``: of the scan before defacing.
        implementation
            ``native`` or ``original``; None where unknown.
        """
        if self.scans is not None and scan not in self.scans:
            return NO_SCAN
        made = self._made_with(scan)
        if made is None:
            return UNFINISHED
        methods = self.options.get("Methods")
        if method == ORIGINAL or not isinstance(methods, list):
            return ""
        if method not in methods:
            return NO_METHOD
        wanted = "original" if method in (self.options.get("Original") or ()) else "native"
        if implementation is not None and implementation != wanted:
            return OTHER_IMPLEMENTATION
        same = _params(made.get("params"), method) == _params(self.options.get("MethodParameters"), method)
        protects = bool(made.get("protect_brain")) == bool(self.options.get("ProtectBrain"))
        return "" if not made or (same and protects) else OTHER_SETTINGS

    def select(self, found: Sequence[Path]) -> pd.DataFrame:
        """Return the rows of these tables of scans that belong to the study, and note the others.

        Raises
        ------
        InputError
            If a table cannot be read.
        """
        rows = _rows([path for path in found if self._is_wanted(path)])
        by_method = _each(rows, ["scan", "method", "implementation"], self.why_not)
        return self._keep(rows, by_method, lambda scan: self._made_with(scan) or {})

    def select_rescans(self, found: Sequence[Path]) -> pd.DataFrame:
        """Return the rows of these tables of rescans that belong to the study, and note the others.

        Raises
        ------
        InputError
            If a table or the record of pairs cannot be read.
        """
        pairs = recorded_pairs(self.out_dir)
        kept = []
        for path in found:
            rows = _rows([path])
            made = _made_with(path)
            reason = self._why_no_rescan(path, set(rows.scan), made, pairs)
            kept.append(self._keep(rows, np.full(len(rows), reason, dtype=object), lambda _, made=made: made or {}))
        kept = [rows for rows in kept if len(rows)]
        return pd.concat(kept, ignore_index=True) if kept else _rows([])

    def failed_steps(self) -> list[FailedStep]:
        """List the runs of methods that failed, and the checks, on the scans of the study in their latest run.

        Where the whole scan failed (it could not be read, or its process died), every method has failed on it.

        Raises
        ------
        InputError
            If a table cannot be read.
        """
        steps = []
        for path in self._results.values():
            if f"\t{FAILED}\t".encode() in path.read_bytes():
                rows = _rows([path])
                steps += [step for row in _records(rows[rows.status == FAILED]) for step in self._steps(row)]
        return [step for step in steps if not self.why_not(step.scan, step.method, step.implementation)]

    def _steps(self, row: Mapping[str, Any]) -> list[FailedStep]:
        about = (row["subject"], row["session"], row["scan"])
        if row["method"] != ORIGINAL:
            made = (row["method"], row["implementation"], row["measure"], row["reason"])
            return [FailedStep(*about, *made)] if row["measure"] in (DEFACE, QC) else []
        if row["measure"] == SEGMENT:
            return []
        made_with = self._made_with(row["scan"]) or {}
        originals = made_with.get("originals") or self.options.get("Original") or ()
        methods = made_with.get("methods") or self.options.get("Methods") or ()
        how = {name: "original" if name in originals else "native" for name in methods}
        return [FailedStep(*about, name, how[name], row["measure"], row["reason"]) for name in methods]

    def _is_wanted(self, path: Path) -> bool:
        """Whether a table of a scan must be opened; a scan that is not of the study is left out by its name."""
        scan = path.name.removesuffix(_SCAN)
        reason = NO_SCAN if self.scans is not None and scan not in self.scans else ""
        reason = reason or (UNFINISHED if self._made_with(scan) is None else "")
        if reason:
            self.leave_out(RESULTS, scan.split("_")[0].removeprefix("sub-"), scan, "", reason)
        return not reason

    def _made_with(self, scan: str) -> Mapping[str, Any] | None:
        """Settings of a scan's results; empty where unknown, None where a run that made them again did not end."""
        if scan not in self._known:
            self._known[scan] = _made_with(self._results[scan]) if scan in self._results else {}
        return self._known[scan]

    def _why_no_rescan(
        self, path: Path, scans: set[str], made: Mapping[str, Any] | None, pairs: Mapping[str, tuple[str, str]] | None
    ) -> str:
        if made is None:
            return UNFINISHED
        if self.options.get("Rescan") == NO_RESCAN:
            return NO_RESCANS
        if self.scans is not None and not scans <= self.scans:
            return NO_SCAN
        if made and GROUPS_KEY not in made:
            return EXCHANGED
        pair = (pairs or {}).get(path.name.split("_")[0].removeprefix("sub-"))
        compared = tuple(made.get("pair") or ())
        if pairs is not None and (pair is None or (compared and compared != pair) or not scans <= set(pair)):
            return NO_PAIR
        return ""

    def _keep(self, rows: pd.DataFrame, reasons: Any, made_with: Any) -> pd.DataFrame:
        """Return the rows without a reason, whose segmenter and measure are of the study; note the others."""
        numbers = rows.measure.isin(_NUMBERS).to_numpy()
        segmented = numbers | (rows.measure == SEGMENT).to_numpy()
        by_segmenter = _each(
            rows, ["scan", "segmenter"], lambda scan, name: self._why_no_segmenter(made_with(scan), name)
        )
        reasons = np.where((reasons == "") & segmented, by_segmenter, reasons)
        chosen = self.options.get("Measures")
        if isinstance(chosen, list):
            wanted = {"dice", *(name for measure in chosen if measure in MEASURES for name in MEASURES[measure].numbers)}
            reasons = np.where((reasons == "") & numbers & ~rows.measure.isin(wanted).to_numpy(), NO_MEASURE, reasons)
        left = rows.assign(reason=reasons)[reasons != ""]
        for cells in left[["subject", "scan", "method", "reason"]].drop_duplicates().itertuples(index=False, name=None):
            self.leave_out(RESULTS, *map(str, cells))
        chosen_rows: pd.DataFrame = rows[reasons == ""]
        return chosen_rows

    def _why_no_segmenter(self, made: Mapping[str, Any], segmenter: str) -> str:
        chosen = self.options.get("Segmenters")
        if not isinstance(chosen, list):
            return ""
        if segmenter not in chosen:
            return NO_SEGMENTER
        same = _params(made.get("segmenters"), segmenter) == _params(self.options.get("SegmenterParameters"), segmenter)
        return "" if not made or same else OTHER_SETTINGS


def _made_with(path: Path) -> Mapping[str, Any] | None:
    """Settings that a table was made with; empty without a recipe, None where a run that made it again did not end."""
    stored = provenance.read_recipe(path)
    if stored is None:
        return {}
    return stored.get(provenance.KEY) or stored.get(provenance.ATTEMPTED)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _params(of: Any, name: str) -> Any:
    return (of.get(name) if isinstance(of, Mapping) else None) or {}


def _each(rows: pd.DataFrame, columns: list[str], why: Any) -> Any:
    """Reason of every row, asked once for each combination of these columns."""
    if rows.empty:
        return np.full(0, "", dtype=object)
    groups = rows.groupby(columns, sort=False, dropna=False)
    number = groups.ngroup().to_numpy()
    keys = rows[columns].drop_duplicates().itertuples(index=False, name=None)
    reasons = [why(*key) for key in keys]
    return np.array(reasons, dtype=object)[number]


def _rows(found: Sequence[Path]) -> pd.DataFrame:
    """Return all rows of these tables.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    frames = [read_table(path) for path in found]
    for path, frame in zip(found, frames, strict=True):
        require_columns(frame, path, COLUMNS)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
