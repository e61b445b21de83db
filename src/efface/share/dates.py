"""Dates in the tables and sidecars of a data set: removed, moved by whole days, or kept.

With ``shift``, all dates of one subject move by one number of days, which is drawn at random and stored nowhere. A
second run finds it again by comparing a date that was shared with the one it was made from.
"""

import csv
import datetime
import io
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from efface.errors import InputError

REMOVE, SHIFT, KEEP = "remove", "shift", "keep"
POLICIES = (REMOVE, SHIFT, KEEP)
MOST_DAYS, LEAST_DAYS = 10 * 365, 30
"""How far dates are moved into the past."""
MISSING = "n/a"
DATE = re.compile(r"(\d{4}-\d\d-\d\d)((?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?)")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
OTHER = re.compile(
    r"\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d\d)( .*)?|\d{4}[./]\d{1,2}[./]\d{1,2}( .*)?"
    rf"|\d{{1,2}}[ -]?{_MONTH}[ ,-]*\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}",
    re.IGNORECASE,
)
"""Dates as people write them: 02/01/1989, 4.3.2019, 4-Mar-2019, March 4, 2019. They cannot be moved."""
COMPACT = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
"""20190304; also a number, so all values of a column must be such."""

Table = list[list[str]]


def check_policy(policy: str) -> None:
    """Refuse anything but `POLICIES`.

    Raises
    ------
    InputError
        Naming what is possible.
    """
    if policy not in POLICIES:
        msg = f"--dates must be one of {', '.join(POLICIES)}; received {policy}"
        raise InputError(msg)


def read_table(content: bytes) -> Table:
    """Rows of a TSV, the header first.

    Raises
    ------
    InputError
        If it is not text.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = "is not text in UTF-8"
        raise InputError(msg) from error
    rows = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [row for row in rows if row]


def write_table(table: Table) -> bytes:
    """The bytes of a TSV."""
    return "".join("\t".join(row) + "\n" for row in table).encode()


def dated_columns(table: Table) -> list[int]:
    """Which columns hold dates: acquisition times, and any column with a value that looks like a date."""
    if not table:
        return []
    header, *rows = table
    found = []
    for place, name in enumerate(header):
        values = [row[place].strip('" ') for row in rows if place < len(row)]
        values = [value for value in values if value not in (MISSING, "")]
        looks_like = any(DATE.fullmatch(value) or OTHER.fullmatch(value) for value in values)
        is_compact = bool(values) and all(COMPACT.fullmatch(value) for value in values)
        if name == "acq_time" or looks_like or is_compact:
            found.append(place)
    return found


def without_dates(table: Table) -> tuple[Table, list[str]]:
    """A table without the columns that hold dates, and their names."""
    gone = dated_columns(table)
    kept = [[value for place, value in enumerate(row) if place not in gone] for row in table]
    return kept, [table[0][place] for place in gone]


def shifted(table: Table, days: int) -> Table:
    """A table whose dates are moved by so many days; what looks like a date and is none becomes missing."""
    places = dated_columns(table)
    rows = [list(row) for row in table]
    for row in rows[1:]:
        for place in places:
            if place < len(row):
                row[place] = _moved(row[place], days)
    return rows


def _moved(value: str, days: int) -> str:
    match = DATE.fullmatch(value.strip('" '))
    if match is None:
        return MISSING
    try:
        day = datetime.date.fromisoformat(match[1]) + datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return MISSING
    return f"{day.isoformat()}{match[2]}"


def days_between(before: Table, after: Table) -> int | None:
    """By how many days the dates of a table were moved; None where no date is in both."""
    places = dated_columns(before)
    if not places or not after or before[0] != after[0]:
        return None
    shared = {row[0]: row for row in after[1:]}
    for row in before[1:]:
        other = shared.get(row[0])
        for place in places:
            pair = [DATE.fullmatch(one[place]) for one in (row, other or []) if place < len(one)]
            if len(pair) == 2 and pair[0] and pair[1]:
                try:
                    days = [datetime.date.fromisoformat(match[1]) for match in pair if match]
                except ValueError:
                    continue
                return (days[1] - days[0]).days
    return None


def draw_days() -> int:
    """A random number of days into the past."""
    return -(LEAST_DAYS + secrets.randbelow(MOST_DAYS - LEAST_DAYS))


def undated(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A sidecar without the keys whose names or values are dates, and their names."""
    gone = [key for key, value in content.items() if re.search(r"Date|AcquisitionTime", key) or _is_date(value)]
    return {key: value for key, value in content.items() if key not in gone}, gone


def _is_date(value: Any) -> bool:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return any(isinstance(one, str) and DATE.fullmatch(one) for one in values)
