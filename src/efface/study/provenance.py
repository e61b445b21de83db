"""Recipes: the JSON file beside every result that says how it was made and decides whether it must be made again."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from efface import segmentation
from efface._version import __version__
from efface.anatomy import second_registration
from efface.bids.derivatives import recipe_of
from efface.bids.query import T1wScan
from efface.defacing import external
from efface.errors import EffaceError
from efface.io.atomic import write_atomically
from efface.io.json_files import read_object

KEY, STATE = "Recipe", "InputState"
"""Keys of the JSON: what decides a result; and size and time of its input, to recognise the file without opening it."""
ATTEMPTED = "Attempted"
"""Key of the JSON beside a table in which something failed: the settings of that run. The table counts as not made."""
UNFINISHED: Mapping[str, Any] = {"Status": "unfinished", KEY: {}}
NOT_INSTALLED = "not installed"
DATA = Path(__file__).parents[1] / "data"
DEFACING_FILES = ("*.pt", "*.nii.gz")
"""The networks that find facial landmarks and the pose of the head, and the priors."""
_PACKAGES = ("picsl-greedy", "deepbet", "pydeface", "deepmriprep", "SimpleITK", "torch", "scipy", "numpy")


@functools.cache
def versions() -> Mapping[str, str]:
    """Versions of efface and of the packages whose code or data decide a result; niimath where it is installed."""
    second = second_registration.installed_version()
    found = {"efface": __version__, **{name: metadata.version(name) for name in _PACKAGES}}
    return {**found, second_registration.PACKAGE: second} if second else found


def installed(package: str) -> str:
    """Version of a package that may be missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


@functools.cache
def data_digest(folder: Path, patterns: tuple[str, ...]) -> str:
    """SHA-256 over names and contents of a folder's files; computed once a process.

    Parameters
    ----------
    folder
        Where the files are.
    patterns
        Glob patterns relative to `folder`.

    Returns
    -------
    str
        64 hexadecimal digits; those of no file at all where the folder is missing.
    """
    total = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()


def defacing_data() -> str:
    """Digest of the embedded files that decide an edit or a verdict: priors, landmark network and pose network."""
    return data_digest(DATA, DEFACING_FILES)


def segmentation_data(segmenter: str, params: Mapping[str, Any]) -> str:
    """Digest of the data that decide a segmentation, as the segmenter's own record names them; once a process.

    Parameters
    ----------
    segmenter
        A name in `efface.segmentation.SEGMENTERS`.
    params
        Its parameters; those of SLANT may name folders of weights.

    Returns
    -------
    str
        SHA-256 over names and values of what `efface.segmentation.data_digest` says, 64 hexadecimal digits.

    Raises
    ------
    InputError, DataPackageError
        As `efface.segmentation.data_digest`; nothing is remembered then.
    """
    return _segmentation_data(segmenter, json.dumps(params, sort_keys=True, default=str))


@functools.cache
def _segmentation_data(segmenter: str, params: str) -> str:
    found = segmentation.data_digest(segmenter, json.loads(params))
    return hashlib.sha256(json.dumps(dict(found), sort_keys=True).encode()).hexdigest()


@functools.cache
def external_version(method: str, program: str | Path | None = None) -> str:
    """Version of a method's external program; `NOT_INSTALLED` where it is missing; asked for once a process.

    Parameters
    ----------
    method
        A name in `efface.defacing.METHODS`.
    program
        Path of the program; None looks for it as `efface.defacing.external.find_program` does.
    """
    try:
        return external.external_version(method, external.find_program(method, program))
    except EffaceError:
        return NOT_INSTALLED


def is_same(stored: Any, wanted: Any) -> bool:
    """Whether a stored recipe is the wanted one.

    An external program that is not installed here counts as unchanged: its earlier results stay valid.
    """
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        return stored.keys() == wanted.keys() and all(is_same(stored[name], wanted[name]) for name in stored)
    return bool(wanted == NOT_INSTALLED or stored == wanted)


def is_current(path: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether `path` exists and was made by exactly this recipe."""
    if not path.is_file():
        return False
    stored = read_recipe(path)
    return stored is not None and is_same(stored.get(KEY), as_json(recipe))


def is_finished(path: Path) -> bool:
    """Whether `path` exists with a recipe, whatever it says."""
    stored = read_recipe(path)
    return path.is_file() and stored is not None and bool(stored.get(KEY))


def as_json(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as it reads back from JSON: tuples become lists, paths become text."""
    return dict(json.loads(json.dumps(recipe, default=str)))


def state_of(source: T1wScan) -> list[int]:
    """Size (bytes) and modification time (ns) of a scan's file; zeros where it cannot be accessed."""
    return state_of_file(source.path)


def state_of_file(path: Path) -> list[int]:
    """Size (bytes) and modification time (ns) of a file; zeros where it cannot be accessed."""
    try:
        status = path.stat()
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def read_recipe(path: Path) -> dict[str, Any] | None:
    """Return the whole JSON beside `path`, or None where there is none that can be read."""
    return read_object(recipe_of(path)) or None


def write_recipe(path: Path, recipe: Mapping[str, Any], /, **more: Any) -> None:
    """Write the JSON beside `path`; BIDS fields go in `more`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    _write(path, {**more, KEY: recipe})


def mark_unfinished(path: Path) -> None:
    """Write a recipe that matches no other: until a new one is written, `path` counts as not made."""
    _write(path, UNFINISHED)


def mark_failed(path: Path, settings: Mapping[str, Any]) -> None:
    """Mark `path` unfinished, like `mark_unfinished`, with the settings by which it was tried."""
    _write(path, {**UNFINISHED, ATTEMPTED: as_json(settings)})


@contextlib.contextmanager
def writing(path: Path, recipe: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Mark `path` unfinished, let the body write it, then write its recipe.

    If the body raises an error or the process dies, the mark stays and the next run makes `path` again.

    Parameters
    ----------
    path
        The image or table that the body writes.
    recipe
        What decides its content; None leaves the mark.

    Yields
    ------
    dict
        BIDS fields for the JSON; the body fills it.

    Raises
    ------
    OutputError
        If the JSON cannot be written.
    """
    mark_unfinished(path)
    record: dict[str, Any] = {}
    yield record
    if recipe is not None:
        write_recipe(path, recipe, **record)


def update_state(path: Path, states: list[list[int]]) -> None:
    """Store new states of the inputs in the recipe of `path`; the rest of it stays."""
    _write(path, {**(read_recipe(path) or UNFINISHED), STATE: states})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(recipe_of(path), (json.dumps(content, indent=2, default=str) + "\n").encode(), force=True)
