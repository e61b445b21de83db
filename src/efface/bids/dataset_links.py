"""Where the scans of a study came from, without absolute paths: BIDS URIs, and links from the study to its data set.

A source is named ``bids:raw:sub-01/anat/sub-01_T1w.nii.gz``. ``DatasetLinks`` of the study's dataset_description.json
says where ``raw`` is, relative to the study, so that both can be moved together. Where a relative path would spell out
an absolute one or name the user, the link is `UNLINKED`, and the place of the data set is noted for this user on this
machine only, outside the study.
"""

import contextlib
import getpass
import hashlib
import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlparse

from efface.bids.derivatives import GroupPaths, recipe_of
from efface.errors import OutputError
from efface.io.atomic import as_private_as, write_atomically
from efface.io.json_files import read_object

log = logging.getLogger(__name__)

RAW = "raw"
"""Name of the data set in BIDS URIs of a study."""
UNLINKED = "sourcedata/raw"
"""The link where none can be given: the place that BIDS has for a copy of the data set, or a link to it."""
RAW_URI = f"bids:{RAW}:"


def uri_of(path: Path, bids_dir: Path) -> str:
    """Name a file of the data set by its BIDS URI."""
    for file, root in ((path, bids_dir), (path.resolve(), bids_dir.resolve())):
        if file.is_relative_to(root):
            return f"{RAW_URI}{file.relative_to(root).as_posix()}"
    return f"{RAW_URI}{path.name}"


def link_to(bids_dir: Path, out_dir: Path) -> str:
    """Return the link from a study to its data set, a relative URI; `UNLINKED` where it would tell too much.

    Parameters
    ----------
    bids_dir, out_dir
        The data set, and the study's output folder.
    """
    raw, out = bids_dir.resolve(), out_dir.resolve()
    try:
        relative = PurePosixPath(Path(os.path.relpath(raw, out)).as_posix())
    except ValueError:  # another drive
        return UNLINKED
    named = [part for part in relative.parts if part != ".."]
    from_root = len(relative.parts) - len(named) >= len(out.parts) - 1
    if (from_root and len(named) > 1) or _names_of_here() & set(named):
        return UNLINKED
    return quote(str(relative))


def raw_folder(out_dir: Path) -> Path | None:
    """Return where the data set of a study is, by its description or by the note of this machine; None if unknown."""
    links = read_object(GroupPaths(out_dir).description).get("DatasetLinks")
    link = links.get(RAW) if isinstance(links, Mapping) else None
    if not isinstance(link, str) or not link:
        return None
    note = _note_of(out_dir)
    noted = read_object(note).get(RAW) if link == UNLINKED and note is not None else None
    if isinstance(noted, str):
        return Path(noted)
    address = urlparse(link)
    if address.scheme not in ("", "file"):
        return None
    place = Path(unquote(address.path))
    return place if place.is_absolute() else Path(os.path.normpath(out_dir.resolve() / place))


def original_of(defaced: Path, out_dir: Path) -> tuple[Path | None, str]:
    """Return the scan that a defaced scan of a study was made from, or None and why it is not known.

    The file need not be there. Studies of earlier versions, which name it by its path, are read too.
    """
    sources = read_object(recipe_of(defaced)).get("Sources")
    if not isinstance(sources, list) or not sources or not isinstance(sources[0], str):
        return None, "the recipe beside the defaced scan does not name its original"
    source: str = sources[0]
    if not source.startswith("bids:"):
        return Path(source), ""
    inside = PurePosixPath(source.removeprefix(RAW_URI))
    if not source.startswith(RAW_URI) or inside.is_absolute() or ".." in inside.parts:
        return None, f"the original {source} is not in the data set of this study"
    folder = raw_folder(out_dir)
    if folder is None:
        return None, f"DatasetLinks of {GroupPaths(out_dir).description} does not say where {RAW} is: correct it"
    return folder / inside, ""


def note_place(bids_dir: Path, out_dir: Path) -> None:
    """Note for this user on this machine where the data set of a study is, if the study itself cannot say it."""
    note, why = _note_of(out_dir), "there is no home folder"
    if link_to(bids_dir, out_dir) != UNLINKED:
        with contextlib.suppress(OSError):
            if note is not None:
                note.unlink(missing_ok=True)
        return
    if note is not None:
        try:
            note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with as_private_as([], owner_only=True):
                content = json.dumps({RAW: str(bids_dir.resolve())})
                write_atomically(note, f"{content}\n".encode(), force=True)
        except (OSError, OutputError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "not writable"
        else:
            return
    log.warning(
        "the place of the data set cannot be noted (%s): to review, link the data set at %s in the study's folder",
        why,
        UNLINKED,
    )


def _note_of(out_dir: Path) -> Path | None:
    """Where the place of a study's data set is noted; None for a user without a home folder, as in some containers."""
    home = home_folder()
    state = os.environ.get("XDG_STATE_HOME") or (home and home / ".local" / "state")
    if not state:
        return None
    name = hashlib.sha256(os.fsencode(out_dir.resolve())).hexdigest()[:16]
    return Path(state, "efface", f"{name}.json")


def home_folder() -> Path | None:
    """Return the user's home folder; None where the system knows none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _names_of_here() -> set[str]:
    """Names of the user and of the machine, as folders are called after them."""
    home = home_folder()
    names = {platform.node(), platform.node().partition(".")[0], home.name if home else ""}
    with contextlib.suppress(OSError, KeyError, ImportError):
        names.add(getpass.getuser())
    return {name for name in names if name}
