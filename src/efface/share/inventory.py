"""Every file of a BIDS data set, and what it is to `efface share`: no file is opened here.

What is no raw BIDS is left out: folders that BIDS leaves to the user, names that BIDS does not know, recordings whose
headers efface cannot read.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from efface.bids.bidsignore import load_bidsignore
from efface.bids.query import DERIVED
from efface.errors import InputError
from efface.io.absent_content import why_absent

NO_RAW = ("sourcedata", "derivatives", "code", "stimuli")
"""Folders at the root that BIDS leaves to the user."""
IMAGES = (".nii.gz", ".nii")
SCANNED = ("anat", "func", "dwi", "fmap", "perf", "pet", "mrs")
"""Data types whose files efface can look into."""
BEHAVIOUR = "beh"
RECORDED = ("eeg", "ieeg", "meg", "nirs", "motion", "micr", "emg")
"""Data types of recordings whose headers can name people; places of electrodes and landmarks measure a head."""
TEXT = (".json", ".tsv", ".tsv.gz", ".bval", ".bvec")
ROOT_TEXT = (".json", ".tsv", ".md", ".rst", ".txt", ".cff")
ROOT_NAMES = ("README", "CHANGES", "LICENSE", ".bidsignore")
MASKS = ("defacemask", "mask", "dseg", "probseg")
"""Images of voxels that were chosen: one made by hand or by another program can follow the skin."""
MISNAMED = "no raw BIDS name in this folder (expected sub- and ses- as its folders have them, entities, a suffix)"
ENTITY = r"[a-zA-Z]+-[A-Za-z0-9+]+"
NAME = re.compile(rf"(?P<entities>{ENTITY}(?:_{ENTITY})*)_(?P<suffix>[A-Za-z0-9]+)(?P<ending>\.[A-Za-z0-9.]+)")
INHERITED = re.compile(rf"(?:{ENTITY}_)*[A-Za-z0-9]+\.json")
IMAGE_SUFFIXES = frozenset(
    (
        "T1w", "T2w", "FLAIR", "PDw", "PDT2", "T2starw", "inplaneT1", "inplaneT2", "angio", "UNIT1", "MP2RAGE", "MEGRE",
        "MESE", "VFA", "IRT1", "MPM", "MTR", "MTS", "T1map", "T2map", "T2starmap", "R1map", "R2map", "R2starmap",
        "PDmap", "MTRmap", "MTsat", "MTVmap", "MWFmap", "Chimap", "M0map", "S0map", "RB1map", "TB1map", "bold", "cbv",
        "sbref", "noRF", "dwi", "asl", "m0scan", "epi", "fieldmap", "magnitude", "magnitude1", "magnitude2", "phase",
        "phase1", "phase2", "phasediff", "pet", "svs", "mrsi",
    )
)  # fmt: skip
"""Suffixes of files whose JSON holds parameters of an acquisition."""


class Kind(StrEnum):
    """What a file of the data set is."""

    IMAGE = "image"
    SIDECAR = "sidecar"
    TEXT = "text"
    SCANS = "scans table"
    SESSIONS = "sessions table"
    PARTICIPANTS = "participants table"
    DESCRIPTION = "description"
    CHANGES = "changes"
    ALSO = "taken along"
    LEFT_OUT = "left out"
    ABSENT = "absent"


@dataclass(frozen=True)
class Found:
    """One file of the data set.

    Attributes
    ----------
    path
        Relative to the data set, with ``/``; of a folder of version control, the folder, with ``/`` at its end.
    kind
        What it is.
    reason
        Why it is left out or absent.
    """

    path: str
    kind: Kind
    reason: str = ""

    @property
    def name(self) -> str:
        """File name."""
        return PurePosixPath(self.path).name

    @property
    def folder(self) -> str:
        """Folder relative to the data set."""
        return str(PurePosixPath(self.path).parent)

    @property
    def datatype(self) -> str:
        """Name of the folder that it lies in."""
        return PurePosixPath(self.path).parent.name

    @property
    def subject(self) -> str:
        """Label without ``sub-``; empty for a file of the whole data set."""
        return _label(self.path.split("/", 1)[0], "sub-")

    @property
    def session(self) -> str:
        """Label without ``ses-``; empty where there is none."""
        parts = self.path.split("/")
        return _label(parts[1], "ses-") if self.subject and len(parts) > 2 else ""

    @property
    def suffix(self) -> str:
        """BIDS suffix, for example ``T1w``; empty where the name is no BIDS name."""
        return self.name.partition(".")[0].rpartition("_")[2]

    @property
    def entities(self) -> dict[str, str]:
        """Entities of the name by their short names."""
        pairs = self.name.partition(".")[0].split("_")[:-1]
        return dict(pair.split("-", 1) for pair in pairs if "-" in pair)


def take_inventory(bids_dir: Path, also: Sequence[str] = ()) -> list[Found]:
    """List every file of a data set, in the order of the paths.

    Parameters
    ----------
    bids_dir
        Root of the data set. Links are followed; a folder is looked into once.
    also
        Files and folders, relative to the root, that are taken along whatever they are.

    Raises
    ------
    InputError
        If a path of `also` does not exist or leads out of the data set, or a folder cannot be read.
    """
    taken = [_inside(bids_dir, path) for path in also]
    is_ignored = load_bidsignore(bids_dir)
    found = [_found(bids_dir, path, taken, is_ignored) for path in _walk(bids_dir, "", set())]
    return sorted(found, key=lambda one: one.path)


def _inside(bids_dir: Path, path: str) -> str:
    relative = os.path.normpath(path)
    if Path(relative).is_absolute() or relative.startswith("..") or not os.path.lexists(bids_dir / relative):
        msg = f"--also {path} is not in {bids_dir}: give a path relative to the data set, for example code"
        raise InputError(msg)
    return PurePosixPath(relative).as_posix()


def _walk(root: Path, inner: str, seen: set[str]) -> Iterator[str]:
    """Paths of all files, relative; folders of version control as one, with a slash at the end."""
    real = os.path.realpath(root / inner)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(root / inner), key=lambda entry: entry.name)
    except OSError as error:
        msg = f"{error.filename} cannot be read ({error.strerror}): check its permissions"
        raise InputError(msg) from error
    for entry in entries:
        path = f"{inner}/{entry.name}" if inner else entry.name
        if not entry.is_dir():
            yield path
        elif entry.name in (".git", ".datalad", ".svn", ".hg"):
            yield f"{path}/"
        else:
            yield from _walk(root, path, seen)


def _found(bids_dir: Path, path: str, also: Sequence[str], is_ignored: Callable[[str], bool] | None) -> Found:
    if path.endswith("/"):
        return Found(path, Kind.LEFT_OUT, "version control")
    absent = _why_not_there(bids_dir / path)
    if any(path == one or path.startswith(f"{one}/") for one in also):
        return Found(path, Kind.ABSENT, absent) if absent else Found(path, Kind.ALSO, "asked for by --also")
    first = path.split("/", 1)[0]
    if first in NO_RAW and first != path:
        return Found(path, Kind.LEFT_OUT, f"{first}/ is no raw BIDS (--also takes it along)")
    if is_ignored is not None and is_ignored(path):
        return Found(path, Kind.LEFT_OUT, "ignored by .bidsignore")
    kind, reason = _of_subject(Found(path, Kind.TEXT)) if first.startswith("sub-") else _of_data_set(path)
    if absent and kind is not Kind.LEFT_OUT:
        return Found(path, Kind.ABSENT, absent)
    return Found(path, kind, reason)


def _why_not_there(path: Path) -> str:
    if absent := why_absent(path):
        return absent.replace(str(path), path.name)
    if not path.exists():
        return "is a link to a file that is not there: mend the link"
    return "" if path.is_file() else "is no regular file: remove it"


def _of_data_set(path: str) -> tuple[Kind, str]:
    """A file outside the folders of the subjects."""
    name = path.rsplit("/", 1)[-1]
    if "/" in path:
        if path.startswith("phenotype/") and path.count("/") == 1 and name.endswith((".tsv", ".json")):
            return Kind.TEXT, ""
        return Kind.LEFT_OUT, "no raw BIDS"
    special = {
        "dataset_description.json": Kind.DESCRIPTION,
        "participants.tsv": Kind.PARTICIPANTS,
        "CHANGES": Kind.CHANGES,
    }
    if name in special:
        return special[name], ""
    if name.endswith(".json") and _is_image_suffix(name):
        return Kind.SIDECAR, ""
    if name in ROOT_NAMES or (name.endswith(ROOT_TEXT) and not name.startswith(".")):
        return Kind.TEXT, ""
    return Kind.LEFT_OUT, "no raw BIDS"


def _of_subject(file: Found) -> tuple[Kind, str]:
    """A file in the folder of a subject."""
    depth = 2 + bool(file.session)
    parts = file.path.split("/")
    match = NAME.fullmatch(file.name)
    entities = file.entities
    own = entities.get("sub") == file.subject and (entities.get("ses") or "") == file.session
    if match is None or not own or len(parts) not in (depth, depth + 1):
        return Kind.LEFT_OUT, MISNAMED
    ending = match["ending"]
    if len(parts) == depth:
        return _table_of_subject(file, ending)
    if file.datatype in RECORDED:
        return Kind.LEFT_OUT, "efface does not look into recordings (--also takes it along)"
    if file.datatype not in (*SCANNED, BEHAVIOUR):
        return Kind.LEFT_OUT, f"{file.datatype}/ is no data type of BIDS"
    if made := [name for name in DERIVED if name in entities]:
        return Kind.LEFT_OUT, f"{made[0]}-: made of a scan"
    if ending in IMAGES:
        if file.suffix in MASKS:
            return Kind.LEFT_OUT, "a mask can show the face; efface writes its own"
        return (Kind.IMAGE, "") if file.datatype in SCANNED else (Kind.LEFT_OUT, "efface does not look into it")
    if ending not in TEXT:
        return Kind.LEFT_OUT, "efface does not look into it (--also takes it along)"
    return (Kind.SIDECAR, "") if ending == ".json" and _is_image_suffix(file.name) else (Kind.TEXT, "")


def _table_of_subject(file: Found, ending: str) -> tuple[Kind, str]:
    if file.suffix == "scans" and ending == ".tsv":
        return Kind.SCANS, ""
    if file.suffix == "sessions" and ending == ".tsv" and not file.session:
        return Kind.SESSIONS, ""
    if ending == ".json":
        return (Kind.SIDECAR, "") if _is_image_suffix(file.name) else (Kind.TEXT, "")
    return Kind.LEFT_OUT, MISNAMED


def _is_image_suffix(name: str) -> bool:
    return INHERITED.fullmatch(name) is not None and name.removesuffix(".json").rpartition("_")[2] in IMAGE_SUFFIXES


def _label(folder: str, prefix: str) -> str:
    return folder.removeprefix(prefix) if folder.startswith(prefix) else ""
