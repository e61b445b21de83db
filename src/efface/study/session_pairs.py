"""Which two sessions of a subject are a rescan: by a table the user gives, otherwise by dates and labels.

Without a table, sessions are put in order: by date where ``sessions.tsv`` or ``scans.tsv`` (BIDS, column ``acq_time``)
gives the dates of all of them, otherwise by label in natural order (``2`` before ``10``). The first two are the rescan.
An interval of more than `LONGEST_DAYS` is none: then the next two sessions in this order with known dates are tried.
"""

import csv
import functools
import itertools
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from efface.bids.query import LABEL, T1wScan
from efface.errors import InputError
from efface.io.absent_content import check_content

log = logging.getLogger(__name__)

LONGEST_DAYS = 30.0
"""Longest interval between the two sessions of a rescan, days."""
COLUMNS = ("participant_id", "session_1", "session_2")
"""Columns of the table of pairs that a user gives; other columns are ignored."""
USED = "used"
"""Column of a study's own rescan_pairs.tsv; rows that say ``no`` are ignored where that table is given."""
DateOf = Callable[[T1wScan], datetime | None]
EXAMPLE = "a table with tabs and the columns participant_id, session_1, session_2"


@dataclass(frozen=True)
class SessionPair:
    """Two sessions of a subject.

    Attributes
    ----------
    first, second
        The sessions, in order.
    interval_days
        Days from first to second; None where a date is not known.
    """

    first: T1wScan
    second: T1wScan
    interval_days: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class NoRescan:
    """A subject whose sessions are too far apart.

    Attributes
    ----------
    nearest
        The two consecutive sessions with the shortest interval.
    """

    nearest: SessionPair

    @property
    def reason(self) -> str:
        """Why, in words."""
        return f"{self.nearest.interval_days:.4g} days apart: more than {LONGEST_DAYS:g} days are no rescan"


def pairs_of(sources: Sequence[T1wScan], chosen: Mapping[str, tuple[str, str]] | None = None) -> list[SessionPair]:
    """Return the rescans among these scans, one a subject at most; parameters as for `find_pairs`."""
    return [one for one in find_pairs(sources, chosen) if isinstance(one, SessionPair)]


def warn_of_intervals(found: Sequence[SessionPair | NoRescan]) -> None:
    """Warn of subjects whose sessions are too far apart for a rescan, and of pairs that a user named all the same."""
    far = [one for one in found if isinstance(one, NoRescan)]
    if far:
        pair = far[0].nearest
        log.warning(
            "%d subjects with two sessions have no rescan, the first sub-%s (sessions %s and %s, %s); "
            "--rescan-pairs names pairs",
            len(far), pair.first.subject, pair.first.session, pair.second.session, far[0].reason,
        )  # fmt: skip
    pairs = [one for one in found if isinstance(one, SessionPair)]
    named = [pair for pair in pairs if _is_far(pair)]
    if named:
        log.warning(
            "%d pairs of --rescan-pairs are more than %g days apart, the first of sub-%s (%.4g days); they are used",
            len(named), LONGEST_DAYS, named[0].first.subject, abs(named[0].interval_days or 0),
        )  # fmt: skip


def find_pairs(
    sources: Sequence[T1wScan], chosen: Mapping[str, tuple[str, str]] | None = None
) -> list[SessionPair | NoRescan]:
    """Return for each subject with two sessions its rescan, or why it has none.

    Where a session has several scans, those with the same name in both sessions are taken, else the first of each.

    Parameters
    ----------
    sources
        Scans of any subjects.
    chosen
        Sessions by subject, from `load_pairs`; None finds them by dates and labels.
    """
    date = functools.cache(date_of)
    found: list[SessionPair | NoRescan] = []
    for subject, scans in itertools.groupby(sorted(sources, key=lambda s: s.subject), key=lambda s: s.subject):
        sessions = _by_session(list(scans))
        if chosen is not None:
            labels = chosen.get(subject, ())
            if labels and all(label in sessions for label in labels):
                found.append(_pair(*(sessions[label] for label in labels), date=date))
        elif len(sessions) > 1:
            found.append(_rescan_of(sessions, date))
    return found


def natural(label: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key of a label: numbers in it count as numbers."""
    parts = re.split(r"(\d+)", label)
    return tuple(int(part) if i % 2 else part.lower() for i, part in enumerate(parts)), label


def load_pairs(path: Path) -> dict[str, tuple[str, str]]:
    """Read a table of pairs: sessions by subject, labels without ``sub-`` and ``ses-``.

    Parameters
    ----------
    path
        A TSV with the columns `COLUMNS`.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, has no row, names a subject twice, or has a value that is no label.
    """
    rows, names = _rows_of(path)
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        received = ", ".join(names)[:80] or "nothing"
        msg = f"pairs {path} lack the column {missing[0]}: expected {EXAMPLE}; received {received!r}"
        raise InputError(msg)
    found: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows, 2):
        if (row.get(USED) or "").strip() == "no":
            continue
        subject, first, second = (
            (row.get(name) or "").strip().removeprefix(prefix)
            for name, prefix in zip(COLUMNS, ("sub-", "ses-", "ses-"), strict=True)
        )
        for name, label in zip(COLUMNS, (subject, first, second), strict=True):
            if not LABEL.fullmatch(label):
                msg = f"pairs {path}, line {number}: {name} must be a BIDS label; received {label[:40]!r}: correct it"
                raise InputError(msg)
        if first == second:
            msg = f"pairs {path}, line {number}: expected two sessions of sub-{subject}; received {first} twice"
            raise InputError(msg)
        if subject in found:
            msg = (
                f"pairs {path}, line {number}: sub-{subject} is there twice: expected one pair a participant, remove one"
            )
            raise InputError(msg)
        found[subject] = (first, second)
    if not found:
        msg = f"pairs {path} hold no pair: expected {EXAMPLE}, a row a participant"
        raise InputError(msg)
    return found


def check_pairs(
    chosen: Mapping[str, tuple[str, str]], sources: Sequence[T1wScan], subjects: Collection[str] = ()
) -> None:
    """Refuse pairs that the scans of a run do not have.

    Parameters
    ----------
    chosen
        From `load_pairs`.
    sources
        Scans of the run, of all sessions.
    subjects
        Labels of the participants of the run, without ``sub-``; empty is all. Pairs of others are not looked at.

    Raises
    ------
    InputError
        If a participant or a session has no scan.
    """
    have: dict[str, set[str]] = {}
    for scan in sources:
        have.setdefault(scan.subject, set()).add(scan.session or "")
    for subject, labels in chosen.items():
        absent = [label for label in labels if label not in have.get(subject, set())]
        if absent and (not subjects or subject in subjects):
            known = ", ".join(sorted(filter(None, have.get(subject, set())), key=natural)) or "none"
            msg = (
                f"--rescan-pairs names session {absent[0]} of sub-{subject}, which has no T1w scan there; "
                f"its sessions are: {known}: correct the table"
            )
            raise InputError(msg)


def _by_session(scans: Sequence[T1wScan]) -> dict[str, dict[str, T1wScan]]:
    """Scans by session and name without the session."""
    sessions: dict[str, dict[str, T1wScan]] = {}
    for scan in scans:
        if scan.session:
            name = scan.stem.replace(f"_ses-{scan.session}", "", 1)
            sessions.setdefault(scan.session, {}).setdefault(name, scan)
    return sessions


def _rescan_of(sessions: Mapping[str, Mapping[str, T1wScan]], date: DateOf) -> SessionPair | NoRescan:
    labels = sorted(sessions, key=natural)
    dates = {label: date(next(iter(sessions[label].values()))) for label in labels}
    if all(dates.values()):
        labels.sort(key=lambda label: dates[label] or datetime.min)
    pairs = [_pair(sessions[one], sessions[other], date=date) for one, other in itertools.pairwise(labels)]
    if pairs[0].interval_days is None:
        return pairs[0]
    known = [pair for pair in pairs if pair.interval_days is not None]
    near = [pair for pair in known if not _is_far(pair)]
    return near[0] if near else NoRescan(min(known, key=lambda pair: abs(pair.interval_days or 0)))


def _is_far(pair: SessionPair) -> bool:
    return pair.interval_days is not None and abs(pair.interval_days) > LONGEST_DAYS


def _pair(first: Mapping[str, T1wScan], second: Mapping[str, T1wScan], *, date: DateOf) -> SessionPair:
    shared = [name for name in first if name in second]
    one, other = (scans[shared[0]] if shared else next(iter(scans.values())) for scans in (first, second))
    dates = date(one), date(other)
    days = (dates[1] - dates[0]).total_seconds() / 86400 if dates[0] and dates[1] else None
    return SessionPair(one, other, days)


def date_of(scan: T1wScan) -> datetime | None:
    """When a scan was made, from ``acq_time`` of its scans.tsv or of its session in sessions.tsv; None where unknown."""
    folder = scan.path.parent.parent
    own = folder / f"sub-{scan.subject}_ses-{scan.session}_scans.tsv"
    sessions = folder.parent / f"sub-{scan.subject}_sessions.tsv"
    name = f"{scan.path.parent.name}/{scan.path.name}"
    return _date_in(own, "filename", name) or _date_in(sessions, "session_id", f"ses-{scan.session}")


def _date_in(path: Path, column: str, value: str) -> datetime | None:
    if not path.is_file():
        return None
    try:
        rows, _ = _rows_of(path)
    except InputError as error:
        log.warning("%s; its dates are not used", error)
        return None
    text = next(((row.get("acq_time") or "").strip() for row in rows if (row.get(column) or "").strip() == value), "")
    if text in ("", "n/a"):
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        log.warning("%s: acq_time %r of %s is no date (expected YYYY-MM-DDThh:mm:ss); it is not used", path, text, value)
        return None


def _rows_of(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Rows and names of the columns of a TSV.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    check_content(path)
    try:
        reader = csv.DictReader(
            path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE
        )
        return [dict(row) for row in reader], list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text table"
        msg = f"table {path} cannot be read ({reason}): expected {EXAMPLE}"
        raise InputError(msg) from error
