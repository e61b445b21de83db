"""Ratings of defaced scans by reviewers: an append-only file, one JSON object a line, safe against a kill at any time.

Lines are never changed. A rating is one write at the end of the file, forced to the disk before it counts as given; a
changed rating is a new line, and the last one counts. A line that a crash or a full disk cut short is not valid JSON:
readers skip and count it, and the next rating starts on a new line.
"""

import json
import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from efface.bids.derivatives import UnitPaths
from efface.errors import InputError, OutputError
from efface.io.absent_content import check_content
from efface.io.json_files import parse_json
from efface.quality.verdict import QualityClass

VERDICTS = tuple(verdict.value for verdict in QualityClass)
"""Values of `efface.quality.verdict.QualityClass`."""
TAKEN_BACK = ""
"""Verdict of a rating that withdraws an earlier one."""
LONGEST_NAME, LONGEST_NOTE = 60, 2000
LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Rating:
    """One reviewer's verdict on one defaced scan.

    Attributes
    ----------
    time
        UTC, ISO 8601.
    reviewer
        Name of the reviewer.
    subject, session, scan, method
        The defaced scan, as in every table of a study; session is empty where there is none.
    verdict
        One of `VERDICTS`, or empty: an earlier rating is withdrawn.
    note
        Free text.
    image
        `fingerprint` of the defaced file; empty where unknown.
    automatic_shown
        Whether the reviewer had seen the automatic verdict.
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
        """Scan and method: the defaced scan that is rated."""
        return (self.scan, self.method)


@dataclass(frozen=True)
class RatingLog:
    """All ratings of a study.

    Attributes
    ----------
    ratings
        In the order of the file.
    broken
        Number of lines that cannot be read.
    """

    ratings: tuple[Rating, ...]
    broken: int

    @property
    def last(self) -> dict[tuple[str, str, str], Rating]:
        """The latest rating by (reviewer, scan, method), without withdrawn ones."""
        kept = {(rating.reviewer, *rating.case): rating for rating in self.ratings}
        return {key: rating for key, rating in kept.items() if rating.verdict != TAKEN_BACK}

    @property
    def blind(self) -> dict[tuple[str, str, str], Rating]:
        """The latest blind rating by (reviewer, scan, method); it stays where the reviewer changed it after a look.

        Blind is a rating that was given before the automatic verdict was shown. One that was withdrawn is not there.
        """
        kept: dict[tuple[str, str, str], Rating] = {}
        for rating in self.ratings:
            key = (rating.reviewer, *rating.case)
            if rating.verdict == TAKEN_BACK:
                kept.pop(key, None)
            elif not rating.automatic_shown:
                kept[key] = rating
        return kept


def ratings_path(out_dir: Path) -> Path:
    """File with the ratings of a study."""
    return out_dir / "review" / "votes.jsonl"


def read_ratings(out_dir: Path) -> RatingLog:
    """Read all ratings of a study; none where there is no file.

    Raises
    ------
    InputError
        If the file exists and cannot be opened.
    """
    path = ratings_path(out_dir)
    check_content(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return RatingLog((), 0)
    except OSError as error:
        msg = f"ratings {path} cannot be read ({error.strerror}): check the file's permissions"
        raise InputError(msg) from error
    ratings = [_parsed(line) for line in lines if line.strip()]
    good = tuple(rating for rating in ratings if rating is not None)
    return RatingLog(good, len(ratings) - len(good))


def current_ratings(out_dir: Path) -> list[Rating]:
    """Return the ratings that count: the latest of each reviewer on each defaced scan, of the image as it is now."""
    return _of_present_images(out_dir, read_ratings(out_dir).last.values())


def blind_ratings(out_dir: Path) -> list[Rating]:
    """Return the latest blind ratings (`RatingLog.blind`) of the images as they are now: kappa is computed from them."""
    return _of_present_images(out_dir, read_ratings(out_dir).blind.values())


def _of_present_images(out_dir: Path, ratings: Iterable[Rating]) -> list[Rating]:
    images: dict[tuple[str, str], str] = {}
    kept = []
    for rating in ratings:
        if rating.case not in images:
            images[rating.case] = fingerprint(_defaced(out_dir, rating))
        if not is_stale(rating, images[rating.case]):
            kept.append(rating)
    return kept


def is_stale(rating: Rating, image: str) -> bool:
    """Whether a rating was given on another image than the one with this fingerprint."""
    return bool(rating.image and image) and rating.image != image


def append_rating(out_dir: Path, rating: Rating) -> None:
    """Add a rating; when this function returns, the rating is on the disk.

    Raises
    ------
    InputError
        If the reviewer's name, the verdict or the note is not valid.
    OutputError
        If it could not be written; earlier ratings are not changed.
    """
    check_reviewer(rating.reviewer)
    if rating.verdict not in (*VERDICTS, TAKEN_BACK):
        msg = (
            f"a verdict must be one of {', '.join(VERDICTS)}, or empty to withdraw it; received {rating.verdict[:80]!r}"
        )
        raise InputError(msg)
    if unwanted := [character for character in rating.note if _is_unwanted(character)]:
        msg = f"a note must be text without control characters; received U+{ord(unwanted[0]):04X} in it: remove it"
        raise InputError(msg)
    if len(rating.note) > LONGEST_NOTE:
        msg = f"a note can have {LONGEST_NOTE} characters; received {len(rating.note)}: shorten it"
        raise InputError(msg)
    path = ratings_path(out_dir)
    line = json.dumps(asdict(rating), ensure_ascii=True).encode() + b"\n"
    try:
        path.parent.mkdir(exist_ok=True)
        with FileLock(path.with_name(".votes.lock"), timeout=LOCK_SECONDS):
            _append(path, line)
    except Timeout as error:
        msg = f"ratings {path} have been locked by another program for {LOCK_SECONDS:.0f} s: rate the scan again"
        raise OutputError(msg) from error
    except OSError as error:
        msg = f"rating not saved: {path} cannot be written ({error.strerror}): free some space or check the permissions"
        raise OutputError(msg) from error


def check_reviewer(name: str) -> str:
    """Return a reviewer's name if it is valid.

    Raises
    ------
    InputError
        If it is empty, too long, has spaces around it, or contains characters that do not print.
    """
    if not name or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        short = name[:80]
        msg = (
            f"a reviewer's name must have 1 to {LONGEST_NAME} printable characters, no space around; received {short!r}"
        )
        raise InputError(msg)
    return name


def fingerprint(path: Path) -> str:
    """Return checksum and length of the content of a .gz file (its last eight bytes); empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(-8, os.SEEK_END)
            return file.read(8).hex()
    except (OSError, ValueError):  # no file of that name is possible
        return ""


def now() -> str:
    """Return the time in UTC to the millisecond, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _append(path: Path, line: bytes) -> None:
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a crash cut the last line short: start a new line
            line = b"\n" + line
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Force the name of a new file to the disk, against a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_REQUIRED = ("time", "reviewer", "subject", "session", "scan", "method", "verdict")
_NAMES = ("subject", "session", "scan", "method")
"""Parts of paths."""
_FREE = ("time", "reviewer", "note", "image")
_TYPES: Mapping[str, type] = {f.name: bool if f.name == "automatic_shown" else str for f in fields(Rating)}


def _parsed(line: bytes) -> Rating | None:
    """Return the rating of one line, or None where it is not valid."""
    try:
        content: Any = parse_json(line)
    except ValueError:
        return None
    if not isinstance(content, dict) or any(name not in content for name in _REQUIRED):
        return None
    known = {name: value for name, value in content.items() if name in _TYPES}
    if any(not isinstance(value, _TYPES[name]) for name, value in known.items()):
        return None
    if any(not known[name].isprintable() or "/" in known[name] for name in _NAMES):
        return None
    known |= {name: _healed(known[name]) for name in _FREE if name in known}
    return Rating(**known) if known["verdict"] in (*VERDICTS, TAKEN_BACK) else None


def _healed(text: str) -> str:
    """Text that every page, table and log can hold; an earlier version has stored notes that none can."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_unwanted(c) else c for c in text)


def _is_unwanted(character: str) -> bool:
    """Whether it is half a surrogate pair, or a control character other than the ends of lines and tabs."""
    return unicodedata.category(character) in ("Cs", "Cc") and character not in "\t\n\r"


def _defaced(out_dir: Path, rating: Rating) -> Path:
    return UnitPaths(out_dir, rating.subject, rating.session or None, rating.scan).defaced(rating.method)
