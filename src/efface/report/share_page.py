"""The report of a shared data set: what became of each file, with a slice of each defaced image. No undefaced face."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from efface._version import __version__
from efface.io.atomic import write_atomically
from efface.io.json_files import read_object
from efface.quality import SingledOut
from efface.share.publish import picture_path
from efface.share.records import HOME, REPORT, Became, FileRow, ImageRecord, read_record, read_table

MOST_PICTURES = 400
"""With more images the page would not open; the pictures of the first ones are shown."""


@dataclass(frozen=True)
class SharedImage:
    """One image as the page shows it."""

    row: FileRow
    answer: str
    score: str
    warnings: tuple[str, ...]
    picture: str
    person: str


def build_share_page(out_dir: Path) -> Path:
    """Write ``derivatives/efface/report.html`` from the records of a shared data set.

    Parameters
    ----------
    out_dir
        The shared data set; only what lies in it is read.

    Raises
    ------
    InputError
        If it has no table of what was shared.
    OutputError
        If the page cannot be written.
    """
    rows = read_table(out_dir)
    images = [_image(out_dir, record, with_picture=i < MOST_PICTURES) for i, record in enumerate(_records(out_dir))]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("efface.report", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    counts = {outcome.value: sum(row.outcome is outcome for row in rows) for outcome in Became}
    page = environment.get_template("share.html.j2").render(
        name=str(read_object(out_dir / "dataset_description.json").get("Name", "")),
        version=__version__,
        counts=counts,
        withheld=[row for row in rows if row.outcome is Became.WITHHELD],
        images=[one for one in images if one.row.outcome is not Became.WITHHELD],
        left_out=[row for row in rows if row.outcome is Became.LEFT_OUT],
        most_pictures=MOST_PICTURES,
    )
    write_atomically(out_dir / REPORT, page.encode(), force=True)
    return out_dir / REPORT


def _records(out_dir: Path) -> Iterator[ImageRecord]:
    for path in sorted((out_dir / HOME).rglob("*_shared.json")):
        record = read_record(path)
        yield from record.images if record else ()


def _image(out_dir: Path, record: ImageRecord, *, with_picture: bool) -> SharedImage:
    left: Any = record.evidence.get("left_face")
    left = left if isinstance(left, dict) else {}
    score = left.get("score")
    is_shown = with_picture and record.row.outcome in (Became.DEFACED, Became.COPIED)
    return SharedImage(
        record.row,
        str(left.get("answer", "")),
        f"{score:.2f}" if isinstance(score, float) else "",
        record.warnings,
        _picture(out_dir, record) if is_shown else "",
        _person(record),
    )


def _person(record: ImageRecord) -> str:
    """Whether what is left singles the person out, in words; empty where it was not asked."""
    quality: Any = record.evidence.get("quality")
    found = quality.get("singled_out") if isinstance(quality, dict) else None
    return SingledOut(found["rank"], found["among"], found["reason"]).sentence if found else ""


def _picture(out_dir: Path, record: ImageRecord) -> str:
    """A sagittal slice of the shared image with its edit in colour, as a data URI; empty where there is none."""
    try:
        jpeg = (out_dir / picture_path(record.row.path)).read_bytes()
    except OSError:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
