"""The paper's experiments over a data set: unit of work, recipes, engine, group tables."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efface.study.clusters import default_jobs
    from efface.study.group import Tables, collect, load_tables
    from efface.study.run import Progress, Study, Summary, out_dir_of
    from efface.study.settings import Settings

__all__ = [
    "Progress",
    "Settings",
    "Study",
    "Summary",
    "Tables",
    "collect",
    "default_jobs",
    "load_tables",
    "out_dir_of",
]

_PLACES = {
    **dict.fromkeys(("Progress", "Study", "Summary", "out_dir_of"), "run"),
    **dict.fromkeys(("Tables", "collect", "load_tables"), "group"),
    "Settings": "settings",
    "default_jobs": "clusters",
}


def __getattr__(name: str) -> Any:
    """Load the names when they are first used: a worker starts in a second, and loads libraries with its first scan."""
    import importlib

    if name not in _PLACES:
        msg = f"module 'efface.study' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"efface.study.{_PLACES[name]}"), name)
