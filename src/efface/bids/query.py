"""T1w scans of a BIDS data set, by subject and session; no image is opened.

Only the folders that can hold a T1w scan are looked into (``sub-*/[ses-*/]anat``): an index of everything in a data
set of 10,000 subjects takes bids2table many seconds and hundreds of MB, most of them for files that are not needed. The
names themselves are read by bids2table.
"""

import itertools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from efface.bids.bidsignore import NAME as BIDSIGNORE
from efface.bids.bidsignore import load_bidsignore
from efface.bids.filters import BidsFilter
from efface.errors import InputError
from efface.io.absent_content import check_content

log = logging.getLogger(__name__)

SUFFIX = "T1w"
ENDINGS = (f"_{SUFFIX}.nii", f"_{SUFFIX}.nii.gz")
LABEL = re.compile(r"[A-Za-z0-9+]+")
"""What BIDS allows as the value of an entity; output paths are made of these."""
NO_MAGNITUDE: Mapping[str, tuple[str, ...]] = MappingProxyType({"part": ("phase", "real", "imag")})
"""Values of entities of a file that shows no head in magnitudes: of complex data, only ``part-mag`` is a scan."""
DERIVED = ("space", "res", "den", "label", "seg", "atlas", "desc")
"""Entities that only files have which were made of a scan; such a file is taken where a filter names its entity."""
MOST_NAMES = 20
"""An error lists no more labels than this."""


@dataclass(frozen=True, slots=True)
class T1wScan:
    """One T1-weighted scan of a data set.

    Attributes
    ----------
    subject, session
        BIDS labels without ``sub-`` and ``ses-``; session is None where there is none.
    stem
        The file's BIDS name up to its suffix.
    path
        The file.
    """

    subject: str
    session: str | None
    stem: str
    path: Path


def find_scans(
    bids_dir: Path,
    *,
    subjects: Sequence[str] = (),
    sessions: Sequence[str] = (),
    bids_filter: BidsFilter | None = None,
    validate: bool = True,
) -> list[T1wScan]:
    """List the T1w scans of a BIDS data set, by subject, session and name.

    Left out, with a warning, are files that ``.bidsignore`` names, parts of complex data other than the magnitude
    (`NO_MAGNITUDE`), and what was made of a scan (`DERIVED`), unless the filter names that entity.

    Parameters
    ----------
    bids_dir
        Root of the data set; derivatives below it are not looked at.
    subjects, sessions
        Labels to keep, with or without ``sub-`` and ``ses-``; empty keeps all.
    bids_filter
        Keep only scans whose entities match.
    validate
        Ask for a dataset_description.json, and refuse T1w files whose names are not BIDS; otherwise such files are
        left out, with a warning.

    Raises
    ------
    InputError
        If the folder is missing or unreadable, is no BIDS data set, has no T1w scan, has one twice, has one that is
        misnamed, or lacks a label that was asked for.
    """
    if not bids_dir.is_dir():
        msg = f"BIDS folder {bids_dir} does not exist: check the path"
        raise InputError(msg)
    description = bids_dir / "dataset_description.json"
    if validate:
        check_content(description)
    if validate and not description.is_file():
        msg = f"{bids_dir} has no dataset_description.json (not BIDS): check it, or give --skip-bids-validation"
        raise InputError(msg)
    wanted = {label.removeprefix("sub-") for label in subjects}
    try:
        found, misnamed, left_out = _index(bids_dir, wanted, bids_filter)
    except OSError as error:
        msg = f"{error.filename} cannot be read ({error.strerror}): check its permissions"
        raise InputError(msg) from error
    _report_misnamed(bids_dir, misnamed, validate=validate)
    _report_left_out(bids_dir, left_out, any_left=bool(found))
    _check_labels("participant", wanted, {s.subject for s in found}, bids_dir)
    if not found:
        msg = f"{bids_dir} holds no T1w scan (expected sub-*/[ses-*/]anat/*_T1w.nii[.gz]): check the folder"
        if bids_filter:
            msg = f"{bids_dir} holds no T1w scan that matches the BIDS filter {bids_filter}: check the filter"
        raise InputError(msg)
    labels = {label.removeprefix("ses-") for label in sessions}
    _check_labels("session", labels, {s.session for s in found if s.session}, None)
    kept = [s for s in found if not labels or s.session in labels]
    _check_unique(kept)
    return kept


def _index(
    bids_dir: Path, wanted: set[str], bids_filter: BidsFilter | None
) -> tuple[list[T1wScan], list[str], dict[str, list[str]]]:
    """The scans in order, T1w files whose names are not BIDS, and T1w files that are left out, by the reason why."""
    from bids2table import parse_bids_entities

    is_ignored = load_bidsignore(bids_dir)
    sources: list[T1wScan] = []
    misnamed: list[str] = []
    left_out: dict[str, list[str]] = {}
    for subject, session, path in _candidates(bids_dir, wanted):
        name = path.rsplit(os.sep, 1)[1]
        if is_ignored and is_ignored(os.path.relpath(path, bids_dir)):
            left_out.setdefault(f"ignored by {BIDSIGNORE}", []).append(os.path.relpath(path, bids_dir))
            continue
        # Given the name alone, it is twice as fast; the datatype is known from the folder.
        entities = parse_bids_entities(name)
        if not _well_named(name, entities, subject, session):
            misnamed.append(os.path.relpath(path, bids_dir))
        elif why := _why_no_scan(entities, bids_filter):
            left_out.setdefault(why, []).append(os.path.relpath(path, bids_dir))
        elif bids_filter is None or bids_filter.matches({**entities, "datatype": "anat"}):
            sources.append(T1wScan(subject, session, name.rsplit("_", 1)[0], Path(path)))
    return sorted(sources, key=lambda s: (s.subject, s.session or "", s.stem, s.path.name)), misnamed, left_out


def _why_no_scan(entities: Mapping[str, str], bids_filter: BidsFilter | None) -> str:
    """Why a well-named T1w file is no scan to deface; empty where it is one."""
    for name, values in NO_MAGNITUDE.items():
        if entities.get(name) in values:
            return f"{name}-{entities[name]}: no magnitude image"
    asked = bids_filter.conditions if bids_filter else {}
    made = [name for name in DERIVED if name in entities and name not in asked]
    return f"{made[0]}-: made of a scan" if made else ""


def _candidates(bids_dir: Path, wanted: set[str]) -> Iterator[tuple[str, str | None, str]]:
    """Subject, session and path of everything named like a T1w scan in a place for one."""
    for subject, folder in _folders(str(bids_dir), "sub-"):
        if wanted and subject not in wanted:
            continue
        for path in _images(folder):
            yield subject, None, path
        for session, inner in _folders(folder, "ses-"):
            for path in _images(inner):
                yield subject, session, path


def _folders(parent: str, prefix: str) -> list[tuple[str, str]]:
    with os.scandir(parent) as entries:
        return [(e.name.removeprefix(prefix), e.path) for e in entries if e.name.startswith(prefix) and e.is_dir()]


def _images(folder: str) -> list[str]:
    try:
        with os.scandir(os.path.join(folder, "anat")) as entries:  # noqa: PTH118 - paths as text: 100,000 of them
            return [entry.path for entry in entries if entry.name.endswith(ENDINGS)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _well_named(name: str, entities: Mapping[str, str], subject: str, session: str | None) -> bool:
    """Whether a file's name is made of BIDS labels, and says the same subject and session as its folders."""
    own = {key: value for key, value in entities.items() if key not in ("suffix", "ext")}
    if own.get("sub") != subject or own.get("ses") != session:
        return False
    spelled = "_".join(f"{key}-{value}" for key, value in own.items())
    return f"{spelled}_{SUFFIX}{entities.get('ext', '')}" == name and all(
        LABEL.fullmatch(word) for pair in own.items() for word in pair
    )


def _report_misnamed(bids_dir: Path, misnamed: Sequence[str], *, validate: bool) -> None:
    if not misnamed:
        return
    first = ascii(sorted(misnamed)[0])
    what = f"{len(misnamed)} T1w files of {bids_dir} have no valid BIDS name in their folder, the first {first}"
    if validate:
        msg = f"{what}: rename them (letters and digits, the folder's sub- and ses-), or give --skip-bids-validation"
        raise InputError(msg)
    log.warning(
        "%d T1w files have no valid BIDS name in their folder, the first %s; they are left out", len(misnamed), first
    )


def _report_left_out(bids_dir: Path, left_out: Mapping[str, Sequence[str]], *, any_left: bool) -> None:
    """Warn of T1w files that are no scans to deface, or refuse a data set that has no others."""
    for why, names in left_out.items():
        log.warning("%d T1w files are left out (%s), the first %s", len(names), why, ascii(sorted(names)[0]))
    if left_out and not any_left:
        reasons = "; ".join(f"{len(names)} files are left out ({why})" for why, names in left_out.items())
        msg = f"{bids_dir} holds no T1w scan to deface: {reasons}: check the folder, or name them in --bids-filter"
        raise InputError(msg)


def _check_labels(what: str, wanted: set[str], have: set[str], bids_dir: Path | None) -> None:
    missing = sorted(wanted - have)
    if not missing:
        return
    if bids_dir is not None:  # only what was asked for has been looked at
        have = {label for label, _ in _folders(str(bids_dir), "sub-")}
    msg = f"no T1w scan of {what} {_listed(missing)}; the data set has {_listed(sorted(have)) or 'none'}"
    raise InputError(msg)


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_NAMES} more" if len(labels) > MOST_NAMES else ""
    return ", ".join(labels[:MOST_NAMES]) + more


def _check_unique(sources: Sequence[T1wScan]) -> None:
    """Refuse a scan that exists twice, compressed and uncompressed: both would write the same results."""
    for first, second in itertools.pairwise(sources):
        if first.stem == second.stem:
            msg = f"{first.path} is there twice, with and without .gz: remove one of them"
            raise InputError(msg)
