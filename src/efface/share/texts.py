"""Text and tables of a data set as they are shared: copied, without dates, without what was withheld."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from efface._version import __version__
from efface.bids.dataset_links import RAW, link_to
from efface.errors import InputError
from efface.io.atomic import as_private_as, copy_atomically, make_folder, write_atomically
from efface.io.deidentify import SCRUB
from efface.io.json_files import parse_json, read_object
from efface.io.sidecar import PLAIN_KEY, UNNAMED, Sidecar
from efface.io.sidecar_keys import is_acquisition_parameter
from efface.share import dates
from efface.share.head_image import file_sha256
from efface.share.inventory import Found, Kind
from efface.share.publish import is_sidecar_of
from efface.share.records import HOME, Became, FileRow
from efface.share.settings import ShareSettings
from efface.share.subject_days import SubjectDays

HOMEPAGE = "https://doi.org/10.1117/12.2613175"
BIDS_VERSION = "1.10.0"
VERSION = re.compile(r"^(\d+)\.(\d+)\.(\d+)\b")
MARK = "Faces removed by efface"
_OF_TABLES = ("Columns", "SamplingFrequency", "StartTime", "PhysioType")
"""What else is said of a table without its columns' names in it."""
MOVED = "dates moved by one number of days for this subject; what could not be moved is n/a"
_EXTRA = ("recording", "echo", "part")
"""Entities that a table has more or fewer than the images that it goes with."""


@dataclass(frozen=True)
class Texts:
    """Writes the text files of a data set.

    Attributes
    ----------
    settings
        Of the run.
    images
        What became of every image, by its path.
    days
        By how many days the dates of each subject move.
    """

    settings: ShareSettings
    images: Mapping[str, FileRow]
    days: SubjectDays

    def share(self, found: Found, siblings: Sequence[Found]) -> FileRow:
        """Share one file that is no image.

        Parameters
        ----------
        found
            The file.
        siblings
            Images in the same folder.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        why = self._withheld_with(found, siblings)
        source, out = self.settings.bids_dir / found.path, self.settings.out_dir / found.path
        if why:
            out.unlink(missing_ok=True)
            return FileRow(found.path, Became.WITHHELD, why)
        try:
            before = file_sha256(source)
            content, reason = self._content(found, source, out)
        except (InputError, OSError) as error:
            out.unlink(missing_ok=True)
            words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return FileRow(found.path, Became.WITHHELD, f"cannot be shared: {words}")
        make_folder(out.parent)
        with as_private_as([source]):
            if content is None:
                if not (out.is_file() and file_sha256(out) == before):
                    out.unlink(missing_ok=True)
                    copy_atomically(source.resolve(), out)
            elif not (out.is_file() and out.read_bytes() == content):
                write_atomically(out, content, force=True)
        return FileRow(found.path, Became.COPIED, reason, sha256_before=before, sha256_after=file_sha256(out))

    def _withheld_with(self, found: Found, siblings: Sequence[Found]) -> str:
        """Why a file is not shared because of the image that it goes with; empty where it is."""
        mine = [one for one in siblings if is_sidecar_of(found, one)]
        if not mine and found.datatype in ("func", "perf", "pet") and ".tsv" in found.name:
            plain = _plain(found)
            mine = [one for one in siblings if _plain(one) == plain]
        if mine and all(self.images[one.path].outcome is not Became.DEFACED
                        and self.images[one.path].outcome is not Became.COPIED for one in mine):  # fmt: skip
            return f"{mine[0].name} is not shared"
        return ""

    def _content(self, found: Found, source: Path, out: Path) -> tuple[bytes | None, str]:
        """New content, None for the file as it is, and what was changed."""
        if found.kind is Kind.SIDECAR:
            return self._inherited(source, out)
        if found.kind is Kind.PARTICIPANTS:
            return self._participants(source, out)
        if found.kind in (Kind.SCANS, Kind.SESSIONS):
            return self._dated(found, source, out)
        if found.name.endswith(".tsv"):
            is_by_subject = not found.subject and _bare((dates.read_table(source.read_bytes()) or [[""]])[0][0])
            if is_by_subject == "participant_id":  # phenotype
                return self._participants(source, out)
            return self._table(found, source)
        if found.name.endswith(".json") and self.settings.header == SCRUB:
            return self._dictionary(source)
        return None, ""

    def _inherited(self, source: Path, out: Path) -> tuple[bytes, str]:
        """A JSON of several images, without what may name a person."""
        made = Sidecar.of(source, out, self.settings.header, self.settings.sidecar_keep)
        if made.warnings:
            raise InputError(made.warnings[0])
        content = dict(made.content)
        gone: list[str] = []
        if self.settings.dates != dates.KEEP:
            content, gone = dates.undated(content)
        removed = [*made.removed, *gone]
        reason = f"removed {', '.join(removed)}" if removed else ""
        return (json.dumps(content, indent=2) + "\n").encode(), reason

    def _dictionary(self, source: Path) -> tuple[bytes | None, str]:
        """A JSON that describes a table: its columns stay, and of what else it says only acquisition parameters."""
        try:
            content = parse_json(source.read_bytes())
        except ValueError as error:
            msg = f"it is no JSON ({error})"
            raise InputError(msg) from error
        if not isinstance(content, dict):
            return None, ""
        wanted = (*_OF_TABLES, *self.settings.sidecar_keep)
        kept = {
            key: value
            for key, value in content.items()
            if isinstance(value, dict) or key in wanted or is_acquisition_parameter(key, value)
        }
        if len(kept) == len(content):
            return None, ""
        gone = dict.fromkeys(key if PLAIN_KEY.fullmatch(key) else UNNAMED for key in content if key not in kept)
        return _json(kept), f"removed {', '.join(gone)}"

    def _participants(self, source: Path, out: Path) -> tuple[bytes, str]:
        """Rows of subjects of whom something is shared; columns of dates are removed or kept as elsewhere."""
        table = dates.read_table(source.read_bytes())
        if not table or _bare(table[0][0]) != "participant_id":
            msg = "its first column is not participant_id: give it a header"
            raise InputError(msg)
        there = {path.name for path in self.settings.out_dir.glob("sub-*") if path.is_dir()}
        kept = [row for row in table[1:] if f"sub-{_bare(row[0]).removeprefix('sub-')}" in there]
        left = len(table) - 1 - len(kept)
        table = [*table[:1], *kept]
        words = [f"{left} subjects of whom nothing is shared left out" if left > 0 else ""]
        if self.settings.dates != dates.KEEP:  # of a table of all subjects, dates cannot be moved by subject
            table, gone = dates.without_dates(table)
            words.append(f"removed {', '.join(gone)}" if gone else "")
        return dates.write_table(table), "; ".join(filter(None, words))

    def _table(self, found: Found, source: Path) -> tuple[bytes | None, str]:
        """Any other table: as it is where no column holds dates."""
        table = dates.read_table(source.read_bytes())
        if self.settings.dates == dates.KEEP or not dates.dated_columns(table):
            return None, ""
        if self.settings.dates == dates.SHIFT and found.subject:
            return dates.write_table(dates.shifted(table, self.days.of(found.subject))), MOVED
        table, gone = dates.without_dates(table)
        return dates.write_table(table), f"removed {', '.join(gone)}"

    def _dated(self, found: Found, source: Path, out: Path) -> tuple[bytes, str]:
        """A table of scans or sessions: rows of what is shared, dates removed, moved or kept."""
        table = dates.read_table(source.read_bytes())
        words = []
        if found.kind is Kind.SCANS:
            kept = [row for row in table[1:] if (out.parent / _bare(row[0])).is_file()]
            words.append(f"{len(table) - 1 - len(kept)} files that are not shared left out")
            words = words if len(kept) < len(table) - 1 else []
        else:
            kept = [row for row in table[1:] if (out.parent / f"ses-{_bare(row[0]).removeprefix('ses-')}").is_dir()]
            words.append(f"{len(table) - 1 - len(kept)} sessions of which nothing is shared left out")
            words = words if len(kept) < len(table) - 1 else []
        table = [*table[:1], *kept]
        if self.settings.dates == dates.REMOVE:
            table, gone = dates.without_dates(table)
            words += [f"removed {', '.join(gone)}"] if gone else []
        elif self.settings.dates == dates.SHIFT and dates.dated_columns(table):
            table = dates.shifted(table, self.days.of(found.subject))
            words.append(MOVED)
        return dates.write_table(table), "; ".join(words)

    def description(self) -> bytes:
        """``dataset_description.json``: what it was, with what made this copy and a link to what it was made from."""
        content = read_object(self.settings.bids_dir / "dataset_description.json")
        made = {"Name": "efface", "Version": __version__, "CodeURL": HOMEPAGE,
                "Description": f"faces removed by {self.settings.method}, re-implemented in efface"}  # fmt: skip
        earlier = content.get("GeneratedBy")
        kept = [one for one in earlier if isinstance(one, dict)] if isinstance(earlier, list) else []
        links = content.get("DatasetLinks")
        content = {
            "Name": "", "BIDSVersion": BIDS_VERSION, **content, "DatasetType": "raw",
            "GeneratedBy": [*(one for one in kept if one.get("Name") != "efface"), made],
            "DatasetLinks": {
                **(links if isinstance(links, dict) else {}),
                RAW: link_to(self.settings.bids_dir, self.settings.out_dir),
            },
        }  # fmt: skip
        content["Name"] = content["Name"] or self.settings.out_dir.resolve().name
        return _json(content)

    def changes(self) -> bytes:
        """``CHANGES`` with one more entry; the one that an earlier run made stays as it is."""
        path = self.settings.bids_dir / "CHANGES"
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        there = self.settings.out_dir / "CHANGES"
        now = there.read_text(encoding="utf-8", errors="replace") if there.is_file() else ""
        line = f"  - {MARK} {__version__} ({self.settings.method}); {HOME}/shared.tsv lists every file.\n"
        if line in now and now.endswith(before):
            return now.encode()
        match = VERSION.match(before)
        version = f"{match[1]}.{match[2]}.{int(match[3]) + 1}" if match else "1.0.0"
        day = datetime.now(UTC).date().isoformat()
        return f"{version} {day}\n{line}{before}".encode()


def _plain(found: Found) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((k, v) for k, v in found.entities.items() if k not in _EXTRA))


def _bare(cell: str) -> str:
    """A cell without quotes and blanks around it."""
    return cell.strip().strip('"').strip()


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


def derivative_description() -> bytes:
    """Description of the folder of records."""
    return _json(
        {
            "Name": "efface: what became of each file", "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "efface", "Version": __version__}],
            "DatasetLinks": {"shared": str(PurePosixPath("..") / "..")},
        }
    )  # fmt: skip
