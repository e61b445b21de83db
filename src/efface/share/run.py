"""`efface share`: make the copy of a BIDS data set that may be uploaded. It fails closed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from efface.bids.dataset_links import note_place
from efface.bids.filters import BidsFilter
from efface.errors import InputError, OutputError
from efface.io.atomic import as_private_as, make_folder, remove_leftovers, write_atomically
from efface.share.head_image import file_sha256, place_copy
from efface.share.inventory import IMAGES, Found, Kind, take_inventory
from efface.share.records import (
    HOME,
    TABLE,
    Became,
    FileRow,
    ImageRecord,
    read_record,
    read_table,
    record_path,
    table_bytes,
)
from efface.share.session_task import SessionTask
from efface.share.settings import ShareSettings
from efface.share.subject_days import SubjectDays
from efface.share.texts import Texts, derivative_description
from efface.share.votes import read_votes
from efface.study.backends import Backend
from efface.study.executor import Executor, Outcome
from efface.study.output_folder import only_run
from efface.study.run import Progress

NO_IMAGE = "no image of this subject is shared"
NOT_ASKED = "not asked for (--participant-label, --session-label or --bids-filter)"
LATE = (Kind.SCANS, Kind.SESSIONS, Kind.PARTICIPANTS)
"""Tables that list what is there."""
TEXTS = (Kind.SIDECAR, Kind.TEXT, *LATE)
ITS_OWN = ("dataset_description.json", "CHANGES")
"""Files that a shared data set has in any case."""


@dataclass(frozen=True)
class Shared:
    """Result of a run.

    Attributes
    ----------
    rows
        One for every file of the data set.
    images
        What is known of every image.
    computed
        Number of sessions that were worked on in this run.
    sessions
        Number of sessions.
    """

    rows: tuple[FileRow, ...]
    images: tuple[ImageRecord, ...]
    computed: int
    sessions: int

    @property
    def withheld(self) -> tuple[FileRow, ...]:
        """Files that may show a face, or could not be shared."""
        return tuple(row for row in self.rows if row.outcome is Became.WITHHELD)

    @property
    def misnamed(self) -> tuple[FileRow, ...]:
        """Images in folders of subjects that were left out for what they are called or where they are."""
        return tuple(
            row for row in self.rows
            if row.outcome is Became.LEFT_OUT and row.path.startswith("sub-") and row.path.endswith(IMAGES)
            and row.reason != NOT_ASKED
        )  # fmt: skip

    def count(self, outcome: Became) -> int:
        """Number of files that became so."""
        return sum(row.outcome is outcome for row in self.rows)


def share(
    settings: ShareSettings,
    *,
    backend: Backend,
    subjects: Sequence[str] = (),
    sessions: Sequence[str] = (),
    bids_filter: BidsFilter | None = None,
    progress: Progress | None = None,
) -> Shared:
    """Make or complete the shared copy of a data set.

    Parameters
    ----------
    settings
        What was asked for.
    backend
        Where the work is done (`efface.study.backends`).
    subjects, sessions
        Labels to share, with or without ``sub-`` and ``ses-``; empty shares all. What an earlier run shared stays.
    bids_filter
        Share only images whose entities match.
    progress
        Called when a session is done.

    Returns
    -------
    Shared
        What became of every file; the same is in ``derivatives/efface/shared.tsv``.

    Raises
    ------
    InputError
        If the data set or a label cannot be used.
    OutputError
        If something cannot be written, or another run is writing to the same folder.
    ClusterError
        If there are no workers.
    """
    _check_data_set(settings)
    found = take_inventory(settings.bids_dir, settings.also)
    asked = _Asked(frozenset(s.removeprefix("sub-") for s in subjects),
                   frozenset(s.removeprefix("ses-") for s in sessions), bids_filter)  # fmt: skip
    asked.check(found, settings.bids_dir)
    home = settings.out_dir / HOME
    make_folder(home)
    with only_run(home):
        _remove_all_leftovers(settings.out_dir)
        _write_description(settings, home)
        note_place(settings.bids_dir, settings.out_dir)
        tasks = _tasks(settings, found, asked)
        computed = _run(tasks, backend, progress)
        images = [image for record in _records(settings, found) for image in record]
        rows = _texts(settings, found, asked, images)
        rows += [image.row for image in images]
        rows += _not_asked(found, rows)
        _remove_strangers(settings.out_dir, rows, images)
        with as_private_as([settings.bids_dir / one.path for one in found if one.kind is Kind.IMAGE]):
            write_atomically(settings.out_dir / TABLE, table_bytes(rows), force=True)
    ordered = tuple(sorted(rows, key=lambda row: row.path))
    return Shared(ordered, tuple(images), computed, len(tasks))


@dataclass(frozen=True)
class _Asked:
    """Which part of the data set a run is for."""

    subjects: frozenset[str]
    sessions: frozenset[str]
    bids_filter: BidsFilter | None

    def check(self, found: Sequence[Found], bids_dir: Path) -> None:
        """Refuse labels that the data set does not have."""
        for name, wanted, have in (
            ("participant", self.subjects, {one.subject for one in found if one.subject}),
            ("session", self.sessions, {one.session for one in found if one.session}),
        ):
            if missing := sorted(wanted - have):
                listed = ", ".join(sorted(have)[:20]) or "none"
                msg = f"{bids_dir} has no {name} {', '.join(missing)}; it has {listed}: check the labels"
                raise InputError(msg)
        if not any(one.kind is Kind.IMAGE and self.has(one) for one in found):
            msg = f"{bids_dir} holds no image to share (expected sub-*/[ses-*/]anat/*.nii[.gz]): check folder and filter"
            raise InputError(msg)

    def has(self, found: Found) -> bool:
        """Whether a file belongs to this part."""
        if found.subject and self.subjects and found.subject not in self.subjects:
            return False
        if found.session and self.sessions and found.session not in self.sessions:
            return False
        if found.kind is Kind.IMAGE and self.bids_filter is not None:
            return self.bids_filter.matches({**found.entities, "datatype": found.datatype, "suffix": found.suffix})
        return True


def _check_data_set(settings: ShareSettings) -> None:
    """Refuse what is no BIDS data set, and an output folder of something else."""
    if not settings.bids_dir.is_dir():
        msg = f"BIDS folder {settings.bids_dir} does not exist: check the path"
        raise InputError(msg)
    if not (settings.bids_dir / "dataset_description.json").is_file():
        msg = f"{settings.bids_dir} has no dataset_description.json (not BIDS): add one, or check the folder"
        raise InputError(msg)
    out = settings.out_dir
    if out.is_dir() and any(out.iterdir()) and not (out / HOME).is_dir():
        msg = f"{out} is not empty and was not made by efface share: choose another folder"
        raise OutputError(msg)


def _write_description(settings: ShareSettings, home: Path) -> None:
    texts = Texts(settings, {}, SubjectDays(settings, ()))
    write_atomically(settings.out_dir / "dataset_description.json", texts.description(), force=True)
    write_atomically(home / "dataset_description.json", derivative_description(), force=True)


def _tasks(settings: ShareSettings, found: Sequence[Found], asked: _Asked) -> list[SessionTask]:
    votes = read_votes(settings.out_dir)
    images = [one for one in found if one.kind is Kind.IMAGE and asked.has(one)]
    places = dict.fromkeys((one.subject, one.session) for one in images)
    tasks = []
    for subject, session in places:
        own = tuple(one for one in images if (one.subject, one.session) == (subject, session))
        elsewhere: tuple[Found, ...] = ()
        if settings.across_sessions:
            elsewhere = tuple(
                one for one in found
                if one.kind is Kind.IMAGE and one.subject == subject and one.session != session
            )  # fmt: skip
        tasks.append(SessionTask(settings, subject, session, own, elsewhere, votes))
    return tasks


def _run(tasks: Sequence[SessionTask], backend: Backend, progress: Progress | None) -> int:
    """Do what is missing; returns for how many sessions."""
    if progress:
        progress.start(len(tasks))
    todo, computed = [], 0
    for task in tasks:
        if task.is_up_to_date():
            if progress:
                progress.done(task.up_to_date_outcome())
        else:
            todo.append(task)
    with Executor(backend.at_most(max(1, len(todo)))) as executor:
        for outcome in _outcomes(executor, todo):
            computed += 1
            if progress:
                progress.done(outcome)
    return computed


def _outcomes(executor: Executor, todo: Sequence[SessionTask]) -> Iterator[Outcome]:
    yield from executor.run(todo)


def _records(settings: ShareSettings, found: Sequence[Found]) -> list[tuple[ImageRecord, ...]]:
    """The records of all sessions that were ever shared and are still in the data set."""
    there = {one.path for one in found if one.kind is Kind.IMAGE}
    records = []
    for subject, session in dict.fromkeys((one.subject, one.session) for one in found if one.kind is Kind.IMAGE):
        record = read_record(record_path(settings.out_dir, subject, session))
        if record is not None:
            records.append(tuple(image for image in record.images if image.row.path in there))
    return records


def _texts(
    settings: ShareSettings, found: Sequence[Found], asked: _Asked, images: Sequence[ImageRecord]
) -> list[FileRow]:
    """Share what is no image; tables of the whole data set last, for they list what is there."""
    rows = {image.row.path: image.row for image in images}
    by_folder: dict[str, list[Found]] = {}
    for one in found:
        if one.kind is Kind.IMAGE and one.path in rows:
            by_folder.setdefault(one.folder, []).append(one)
    tables = [one for one in found if one.kind in (Kind.SCANS, Kind.SESSIONS)]
    texts = Texts(settings, rows, SubjectDays(settings, tables))
    made = [_unshared(one) for one in found if one.kind in (Kind.LEFT_OUT, Kind.ABSENT)]
    shown = {image.row.path.split("/")[0] for image in images}
    before = _rows_before(settings.out_dir)
    for one in sorted(found, key=lambda one: one.kind in LATE):
        if one.kind is Kind.ALSO:
            made.append(_taken_along(settings, one))
        elif one.kind in TEXTS and one.subject and f"sub-{one.subject}" not in shown:
            reason = NO_IMAGE if asked.has(one) else NOT_ASKED
            made.append(FileRow(one.path, Became.LEFT_OUT, reason))
        elif one.kind in TEXTS and one.subject and not asked.has(one):
            made += [before[one.path]] if one.path in before else []  # of an earlier run, whose files stay
        elif one.kind in TEXTS:
            if _belongs_to_image(one, by_folder):
                made.append(_with_image(settings, one))
            else:
                made.append(texts.share(one, by_folder.get(one.folder, ())))
    write_atomically(settings.out_dir / "CHANGES", texts.changes(), force=True)
    made += [_rewritten(settings, one) for one in found if one.kind in (Kind.CHANGES, Kind.DESCRIPTION)]
    return made


def _rows_before(out_dir: Path) -> dict[str, FileRow]:
    """Rows of an earlier run."""
    try:
        return {row.path: row for row in read_table(out_dir)}
    except InputError:
        return {}


def _belongs_to_image(one: Found, by_folder: dict[str, list[Found]]) -> list[Found]:
    """The image that a sidecar was written with, if there is one."""
    if one.kind is not Kind.SIDECAR or not one.datatype:
        return []
    stem = one.name.removesuffix(".json")
    return [image for image in by_folder.get(one.folder, ()) if image.name.partition(".")[0] == stem]


def _with_image(settings: ShareSettings, one: Found) -> FileRow:
    """The row of a sidecar that was written, or withheld, with its image."""
    out, before = settings.out_dir / one.path, file_sha256(settings.bids_dir / one.path)
    if out.is_file():
        return FileRow(one.path, Became.COPIED, "what may name a person removed", sha256_before=before,
                       sha256_after=file_sha256(out))  # fmt: skip
    return FileRow(one.path, Became.WITHHELD, "its image is not shared", sha256_before=before)


def _unshared(one: Found) -> FileRow:
    outcome = Became.LEFT_OUT if one.kind is Kind.LEFT_OUT else Became.WITHHELD
    return FileRow(one.path, outcome, one.reason)


def _taken_along(settings: ShareSettings, one: Found) -> FileRow:
    source, out = settings.bids_dir / one.path, settings.out_dir / one.path
    before = file_sha256(source)
    if not (out.is_file() and file_sha256(out) == before):
        place_copy(source, out, link=settings.link)
    return FileRow(one.path, Became.COPIED, one.reason, sha256_before=before, sha256_after=before)


def _rewritten(settings: ShareSettings, one: Found) -> FileRow:
    before, after = (file_sha256(root / one.path) for root in (settings.bids_dir, settings.out_dir))
    return FileRow(one.path, Became.COPIED, "with a note of efface", sha256_before=before, sha256_after=after)


def _not_asked(found: Sequence[Found], rows: Sequence[FileRow]) -> list[FileRow]:
    known = {row.path for row in rows}
    return [FileRow(one.path, Became.LEFT_OUT, NOT_ASKED) for one in found if one.path not in known]


def _remove_all_leftovers(out_dir: Path) -> None:
    for folder in [out_dir, *(path for path in out_dir.rglob("*") if path.is_dir())]:
        remove_leftovers(folder)


def _remove_strangers(out_dir: Path, rows: Sequence[FileRow], images: Sequence[ImageRecord]) -> None:
    """Take out what an earlier run shared of files that are no longer in the data set, or no longer shared."""
    mine = {row.path for row in rows if row.outcome in (Became.DEFACED, Became.COPIED)}
    mine |= {path for image in images for path in image.outputs} | set(ITS_OWN)
    for path in sorted(out_dir.rglob("*"), reverse=True):
        inside = path.relative_to(out_dir).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()) and inside != HOME:
                path.rmdir()
        elif inside not in mine and not _is_of_home(inside):
            path.unlink()


def _is_of_home(path: str) -> bool:
    """Whether a file belongs to the records; masks and pictures there are listed with their images."""
    return path.startswith(f"{HOME}/") and not path.endswith((".nii.gz", ".jpg"))
