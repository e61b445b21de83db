"""Copying or linking files into a BIDS folder; nothing is overwritten, the source is never changed.

A second run with the same source finds everything in place and writes nothing. A folder that holds scans of another
choice is refused, so that a data set is always exactly one choice.
"""

import csv
import filecmp
import gzip
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from efface.errors import InputError, OutputError
from efface.io.absent_content import check_content
from efface.io.atomic import copy_atomically, link_atomically, write_atomically

BIDS_VERSION = "1.10.0"
NOT_AVAILABLE = "n/a"
MAXIMUM_BYTES = 4 * 2**30
"""No head scan in an archive is larger."""


@dataclass(frozen=True)
class Item:
    """One file of the new data set.

    Attributes
    ----------
    target
        Path below the BIDS folder.
    source
        The file it is made of.
    member
        Its name inside `source`, where that is an archive; then it is always copied, and compressed.
    """

    target: Path
    source: Path
    member: str | None = None


@dataclass(frozen=True)
class Plan:
    """The whole new data set.

    Attributes
    ----------
    name, description
        What dataset_description.json says: the name, and more of its fields.
    readme
        Text of the README.
    items
        Images and what belongs to them.
    tables
        Rows of each table by its path below the BIDS folder (participants.tsv and so on).
    warnings
        What a user should know about the choice.
    """

    name: str
    description: Mapping[str, Any]
    readme: str
    items: Sequence[Item]
    tables: Mapping[Path, Sequence[Mapping[str, str]]]
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    subjects, scans
        How many there are in the data set now.
    written
        How many of its files were copied or linked by this run; the others were in place.
    warnings
        What a user should know.
    """

    subjects: int
    scans: int
    written: int
    warnings: tuple[str, ...]


def files_below(source: Path) -> Iterator[Path]:
    """Every file below a folder, in order; links to folders are not followed.

    Raises
    ------
    InputError
        If the folder is missing or cannot be read.
    """
    if not source.is_dir():
        msg = f"download folder {source} does not exist: check the path"
        raise InputError(msg)

    def refuse(error: OSError) -> None:
        msg = f"{error.filename} cannot be read ({error.strerror}): check its permissions"
        raise InputError(msg) from error

    for folder, inner, names in os.walk(source, onerror=refuse):
        inner.sort()
        for name in sorted(names):
            yield Path(folder, name)


def carry_out(plan: Plan, source: Path, bids_dir: Path, *, link: bool = False) -> Imported:
    """Make the data set, or the missing part of it.

    Parameters
    ----------
    plan
        What goes where.
    source
        The download's folder.
    bids_dir
        The data set's folder; made where it is missing.
    link
        Make symbolic links instead of copies.

    Raises
    ------
    InputError
        If the two folders are the same, the data set would lie in the download, or the content of a file is not here.
    OutputError
        If the folder holds another data set, other scans, or files of the same name with other content; or if it
        cannot be written.
    """
    _check_place(plan, source, bids_dir)
    for path in dict.fromkeys(item.source for item in plan.items):
        check_content(path)
    written = 0
    for item in plan.items:
        target = bids_dir / item.target
        _make_folder(target.parent)
        written += _from_archive(item, target) if item.member else _from_file(item.source, target, link=link)
    for name, rows in plan.tables.items():
        _write_same(bids_dir / name, _as_tsv(rows))
    _write_same(bids_dir / "README", plan.readme.encode())
    _write_same(bids_dir / "dataset_description.json", _described(plan))  # last: a data set is whole when it has one
    scans = [item for item in plan.items if item.target.name.endswith((".nii", ".nii.gz"))]
    return Imported(len({item.target.parts[0] for item in scans}), len(scans), written, plan.warnings)


def _check_place(plan: Plan, source: Path, bids_dir: Path) -> None:
    inner, outer = bids_dir.resolve(), source.resolve()
    if inner == outer or outer in inner.parents:
        msg = f"BIDS folder {bids_dir} lies in the download {source}, which must stay as it is: choose another folder"
        raise InputError(msg)
    description = bids_dir / "dataset_description.json"
    if description.is_file() and plan.name not in description.read_text(encoding="utf-8", errors="replace"):
        msg = f"{bids_dir} holds another data set: choose an empty folder"
        raise OutputError(msg)
    planned = {item.target for item in plan.items}
    here = {path.relative_to(bids_dir) for path in bids_dir.glob("sub-*/**/*.nii*")}
    strangers = sorted(path for path in here - planned if not path.name.startswith("."))
    if strangers:
        msg = f"{bids_dir} holds {len(strangers)} scans that are not of this choice, the first {strangers[0]}: "
        raise OutputError(msg + "choose an empty folder, or remove them")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"folder {folder} cannot be made ({error.strerror}): choose one you can write to"
        raise OutputError(msg) from error


def _from_file(source: Path, target: Path, *, link: bool) -> bool:
    """Whether anything had to be written."""
    if target.is_symlink() or target.exists():
        if target.exists() and (target.samefile(source) or _same_content(source, target)):
            return False
        _refuse(target, source)
    if link:
        link_atomically(source.resolve(), target)
    else:
        copy_atomically(source, target)
    return True


def _same_content(source: Path, target: Path) -> bool:
    """A copy keeps the time of its source, so that a second run need not read 179 scans to know them."""
    before, after = source.stat(), target.stat()
    if before.st_size != after.st_size:
        return False
    return before.st_mtime_ns == after.st_mtime_ns or filecmp.cmp(source, target, shallow=False)


def _from_archive(item: Item, target: Path) -> bool:
    status = item.source.stat()
    if target.exists() and target.stat().st_mtime_ns == status.st_mtime_ns:
        return False
    data = _member(item)
    if target.exists():
        if target.read_bytes() == data:
            return False
        _refuse(target, item.source)
    write_atomically(target, data)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return True


def _member(item: Item) -> bytes:
    """One file of an archive, gzipped; read as a stream, so that no name in the archive is ever a path."""
    try:
        with tarfile.open(item.source) as archive:
            stream: IO[bytes] | None = archive.extractfile(str(item.member))
            data = stream.read(MAXIMUM_BYTES + 1) if stream else b""
    except (OSError, EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        reason = " ".join(str(error).split())
        msg = f"{item.source} is a truncated or corrupt archive ({reason}): download it again"
        raise InputError(msg) from error
    if not 0 < len(data) <= MAXIMUM_BYTES:
        msg = f"{item.member} in {item.source} has {len(data)} bytes; expected a head scan: download it again"
        raise InputError(msg)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=4, mtime=0) as compressed:
        compressed.write(data)
    return buffer.getvalue()


def _refuse(target: Path, source: Path) -> None:
    msg = f"{target} is there already and is not {source}: choose an empty folder, or remove it"
    raise OutputError(msg)


def _write_same(path: Path, content: bytes) -> None:
    """Write a small file unless it has the same content already."""
    if not path.is_file() or path.read_bytes() != content:
        _make_folder(path.parent)
        write_atomically(path, content, force=True)


def _as_tsv(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: value or NOT_AVAILABLE for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _described(plan: Plan) -> bytes:
    content = {"Name": plan.name, "BIDSVersion": BIDS_VERSION, "DatasetType": "raw", **plan.description}
    return (json.dumps(content, indent=2) + "\n").encode()
