"""The paper's experiments over a data set: one job a scan, provenance of every file, executor, group tables."""

from typing import TYPE_CHECKING

from efface._lazy import attach

if TYPE_CHECKING:
    from efface.study.backends import default_jobs
    from efface.study.run import Progress, Study, Summary, out_dir_of
    from efface.study.settings import Settings
    from efface.study.tables import Tables, collect, load_tables

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

# A worker imports this package within a second; it loads the libraries with its first scan.
__getattr__, __dir__ = attach(
    __name__,
    {
        **dict.fromkeys(("Progress", "Study", "Summary", "out_dir_of"), "efface.study.run"),
        **dict.fromkeys(("Tables", "collect", "load_tables"), "efface.study.tables"),
        "Settings": "efface.study.settings",
        "default_jobs": "efface.study.backends",
    },
)
