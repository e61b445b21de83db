"""Kirby 21 (KKI2009): 42 sessions of 21 healthy people, each scanned twice, from NITRC to BIDS.

The download is one archive a session, ``KKI2009-01.tar.bz2`` to ``KKI2009-42.tar.bz2``, with the files
``KKI2009-01-MPRAGE.nii``, ``-FLAIR.nii``, ``-T2w.nii`` and more; unpacked or not, in one folder or in many. The
numbers do not say who is who: two numbers belong to each person.

Source of the mapping
---------------------
The demographic table that NITRC publishes beside the scans (https://www.nitrc.org/projects/multimodal), as copied in
``kki42_subjectinformation.csv`` of the ndlims project (neurodata-arxiv/ndlims, commit 9e9da4b). Checked: each of the
numbers 1 to 42 occurs once; 21 people, two scans each; 11 men and 10 women of 22 to 61 years, as in Landman et al.
(2011); and the pairs 1-25, 2-37 and 4-11 are also the pairs of other published code. Which of the two visits came
first the table does not say: sessions are numbered in the order of the file numbers.

References
----------
Landman et al. "Multi-parametric neuroimaging reproducibility: a 3-T resource study." NeuroImage 54 (2011).
"""

import csv
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.bids.importers.copying import Imported, Item, Plan, carry_out, files_below
from efface.errors import InputError
from efface.io.absent_content import check_content

NAME = "Kirby 21 (KKI2009)"
FILE = re.compile(r"KKI2009-(\d{2})-([A-Za-z0-9]+)\.nii(?:\.gz)?")
ARCHIVE = re.compile(r"KKI2009-(\d{2})\.(?:tar\.bz2|tar\.gz|tgz|tar)")
SUFFIXES: Mapping[str, str] = {"MPRAGE": "T1w", "FLAIR": "FLAIR", "T2w": "T2w"}
"""The contrasts that show a face, as the files are named, and their BIDS suffixes."""
LABEL = re.compile(r"[A-Za-z0-9]+")
COLUMNS = ("scan", "subject", "session")
README = """Kirby 21: 42 sessions of 21 healthy volunteers, each scanned and rescanned at the F. M. Kirby Research
Center. From https://www.nitrc.org/projects/multimodal, put into BIDS by efface. Sessions are numbered in the order of
the file numbers (sub-*/sub-*_sessions.tsv); which visit came first is not known.
"""


@dataclass(frozen=True)
class Person:
    """One person of the published table."""

    subject: str
    sex: str
    age: str
    scans: tuple[int, ...]


PEOPLE: tuple[Person, ...] = (
    Person("113", "F", "28", (30, 33)),
    Person("127", "M", "30", (7, 34)),
    Person("142", "M", "28", (6, 20)),
    Person("239", "F", "26", (12, 19)),
    Person("346", "F", "22", (39, 41)),
    Person("422", "M", "26", (9, 42)),
    Person("492", "M", "26", (18, 38)),
    Person("502", "F", "23", (32, 36)),
    Person("505", "F", "42", (16, 35)),
    Person("656", "M", "32", (28, 40)),
    Person("679", "F", "30", (3, 22)),
    Person("742", "F", "49", (8, 29)),
    Person("800", "F", "29", (23, 27)),
    Person("814", "M", "34", (15, 26)),
    Person("815", "F", "38", (10, 21)),
    Person("849", "M", "25", (1, 25)),
    Person("906", "M", "25", (4, 11)),
    Person("913", "M", "25", (5, 31)),
    Person("916", "M", "30", (13, 24)),
    Person("934", "F", "61", (2, 37)),
    Person("959", "M", "38", (14, 17)),
)
"""Who was scanned under which numbers; see the module's text for the source."""


@dataclass(frozen=True)
class Visit:
    """Where one scan number belongs."""

    subject: str
    session: str


def import_kirby21(
    source: str | Path,
    bids_dir: str | Path,
    *,
    contrasts: Sequence[str] = ("MPRAGE",),
    pairs: str | Path | None = None,
    link: bool = False,
) -> Imported:
    """Put a download of Kirby 21 into BIDS.

    Parameters
    ----------
    source
        Folder with the files or the archives of NITRC, in any depth.
    bids_dir
        The data set's folder.
    contrasts
        Which of `SUFFIXES`.
    pairs
        Table (.tsv or .csv) with the columns scan (1 to 42), subject and, if wanted, session, to use instead of the
        published mapping.
    link
        Make symbolic links instead of copies; what is in archives is always copied.

    Raises
    ------
    InputError
        If the folder holds no such file, a file is there twice, a contrast is unknown, or the table cannot be used.
    OutputError
        If the data set cannot be written, or its folder holds something else.
    """
    unknown = [c for c in contrasts if c not in SUFFIXES]
    if unknown or not contrasts:
        msg = f"contrasts must be among {', '.join(SUFFIXES)}; received {', '.join(unknown) or 'none'}"
        raise InputError(msg)
    visits = _published() if pairs is None else _read_pairs(Path(pairs))
    found = _found(Path(source), set(contrasts))
    known = {key: item for key, item in found.items() if key[0] in visits}
    if not known:
        msg = f"{source} holds no KKI2009-NN-{contrasts[0]}.nii and no KKI2009-NN.tar.bz2: check the folder"
        raise InputError(msg)
    items = [_item(visits[scan], contrast, *where) for (scan, contrast), where in sorted(known.items())]
    warnings = _warnings(contrasts, visits, found)
    plan = Plan(NAME, _description(), README, items, _tables(visits, {scan for scan, _ in known}), warnings)
    return carry_out(plan, Path(source), Path(bids_dir), link=link)


Found = Mapping[tuple[int, str], tuple[Path, str | None]]


def _published() -> dict[int, Visit]:
    return {scan: Visit(p.subject, str(n)) for p in PEOPLE for n, scan in enumerate(sorted(p.scans), 1)}


def _found(source: Path, contrasts: set[str]) -> Found:
    """Path, and name in the archive, of every scan by number and contrast; an unpacked file wins over its archive."""
    files: dict[tuple[int, str], tuple[Path, str | None]] = {}
    archives: dict[int, Path] = {}
    for path in files_below(source):
        if match := FILE.fullmatch(path.name):
            key = int(match[1]), match[2]
            if match[2] in contrasts:
                if key in files:
                    msg = f"{path.name} is in {source} twice ({files[key][0]}, {path}): remove one of them"
                    raise InputError(msg)
                files[key] = path, None
        elif match := ARCHIVE.fullmatch(path.name):
            archives.setdefault(int(match[1]), path)
    for scan, path in archives.items():
        if any((scan, contrast) not in files for contrast in contrasts):
            for contrast, member in _members(path, scan, contrasts):
                files.setdefault((scan, contrast), (path, member))
    return files


def _members(path: Path, scan: int, contrasts: set[str]) -> Iterable[tuple[str, str]]:
    check_content(path)
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in archive if member.isfile()]
    except (OSError, EOFError, tarfile.TarError) as error:
        msg = f"{path} is a truncated or corrupt archive ({' '.join(str(error).split())}): download it again"
        raise InputError(msg) from error
    for name in names:
        match = FILE.fullmatch(name.rsplit("/", 1)[-1])
        if match and int(match[1]) == scan and match[2] in contrasts:
            yield match[2], name


def _item(visit: Visit, contrast: str, source: Path, member: str | None) -> Item:
    stem = f"sub-{visit.subject}_ses-{visit.session}_{SUFFIXES[contrast]}"
    ending = ".nii.gz" if member or source.name.endswith(".gz") else ".nii"
    return Item(Path(f"sub-{visit.subject}/ses-{visit.session}/anat/{stem}{ending}"), source, member)


def _tables(visits: Mapping[int, Visit], scans: set[int]) -> dict[Path, list[dict[str, str]]]:
    people = {person.subject: person for person in PEOPLE}
    sessions: dict[str, list[dict[str, str]]] = defaultdict(list)
    for scan in sorted(scans):
        visit = visits[scan]
        sessions[visit.subject].append({"session_id": f"ses-{visit.session}", "kki2009_scan": f"{scan:02d}"})
    tables: dict[Path, list[dict[str, str]]] = {}
    tables[Path("participants.tsv")] = [
        {
            "participant_id": f"sub-{subject}",
            "sex": people[subject].sex if _is_published(subject, visits) else "",
            "age": people[subject].age if _is_published(subject, visits) else "",
        }
        for subject in sorted(sessions)
    ]
    for subject, rows in sessions.items():
        tables[Path(f"sub-{subject}/sub-{subject}_sessions.tsv")] = sorted(rows, key=lambda row: row["session_id"])
    return tables


def _is_published(subject: str, visits: Mapping[int, Visit]) -> bool:
    """Whether a table of the user's means the same person by this name."""
    own = sorted(scan for scan, visit in visits.items() if visit.subject == subject)
    return any(p.subject == subject and own == sorted(p.scans) for p in PEOPLE)


def _warnings(contrasts: Sequence[str], visits: Mapping[int, Visit], found: Found) -> tuple[str, ...]:
    notes = []
    for contrast in contrasts:
        missing = sorted(scan for scan in visits if (scan, contrast) not in found)
        if missing:
            notes.append(f"{contrast} of {len(missing)} scans is not in the download: {_numbers(missing)}")
    strangers = sorted({scan for scan, _ in found} - set(visits))
    if strangers:
        notes.append(
            f"{len(strangers)} scans belong to no person in the mapping and are left out: {_numbers(strangers)}"
        )
    return tuple(notes)


def _numbers(scans: Iterable[int]) -> str:
    return ", ".join(f"{scan:02d}" for scan in scans)


def _read_pairs(path: Path) -> dict[int, Visit]:
    """A user's own table; sessions are numbered in the order of its scans where it has none."""
    check_content(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"table {path} cannot be read ({getattr(error, 'strerror', None) or 'not text'}): check the path"
        raise InputError(msg) from error
    rows = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text else ",")
    columns = set(rows.fieldnames or ())
    if not {"scan", "subject"} <= columns <= set(COLUMNS):
        received = ", ".join(map(str, rows.fieldnames or ())) or "nothing"
        msg = f"table {path} must have the columns scan, subject and, if wanted, session; received {received}"
        raise InputError(msg)
    visits: dict[int, Visit] = {}
    counted: Counter[str] = Counter()
    for line, row in enumerate(rows, 2):
        scan, subject, session = ((row.get(name) or "").strip() for name in COLUMNS)
        subject, session = subject.removeprefix("sub-"), session.removeprefix("ses-")
        number = scan.removeprefix("KKI2009-")
        counted[subject] += 1
        session = session or str(counted[subject])
        good = number.isascii() and number.isdecimal() and LABEL.fullmatch(subject) and LABEL.fullmatch(session)
        if not good or int(number) in visits or Visit(subject, session) in visits.values():
            msg = (
                f"table {path}, line {line}: expected a scan number and labels of letters and digits, each scan and "
                f"each session of a subject once; received {scan!r}, {subject!r}, {session!r}"
            )
            raise InputError(msg)
        visits[int(number)] = Visit(subject, session)
    if not visits:
        msg = f"table {path} has no rows: expected one for each scan"
        raise InputError(msg)
    return visits


def _description() -> dict[str, object]:
    return {
        "ReferencesAndLinks": [
            "https://www.nitrc.org/projects/multimodal",
            "Landman et al., Multi-parametric neuroimaging reproducibility: a 3-T resource study, NeuroImage 54, 2011",
        ],
        "GeneratedBy": [{"Name": "efface dataset kirby21"}],
    }
