"""What belongs to a study: the scans that its runs found, and the pairs of sessions that they compared.

Two tables in the output folder, kept by the participant level: ``study_scans.tsv`` and ``rescan_pairs.tsv``. A run of
all participants writes them anew. A run that is limited to some participants or sessions replaces the rows of these,
so that a study can be run piece by piece.
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.bids.derivatives import GroupPaths
from efface.bids.query import T1wScan
from efface.errors import InputError
from efface.io.atomic import write_atomically
from efface.study.records import NOT_AVAILABLE
from efface.study.session_pairs import COLUMNS, LONGEST_DAYS, USED, NoRescan, SessionPair

SCANS = ("participant_id", "session_id", "scan", "path")
PAIRS = (*COLUMNS, "scan_1", "scan_2", "interval_days", USED, "reason")
YES, NO = "yes", "no"
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class StudyRecord:
    """The record of a study.

    Attributes
    ----------
    bids_dir, out_dir
        The data set, and the output folder.
    """

    bids_dir: Path
    out_dir: Path

    def add_scans(self, sources: Sequence[T1wScan], subjects: Sequence[str], sessions: Sequence[str]) -> None:
        """Record the scans of a run.

        Parameters
        ----------
        sources
            The scans.
        subjects, sessions
            Labels that the run was limited to, with or without ``sub-`` and ``ses-``; empty is all. Scans of others that
            are in the data set still stay in the record.

        Raises
        ------
        InputError, OutputError
            If the record cannot be read or written.
        """
        path = GroupPaths(self.out_dir).scans
        limited = _Limits.of(subjects, sessions)
        kept = [
            row
            for row in _read(path, SCANS)
            if limited.is_outside(row["participant_id"], row["session_id"])
            and os.path.lexists(self.bids_dir / row["path"])
        ]
        new = [
            {
                "participant_id": source.subject,
                "session_id": source.session or NOT_AVAILABLE,
                "scan": source.stem,
                "path": source.path.relative_to(self.bids_dir).as_posix(),
            }
            for source in sources
        ]
        rows = {row["scan"]: row for row in (*kept, *new)}
        _write(path, SCANS, sorted(rows.values(), key=lambda row: [row[name] for name in SCANS]))

    def add_pairs(
        self, found: Sequence[SessionPair | NoRescan], subjects: Sequence[str], sessions: Sequence[str]
    ) -> None:
        """Record the pairs of a run, and the subjects whose sessions are too far apart; parameters as for `add_scans`.

        A run of some sessions only replaces the rows of the subjects that it has two sessions of.

        Raises
        ------
        InputError, OutputError
            If the record cannot be read or written.
        """
        paths = GroupPaths(self.out_dir)
        limited = _Limits.of(subjects, ())
        scans = {row["scan"] for row in _read(paths.scans, SCANS)}
        new = {row["participant_id"]: row for row in map(_pair_row, found)}
        kept = {
            row["participant_id"]: row
            for row in _read(paths.rescan_pairs, PAIRS)
            if (sessions or limited.is_outside(row["participant_id"], "")) and {row["scan_1"], row["scan_2"]} <= scans
        }
        if kept or new or paths.rescan_pairs.is_file():
            rows = {**kept, **new}
            _write(paths.rescan_pairs, PAIRS, [rows[subject] for subject in sorted(rows)])


def recorded_scans(out_dir: Path) -> frozenset[str] | None:
    """BIDS names of the scans that belong to a study; None where an earlier version kept no record.

    Raises
    ------
    InputError
        If the record cannot be read.
    """
    path = GroupPaths(out_dir).scans
    return frozenset(row["scan"] for row in _read(path, SCANS)) if path.is_file() else None


def recorded_pairs(out_dir: Path) -> dict[str, tuple[str, str]] | None:
    """BIDS names of the two scans of each subject's rescan; None where an earlier version kept no record.

    Raises
    ------
    InputError
        If the record cannot be read.
    """
    path = GroupPaths(out_dir).rescan_pairs
    if not path.is_file():
        return None
    used = [row for row in _read(path, PAIRS) if row[USED] == YES]
    return {row["participant_id"]: (row["scan_1"], row["scan_2"]) for row in used}


@dataclass(frozen=True)
class _Limits:
    """Labels that a run is limited to; empty is all."""

    subjects: frozenset[str]
    sessions: frozenset[str]

    @classmethod
    def of(cls, subjects: Iterable[str], sessions: Iterable[str]) -> "_Limits":
        return cls(
            frozenset(label.removeprefix("sub-") for label in subjects),
            frozenset(label.removeprefix("ses-") for label in sessions),
        )

    def is_outside(self, subject: str, session: str) -> bool:
        """Whether the run did not look at this session of this subject."""
        return bool((self.subjects and subject not in self.subjects) or (self.sessions and session not in self.sessions))


def _pair_row(found: SessionPair | NoRescan) -> dict[str, str]:
    pair = found if isinstance(found, SessionPair) else found.nearest
    days, reason = pair.interval_days, NOT_AVAILABLE
    if isinstance(found, NoRescan):
        reason = found.reason
    elif days is not None and abs(days) > LONGEST_DAYS:
        reason = "named by --rescan-pairs"
    return {
        "participant_id": pair.first.subject,
        "session_1": pair.first.session or NOT_AVAILABLE,
        "session_2": pair.second.session or NOT_AVAILABLE,
        "scan_1": pair.first.stem,
        "scan_2": pair.second.stem,
        "interval_days": NOT_AVAILABLE if days is None else f"{days:.6g}",
        USED: YES if isinstance(found, SessionPair) else NO,
        "reason": reason,
    }


def _read(path: Path, columns: Sequence[str]) -> Rows:
    """Rows of a table of the record; none where there is no table."""
    try:
        rows = list(
            csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        )
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        msg = f"{path} cannot be read ({error}): delete it and run the participant level again"
        raise InputError(msg) from error
    if any(row.get(name) is None for row in rows for name in columns):
        msg = f"{path} lacks one of the columns {', '.join(columns)}: delete it and run the participant level again"
        raise InputError(msg)
    return rows


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    lines = ["\t".join(columns), *("\t".join(row[name] for name in columns) for row in rows)]
    write_atomically(path, ("\n".join(lines) + "\n").encode(), force=True)
