"""What became of each file of a data set: one row a file, and the record of one session."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.io.atomic import make_folder, write_atomically
from efface.io.json_files import read_object
from efface.study.records import NOT_AVAILABLE, cell

HOME = "derivatives/efface"
"""Where the record of a shared data set is, relative to it."""
TABLE, REPORT = f"{HOME}/shared.tsv", f"{HOME}/report.html"


class Became(StrEnum):
    """What became of a file."""

    DEFACED = "defaced"
    COPIED = "copied"
    WITHHELD = "withheld"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class FileRow:
    """One file of the data set.

    Attributes
    ----------
    path
        Relative to the data set.
    outcome
        What became of it.
    reason
        Why, in one line; for a copied image, why it needs no edit.
    verdict
        Of the quality check; empty where there was none.
    method
        Which one removed the face; empty where none did.
    sha256_before, sha256_after
        Of the file as it is on the disk, in the data set and as it was shared; empty where there is none.
    singled_out
        Number of the original among 1,001 faces, by what is left of its face (1 is the person, in the middle is
        nobody): evidence, no verdict. ``n/a`` where nothing is left to compare, empty where it was not compared.
    """

    path: str
    outcome: Became
    reason: str = ""
    verdict: str = ""
    method: str = ""
    sha256_before: str = ""
    sha256_after: str = ""
    singled_out: str = ""


COLUMNS = tuple(one.name for one in fields(FileRow))


@dataclass(frozen=True)
class ImageRecord:
    """What is known of one image besides its row.

    Attributes
    ----------
    row
        Of the image.
    outputs
        Files that were written for it, relative to the shared data set.
    evidence
        Of the checks, for the report and the review: numbers and words, no picture.
    warnings
        For the user.
    edit
        Path of the mask of the edit, relative to the shared data set, and the intensity of what was removed; empty
        where nothing was to be removed.
    candidate
        Fingerprint of what is or would be shared: a vote holds for it.
    """

    row: FileRow
    outputs: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    edit: Mapping[str, Any] = field(default_factory=dict)
    candidate: str = ""


@dataclass(frozen=True)
class SessionRecord:
    """What became of the images of one session.

    Attributes
    ----------
    recipe
        What decides it: settings, versions, size and time of every file.
    images
        One for each image.
    rows
        Of the files that go with them.
    """

    recipe: Mapping[str, Any]
    images: tuple[ImageRecord, ...]
    rows: tuple[FileRow, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Files that were written for the session, relative to the shared data set."""
        return tuple(path for image in self.images for path in image.outputs)


def record_path(out_dir: Path, subject: str, session: str) -> Path:
    """Where the record of a session is."""
    folder = out_dir / HOME / f"sub-{subject}"
    name = f"sub-{subject}_ses-{session}" if session else f"sub-{subject}"
    return (folder / f"ses-{session}" if session else folder) / f"{name}_shared.json"


def write_record(path: Path, record: SessionRecord) -> None:
    """Write the record of a session; until it is there, the session counts as not done."""
    make_folder(path.parent)
    write_atomically(path, (json.dumps(asdict(record), indent=1) + "\n").encode(), force=True)


def read_record(path: Path) -> SessionRecord | None:
    """Read the record of a session; None where there is none, or it cannot be read."""
    content = read_object(path)
    try:
        images = tuple(
            ImageRecord(
                _row(one["row"]), tuple(one["outputs"]), one["evidence"], tuple(one["warnings"]), one["edit"],
                one["candidate"],
            )
            for one in content["images"]
        )  # fmt: skip
        return SessionRecord(content["recipe"], images, tuple(map(_row, content["rows"])))
    except (KeyError, TypeError, ValueError):
        return None


def _row(content: Mapping[str, Any]) -> FileRow:
    return FileRow(**{**content, "outcome": Became(content["outcome"])})


def table_bytes(rows: Iterable[FileRow]) -> bytes:
    """``shared.tsv``: one line a file, in the order of the paths."""
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(cell(getattr(row, name)) for name in COLUMNS) for row in sorted(rows, key=lambda r: r.path)]
    return ("\n".join(lines) + "\n").encode(errors="backslashreplace")


def read_table(out_dir: Path) -> list[FileRow]:
    """Rows of ``shared.tsv``.

    Raises
    ------
    InputError
        If the folder was not made by `efface share`, or the table cannot be read.
    """
    path = out_dir / TABLE
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        if header.split("\t") != list(COLUMNS):
            raise ValueError(header)
        rows = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]
        return [_row({k: "" if v == NOT_AVAILABLE else v for k, v in row.items()}) for row in rows]
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: make it with `efface share BIDS_DIR {out_dir}`"
        raise InputError(msg) from error


def is_shared(folder: Path) -> bool:
    """Whether a folder was made by `efface share`."""
    return (folder / TABLE).is_file()
