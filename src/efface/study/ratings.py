"""What people said about defaced scans: an append-only file of one JSON object a line, safe against a kill at any time.

Nothing in the file is ever changed. A vote is one write at the end of the file, forced to the disk before it counts
as given; a changed vote is a new line, and the last one counts. A line that a crash or a full disk cut short is no
JSON: readers leave it out and count it, and the next vote starts on a line of its own.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from efface.bids.derivatives import UnitPaths
from efface.errors import InputError, OutputError

VERDICTS = ("Success", "Failure I", "Failure II")
"""The paper's three classes, section 3.2."""
TAKEN_BACK = ""
LONGEST_NAME, LONGEST_NOTE = 60, 2000
LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Rating:
    """One reviewer's word on one defaced scan.

    Attributes
    ----------
    time
        UTC, ISO 8601.
    reviewer
        Name.
    subject, session, scan, method
        What was looked at, as in every table of a study; session is empty where there is none.
    verdict
        One of `VERDICTS`, or empty: the vote is taken back.
    note
        Free text.
    image
        `fingerprint` of the defaced file, empty where unknown.
    automatic_shown
        The reviewer had seen the automatic verdict.
    """

    time: str
    reviewer: str
    subject: str
    session: str
    scan: str
    method: str
    verdict: str
    note: str = ""
    image: str = ""
    automatic_shown: bool = False

    @property
    def case(self) -> tuple[str, str]:
        """Scan and method: what one vote is about."""
        return (self.scan, self.method)


@dataclass(frozen=True)
class VoteLog:
    """All lines of a study's votes, in order, and how many could not be read."""

    votes: tuple[Rating, ...]
    broken: int

    @property
    def last(self) -> dict[tuple[str, str, str], Rating]:
        """The vote that counts for each (reviewer, scan, method); those taken back are left out."""
        kept = {(vote.reviewer, *vote.case): vote for vote in self.votes}
        return {key: vote for key, vote in kept.items() if vote.verdict != TAKEN_BACK}


def votes_path(out_dir: Path) -> Path:
    """Where the votes of a study are."""
    return out_dir / "review" / "votes.jsonl"


def read_votes(out_dir: Path) -> VoteLog:
    """Read all votes of a study; there are none where there is no file.

    Raises
    ------
    InputError
        If the file is there and cannot be opened.
    """
    path = votes_path(out_dir)
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return VoteLog((), 0)
    except OSError as error:
        msg = f"votes {path} cannot be read ({error.strerror}): check the file's permissions"
        raise InputError(msg) from error
    votes = [_parsed(line) for line in lines if line.strip()]
    good = tuple(vote for vote in votes if vote is not None)
    return VoteLog(good, len(votes) - len(good))


def current_votes(out_dir: Path) -> list[Rating]:
    """Give the votes that count: the last of each reviewer on each case, on the defaced scan as it is now."""
    images: dict[tuple[str, str], str] = {}
    kept = []
    for vote in read_votes(out_dir).last.values():
        if vote.case not in images:
            images[vote.case] = fingerprint(_defaced(out_dir, vote))
        if not is_stale(vote, images[vote.case]):
            kept.append(vote)
    return kept


def is_stale(vote: Rating, image: str) -> bool:
    """Whether a vote was given on another image than the one with this fingerprint."""
    return bool(vote.image and image) and vote.image != image


def append_vote(out_dir: Path, vote: Rating) -> None:
    """Add a vote; when this returns, it is on the disk.

    Raises
    ------
    InputError
        If the reviewer's name, the verdict or the note cannot be taken.
    OutputError
        If it could not be written; what was there before is untouched.
    """
    check_reviewer(vote.reviewer)
    if vote.verdict not in (*VERDICTS, TAKEN_BACK):
        msg = f"a verdict must be one of {', '.join(VERDICTS)}, or empty to take it back; received {vote.verdict!r}"
        raise InputError(msg)
    if len(vote.note) > LONGEST_NOTE:
        msg = f"a note can have {LONGEST_NOTE} characters; received {len(vote.note)}: shorten it"
        raise InputError(msg)
    path = votes_path(out_dir)
    line = json.dumps(asdict(vote), ensure_ascii=True).encode() + b"\n"
    try:
        path.parent.mkdir(exist_ok=True)
        with FileLock(path.with_name(".votes.lock"), timeout=LOCK_SECONDS):
            _append(path, line)
    except Timeout as error:
        msg = f"votes {path} have been locked by another program for {LOCK_SECONDS:.0f} s: vote again"
        raise OutputError(msg) from error
    except OSError as error:
        msg = f"vote not saved: {path} cannot be written ({error.strerror}): free some space or check the permissions"
        raise OutputError(msg) from error


def check_reviewer(name: str) -> str:
    """Give the name back if it can be one.

    Raises
    ------
    InputError
        If it is empty, too long, has spaces around it or characters that do not print.
    """
    if not name or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        msg = f"a reviewer's name must have 1 to {LONGEST_NAME} printable characters, no space around; received {name!r}"
        raise InputError(msg)
    return name


def fingerprint(path: Path) -> str:
    """Check sum and length of what a .gz file holds, from its last eight bytes; empty where there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            return file.read(8).hex()
    except OSError:
        return ""


def now() -> str:
    """UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _append(path: Path, line: bytes) -> None:
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a crash cut the last line short: leave it to itself
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_REQUIRED = ("time", "reviewer", "subject", "session", "scan", "method", "verdict")
_TYPES: Mapping[str, type] = {f.name: bool if f.name == "automatic_shown" else str for f in fields(Rating)}


def _parsed(line: bytes) -> Rating | None:
    """The vote of one line, or None where it is none."""
    try:
        content: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(content, dict) or any(name not in content for name in _REQUIRED):
        return None
    known = {name: value for name, value in content.items() if name in _TYPES}
    if any(not isinstance(value, _TYPES[name]) for name, value in known.items()):
        return None
    return Rating(**known) if known["verdict"] in (*VERDICTS, TAKEN_BACK) else None


def _defaced(out_dir: Path, vote: Rating) -> Path:
    return UnitPaths(out_dir, vote.subject, vote.session or None, vote.scan).defaced(vote.method)
