"""Text of a study that may be shared: no absolute path, and so no folder, user or project of the machine, is in it."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from efface.bids.dataset_links import RAW_URI, home_folder

OUT_URI = "bids::"
_END = r"\s:;,'\"()<>|"
PATHS = re.compile(
    rf"(?<![\w:/.~\\-])(?:~|\.\.|[A-Za-z]:)?(?:/[^{_END}/]+)+/?"  # /home/me/x, ~/x, ../x, C:/x
    r"|(?<!\w)[A-Za-z]:\\[^\s:;,'\"()<>|]+"  # C:\Users\me\x
)
"""Paths in a text that are not relative to the working folder; only their last part stays."""


def shareable(value: Any, *, bids_dir: Path, out_dir: Path) -> Any:
    """Remove absolute paths from what a study writes: BIDS URIs replace those in data set and study, names all others.

    Parameters
    ----------
    value
        Text, or what JSON can hold; mappings and lists are looked through. Other objects become text.
    bids_dir, out_dir
        The data set, and the study's output folder.
    """
    if isinstance(value, Mapping):
        return {str(key): shareable(item, bids_dir=bids_dir, out_dir=out_dir) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shareable(item, bids_dir=bids_dir, out_dir=out_dir) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    for folder, uri in sorted(
        ((form, uri) for root, uri in ((bids_dir, RAW_URI), (out_dir, OUT_URI)) for form in _forms(root)),
        key=lambda pair: -len(pair[0]),
    ):
        text = re.sub(rf"(?<![\w./~-]){re.escape(folder)}(?:{re.escape(os.sep)}|(?![\w./-]))", uri, text)
    return without_paths(text, (*bids_dir.absolute().parents, *out_dir.absolute().parents))


def without_paths(text: str, known: Iterable[Path] = ()) -> str:
    """Leave of each path in a text that is not relative to the working folder its last part only.

    Parameters
    ----------
    text
        Any text.
    known
        Folders whose paths may hold blanks, by which a path in a text cannot be told from the words around it.
    """
    if _is_there(text):
        return Path(text).name
    folders = {str(folder) for folder in (*known, *_folders_of_here())}
    for folder in sorted(folders, key=len, reverse=True):
        if len(Path(folder).parts) > 1:
            text = text.replace(f"{folder}{os.sep}", "/")
    return PATHS.sub(lambda found: PureWindowsPath(found[0]).name, text)


def _folders_of_here() -> list[Path]:
    here = [Path(tempfile.gettempdir()), home_folder()]
    with contextlib.suppress(FileNotFoundError):  # the working folder is gone
        here.append(Path.cwd())
    return [folder for folder in here if folder is not None]


def names_only(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a method or a segmenter, of files and folders only the names."""
    return {name: _name(value) for name, value in params.items()}


def _name(value: Any) -> Any:
    if isinstance(value, Path) or (isinstance(value, str) and (os.sep in value or "/" in value)):
        return Path(value).name
    return value


def _forms(root: Path) -> set[str]:
    """How a folder may be spelled in a message; a bare word is no path."""
    forms = {str(root), str(root.absolute()), str(root.resolve())}
    return {form for form in forms if os.sep in form and form != os.sep}


def _is_there(text: str) -> bool:
    """Whether a whole text is the path of something."""
    try:
        return Path(text).is_absolute() and Path(text).exists()
    except (OSError, ValueError):
        return False
