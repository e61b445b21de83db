"""The paper's experiments on a data set: scan jobs, rescan jobs, recipes of all results, parallel runs, group tables."""

from typing import TYPE_CHECKING

from efface._lazy import attach

if TYPE_CHECKING:
    from efface.study.backends import default_jobs
    from efface.study.output_folder import out_dir_of
    from efface.study.run import Progress, Study, Summary
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

# Lazy: a worker imports this package within a second, and the libraries with its first scan.
__getattr__, __dir__ = attach(
    __name__,
    {
        **dict.fromkeys(("Progress", "Study", "Summary"), "efface.study.run"),
        **dict.fromkeys(("Tables", "collect", "load_tables"), "efface.study.tables"),
        "Settings": "efface.study.settings",
        "out_dir_of": "efface.study.output_folder",
        "default_jobs": "efface.study.backends",
    },
)
