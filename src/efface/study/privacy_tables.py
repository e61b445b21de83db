"""Tables of whether the people in a study's defaced scans are found again."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from efface.bids.derivatives import GroupPaths, recipe_of
from efface.bids.shareable import without_paths
from efface.errors import EffaceError, OutputError, one_line
from efface.io.atomic import as_private_as
from efface.privacy.attack import Attack
from efface.privacy.cohort import Cohort, GroupResult, Measured, ProbeResult
from efface.privacy.registry import ATTACKS, chosen_attacks
from efface.statistics.inference import CONFIDENCE
from efface.study import provenance
from efface.study.executor import Outcome
from efface.study.privacy_scans import cohort_of
from efface.study.records import PRIVACY_GROUP, PRIVACY_SUMMARY, read_table, require_columns, write_table
from efface.study.run import Progress
from efface.study.tables import Tables, load_tables

log = logging.getLogger(__name__)

FROM_PEOPLE = 10
"""Subjects from which on the group level measures it by itself: in fewer, the intervals say little."""
PROBE_COLUMNS = (
    "subject", "session", "scan", *PRIVACY_GROUP, "gallery", "rank", "own", "nearest_other", "status", "reason",
)  # fmt: skip
"""Columns of privacy.tsv."""
RANK_COLUMNS = (*PRIVACY_GROUP, "rank", "share")
"""Columns of privacy_ranks.tsv: share of people whose rank is at most so high."""


@dataclass(frozen=True)
class PrivacyTables:
    """The three tables, as written; columns `PROBE_COLUMNS`, `PRIVACY_SUMMARY` and `RANK_COLUMNS`."""

    probes: pd.DataFrame
    summary: pd.DataFrame
    ranks: pd.DataFrame


def measure_privacy(
    out_dir: Path, *, attacks: Sequence[str] = (), jobs: int = 1, progress: Progress | None = None
) -> PrivacyTables | None:
    """Attack the defaced scans of a study, and write the tables; None where they are up to date.

    Parameters
    ----------
    out_dir
        Output of a study whose group tables are there.
    attacks
        Names in `efface.privacy.registry.ATTACKS`; all that can be run here, where none is named.
    jobs
        Scans at once.
    progress
        Called when a scan was looked at.

    Raises
    ------
    InputError
        If a table, an original or an attack is missing, or there are too few people.
    MissingDependencyError
        If a named attack needs a package that is not installed.
    OutputError
        If a table cannot be written.
    """
    chosen = chosen_attacks(tuple(attacks))
    cohort = cohort_of(out_dir, load_tables(out_dir))
    paths = GroupPaths(out_dir)
    recipe = _recipe(cohort, chosen)
    if all(path.is_file() for path in (paths.privacy_summary, paths.privacy_ranks)) and provenance.is_current(
        paths.privacy, recipe
    ):
        return None
    with as_private_as(paths.unit_results()), provenance.writing(paths.privacy, recipe):
        found = tables_of(_measured(cohort, chosen, jobs, progress))
        for path, frame in (
            (paths.privacy, found.probes), (paths.privacy_summary, found.summary), (paths.privacy_ranks, found.ranks),
        ):  # fmt: skip
            write_table(path, frame)
    return found


def refresh_privacy(
    out_dir: Path, tables: Tables, *, measure: bool = True, jobs: int = 1, progress: Progress | None = None
) -> str:
    """Do it where the group level has enough people; otherwise remove tables of another state of the study.

    Parameters
    ----------
    out_dir, jobs, progress
        As of `measure_privacy`.
    tables
        Of the study.
    measure
        False removes what is out of date, and makes nothing.

    Returns
    -------
    str
        Why there are no tables; empty where there are.

    Raises
    ------
    OutputError
        If a table cannot be written or removed.
    """
    paths = GroupPaths(out_dir)
    people = tables.edits.subject.nunique()
    try:
        if measure and people >= FROM_PEOPLE:
            measure_privacy(out_dir, jobs=jobs, progress=progress)
            return ""
        if paths.privacy.is_file() and _is_current(out_dir, tables):
            return ""
        why = f"{people} subjects; the group level measures it from {FROM_PEOPLE} on" if measure else "not asked for"
    except OutputError:
        raise
    except EffaceError as error:
        why = one_line(without_paths(str(error)))
        log.warning("re-identification was not measured: %s", why)
    for path in (paths.privacy, recipe_of(paths.privacy), paths.privacy_summary, paths.privacy_ranks):
        path.unlink(missing_ok=True)
    return why


def tables_of(found: Measured) -> PrivacyTables:
    """Put results into tables."""
    ranks = [
        {**_group(group), "rank": k, "share": share}
        for group in found.groups
        for k, share in enumerate(group.found.curve.tolist(), start=1)
    ]
    return PrivacyTables(
        pd.DataFrame([_probe_row(probe) for probe in found.probes], columns=list(PROBE_COLUMNS)),
        pd.DataFrame([_summary_row(group) for group in found.groups], columns=list(PRIVACY_SUMMARY)),
        pd.DataFrame(ranks, columns=list(RANK_COLUMNS)),
    )


def _measured(cohort: Cohort, attacks: Sequence[Attack], jobs: int, progress: Progress | None) -> Measured:
    if progress:
        progress.start(len(cohort.files()))
    seen = []
    for look in cohort.look(attacks, jobs):
        seen.append(look)
        if progress:
            progress.done(Outcome(f"{look.file.scan} {look.file.method}", (), 1))
    return cohort.compare(seen, attacks, jobs)


def _recipe(cohort: Cohort, attacks: Sequence[Attack]) -> dict[str, Any]:
    """What decides the tables."""
    scans = {f"{file.scan} {file.method}": provenance.state_of_file(file.path) for file in cohort.files()}
    return {
        "attacks": [attack.name for attack in attacks],
        "versions": {
            **provenance.versions(),
            **{package: provenance.installed(package) for attack in attacks for package in attack.packages},
        },
        "data": provenance.defacing_data(),
        "scans": scans,
    }


def _is_current(out_dir: Path, tables: Tables) -> bool:
    """Whether the tables are of the study as it is, whichever attacks they hold."""
    stored = (provenance.read_recipe(GroupPaths(out_dir).privacy) or {}).get(provenance.KEY) or {}
    attacks = [ATTACKS[name] for name in stored.get("attacks", ()) if name in ATTACKS]
    return provenance.is_current(GroupPaths(out_dir).privacy, _recipe(cohort_of(out_dir, tables), attacks))


def _group(group: GroupResult) -> dict[str, Any]:
    return {name: getattr(group, name) for name in PRIVACY_GROUP}


def _summary_row(group: GroupResult) -> dict[str, Any]:
    found = group.found
    numbers = {name: getattr(found, name) for name in PRIVACY_SUMMARY if hasattr(found, name)}
    return {**_group(group), **numbers, "confidence": CONFIDENCE, "unusable": group.unusable}


def _probe_row(probe: ProbeResult) -> dict[str, Any]:
    file = probe.file
    about = {name: getattr(file, name) for name in ("subject", "session", "scan", "method", "implementation")}
    rest = {name: getattr(probe, name) for name in PROBE_COLUMNS if hasattr(probe, name)}
    return {**about, **rest, "reason": without_paths(probe.reason)}


def read_privacy(out_dir: Path) -> PrivacyTables:
    """Read the tables of `measure_privacy`; empty frames where a study has none.

    Raises
    ------
    InputError
        If a table cannot be read.
    """
    paths = GroupPaths(out_dir)
    found = (
        (paths.privacy, PROBE_COLUMNS), (paths.privacy_summary, PRIVACY_SUMMARY), (paths.privacy_ranks, RANK_COLUMNS),
    )  # fmt: skip
    return PrivacyTables(*(_read(path, columns) for path, columns in found))


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table; of one that was not finished, nothing."""
    if not path.is_file():
        return pd.DataFrame(columns=list(columns))
    frame = read_table(path)
    require_columns(frame, path, columns)
    return frame
