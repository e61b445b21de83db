"""The paper's experiments over a data set: unit of work, recipes, engine, group tables."""

from efface.study.engine import default_jobs
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
