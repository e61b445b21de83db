"""Recipes: the JSON beside every result that says how it was made, and decides whether it must be made again."""

import functools
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from efface._version import __version__
from efface.bids.derivatives import recipe_of
from efface.bids.query import T1wScan
from efface.io.atomic import write_atomically

KEY, STATE = "Recipe", "InputState"
"""What decided a result; and size and time of its input, which tell without opening it that it is the same file."""
_PACKAGES = ("picsl-greedy", "deepbet", "pydeface", "deepmriprep", "SimpleITK", "torch", "scipy", "numpy")


@functools.cache
def versions() -> Mapping[str, str]:
    """Versions of efface and of the packages whose code or data decide the result."""
    return {"efface": __version__, **{name: metadata.version(name) for name in _PACKAGES}}


def is_current(path: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether `path` is there and was made by exactly this recipe."""
    if not path.is_file():
        return False
    stored = read_recipe(path)
    return stored is not None and stored.get(KEY) == json.loads(json.dumps(recipe))


def is_finished(path: Path) -> bool:
    """Whether `path` is there with a recipe, whatever it says."""
    stored = read_recipe(path)
    return path.is_file() and stored is not None and bool(stored.get(KEY))


def state_of(source: T1wScan) -> list[int]:
    """Size and time of change of a scan's file; zeros where it cannot be asked."""
    try:
        status = source.path.stat()
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def read_recipe(path: Path) -> dict[str, Any] | None:
    """The whole JSON beside `path`, or None where there is none that can be read."""
    try:
        content = json.loads(recipe_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_recipe(path: Path, recipe: Mapping[str, Any], /, **more: Any) -> None:
    """Write the JSON beside `path`; BIDS fields go in `more`."""
    content = {**more, KEY: recipe}
    write_atomically(recipe_of(path), (json.dumps(content, indent=2) + "\n").encode(), force=True)
