"""Group level: the tables of a whole study, collected from its scan jobs and rescan jobs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from efface.bids.derivatives import GroupPaths
from efface.bids.shareable import without_paths
from efface.errors import InputError
from efface.io.atomic import as_private_as
from efface.io.json_files import parse_json
from efface.metrics import MEASURES
from efface.study.native_volumes import FIRST_MOVED, UNREGISTERED, native_volume_changes
from efface.study.passed_scans import passed_by_all
from efface.study.quality_tables import make_quality, read_quality
from efface.study.records import (
    COLUMNS,
    FAILED,
    OK,
    PRIVACY_SUMMARY,
    STATISTICS,
    read_table,
    require_columns,
    write_table,
)
from efface.study.rescan_job import ALL_GROUPS
from efface.study.statistics_table import compute_statistics
from efface.study.study_content import LEFT_OUT_COLUMNS, StudyContent

log = logging.getLogger(__name__)

_KEYS = ("subject", "session", "scan", "method", "implementation", "segmenter", "level", "region")
"""Columns that identify one comparison of two segmentations in one region."""
_EDITS = ("edited_ml", "edited_head_ml", "edited_brain_ml")
_VOLUMES, _DISTANCES = MEASURES["volume"].numbers, MEASURES["distance"].numbers


@dataclass(frozen=True)
class Tables:
    """The tables of a study, as written. All but the first three are empty where nothing of the kind was measured.

    Attributes
    ----------
    dice
        One row for each scan, method and region; of the main segmenter only (``dice.tsv`` has all).
    edits
        One row for each scan and method: changed volume in all, in the head and in the brain mask, ml.
    failures
        One row for each failed step, with the reason.
    volumes, distances
        One row for each scan, method and region: volume before defacing and its change; surface distances.
    rescan
        One row for each group, measure and region of subjects with two sessions: the methods on the first session, the
        rescans, the resampling control, and the volumes of both sessions on their own grids.
    statistics
        One row for each estimate or test (`efface.study.statistics_table`).
    quality
        One row for each defaced scan: verdict, score, evidence, reviewers' verdict.
    table1
        Successes and failures of each method, automatic and manual, and their agreement.
    statistics_passed
        As `statistics`, on the scans that passed the quality check with every method.
    left_out
        Results in the folder that do not belong to the study, and why (`efface.study.study_content`).
    privacy
        How many people are found again (`efface.study.privacy_tables`): read, not made, by `collect`.
    """

    dice: pd.DataFrame
    edits: pd.DataFrame
    failures: pd.DataFrame
    volumes: pd.DataFrame
    distances: pd.DataFrame
    rescan: pd.DataFrame
    statistics: pd.DataFrame
    quality: pd.DataFrame
    table1: pd.DataFrame
    statistics_passed: pd.DataFrame
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(LEFT_OUT_COLUMNS)))
    privacy: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PRIVACY_SUMMARY)))

    def passed(self) -> "Tables":
        """The same tables, of the scans that passed the quality check with every method (that passes at all)."""
        chosen = passed_by_all(self.quality, list(self.dice.method.drop_duplicates()))
        frames = (self.dice, self.edits, self.failures, self.volumes, self.distances)
        dice, edits, failures, volumes, distances = map(chosen.rows, frames)
        return replace(
            self, dice=dice, edits=edits, failures=failures, volumes=volumes, distances=distances,
            rescan=chosen.rescan_rows(self.rescan), statistics=self.statistics_passed, quality=chosen.rows(self.quality),
        )  # fmt: skip


def collect(out_dir: Path) -> Tables:
    """Collect the rows of all scan jobs and rescan jobs, compute the statistics, and write the tables.

    Results that do not belong to the study now are left out, with a warning and in ``left_out.tsv``.

    Raises
    ------
    InputError
        If there are no results, a table cannot be read, or two rows are about the same thing.
    OutputError
        If a table cannot be written.
    """
    paths = GroupPaths(out_dir)
    with as_private_as(paths.unit_results()):
        return _collect(paths)


def _collect(paths: GroupPaths) -> Tables:
    out_dir = paths.out_dir
    found = paths.unit_results()
    if not found:
        msg = f"{out_dir} holds no results (sub-*/*_results.tsv): run the participant level first"
        raise InputError(msg)
    content = StudyContent.of(out_dir)
    rows = content.select(found)
    if rows.empty:
        why = content.table.reason.iloc[0] if len(content.table) else "its tables are empty"
        msg = f"{out_dir} holds no results that belong to the study now ({why}): run the participant level first"
        raise InputError(msg)
    again = content.select_rescans(paths.rescan_results())
    good = rows[rows.status == OK].drop(columns=["status", "reason"])
    dice = good[good.measure == "dice"].reset_index(drop=True)
    edits = (
        good[good.measure.isin(_EDITS)]
        .drop(columns=["level", "region"])
        .pivot(index=["subject", "session", "scan", "method", "implementation"], columns="measure", values="value")
        .reset_index()
        .rename_axis(columns=None)
    )
    failed = pd.concat([part[part.status == FAILED] for part in (rows, again)])
    failures = failed.drop(columns=["level", "region", "value"]).drop_duplicates().reset_index(drop=True)
    failures["reason"] = failures["reason"].map(without_paths)  # rows of earlier versions may hold some
    volumes, distances = _wide(good, _VOLUMES), _wide(good, _DISTANCES)
    rescan = _rescan(good, again)
    main = _main_segmenter(out_dir)
    shown = [_only(frame, main) for frame in (dice, volumes, distances, rescan)]
    quality, table1 = make_quality(content)
    left_out = content.table
    made = Tables(
        shown[0], edits, failures, shown[1], shown[2], shown[3], compute_statistics(*shown), quality, table1,
        pd.DataFrame(columns=list(STATISTICS)), left_out,
    )  # fmt: skip
    made = replace(made, statistics_passed=_statistics_passed(made))
    for path, frame in (
        (paths.dice, dice), (paths.edits, edits), (paths.failures, failures), (paths.volumes, volumes),
        (paths.distances, distances), (paths.rescan, rescan), (paths.statistics, made.statistics),
        (paths.statistics_passed, made.statistics_passed), (paths.left_out, left_out),
    ):  # fmt: skip
        write_table(path, frame)
    _warn(left_out)
    return made


def _warn(left_out: pd.DataFrame) -> None:
    for (what, reason), part in left_out.groupby(["what", "reason"]):
        log.warning(
            "left out: %s of %d scans, the first %s (%s); see left_out.tsv",
            what, part.scan.nunique(), part.scan.iloc[0], reason,
        )  # fmt: skip


def _statistics_passed(tables: Tables) -> pd.DataFrame:
    """Statistics of the scans that passed with every method; those there are, where these are all of them."""
    passed = tables.passed()
    if len(passed.dice) == len(tables.dice):
        return tables.statistics
    return compute_statistics(passed.dice, passed.volumes, passed.distances, passed.rescan)


def load_tables(out_dir: Path) -> Tables:
    """Read the tables written by `collect`.

    Raises
    ------
    InputError
        If they are missing, cannot be read, or lack a column.
    """
    paths = GroupPaths(out_dir)
    for path in (paths.dice, paths.edits, paths.failures):
        if not path.is_file():
            msg = f"{path} is missing: run `efface study BIDS {out_dir} group` first"
            raise InputError(msg)
    main = _main_segmenter(out_dir)
    edits = _read_checked(paths.edits, _KEYS[:5])
    if len(edits):  # where every scan failed there are no numbers
        require_columns(edits, paths.edits, _EDITS)
    return Tables(
        _only(_read_checked(paths.dice, (*_KEYS, "measure", "value")), main),
        edits,
        _read_checked(paths.failures, (*_KEYS[:6], "measure", "status", "reason")),
        _only(_read_or_empty(paths.volumes, (*_KEYS, *_VOLUMES)), main),
        _only(_read_or_empty(paths.distances, (*_KEYS, *_DISTANCES)), main),
        _only(_read_or_empty(paths.rescan, _LONG), main),
        _read_or_empty(paths.statistics, STATISTICS),
        *read_quality(out_dir),
        _read_or_empty(paths.statistics_passed, STATISTICS),
        _read_or_empty(paths.left_out, LEFT_OUT_COLUMNS),
        _read_or_empty(paths.privacy_summary, PRIVACY_SUMMARY),
    )


def _read_checked(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table that must have some columns."""
    frame = read_table(path)
    require_columns(frame, path, columns)
    return frame


def _main_segmenter(out_dir: Path) -> str | None:
    """Return the study's main segmenter, to which tables in memory and statistics are limited; None where unknown."""
    try:
        described = parse_json(GroupPaths(out_dir).description.read_bytes())
        return str(described["Efface"]["Segmenter"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _only(frame: pd.DataFrame, segmenter: str | None) -> pd.DataFrame:
    """Return the rows of one segmenter."""
    return frame if segmenter is None else frame[frame.segmenter == segmenter].reset_index(drop=True)


_LONG = tuple(c for c in COLUMNS if c not in ("status", "reason"))


def _wide(good: pd.DataFrame, numbers: Sequence[str]) -> pd.DataFrame:
    """Put the numbers of a measure into columns, joined by `_KEYS`; a number that is missing is NaN.

    Raises
    ------
    InputError
        If a number is there twice for the same keys.
    """
    keys = list(_KEYS)
    rows = good[good.measure.isin(numbers)]
    twice = rows[rows.duplicated([*keys, "measure"])]
    if len(twice):
        scan, method, region, measure = (twice.iloc[0][name] for name in ("scan", "method", "region", "measure"))
        msg = f"{measure} of {scan}, {method}, {region} is there twice: delete {scan}_results.tsv, run the study again"
        raise InputError(msg)
    wide = rows[keys].drop_duplicates(ignore_index=True)
    for name in numbers:
        part = rows.loc[rows.measure == name, [*keys, "value"]].astype({"value": "float64"})
        wide = wide.merge(part.rename(columns={"value": name}), how="left", on=keys, sort=False)
    return wide


def _rescan(good: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of rescans, control and native volumes, and the methods' rows of the scans that have a rescan."""
    # Every kind of rescan has the rows of the same control in its table: they are kept once.
    found = again[again.status == OK].drop(columns=["status", "reason"]).drop_duplicates()
    native = native_volume_changes(good, again)
    if len(native):
        found = pd.concat([found, native[list(found.columns)]]) if len(found) else native[list(found.columns)]
    first = set(again[again.method.isin(FIRST_MOVED)].scan)
    compared = [name for spec in MEASURES.values() for name in spec.numbers]
    methods = good[good.scan.isin(first) & good.subject.isin(found.subject) & good.measure.isin(compared)]
    both = pd.concat([methods, found]) if len(found) else found
    place = {name: i for i, name in enumerate([*good.method.drop_duplicates(), *ALL_GROUPS, UNREGISTERED])}
    both = both.assign(_place=both.method.map(place))
    both = both.sort_values(["subject", "_place"], kind="stable").drop(columns="_place")
    return both.reset_index(drop=True).astype({"value": "float64"})


def _read_or_empty(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table; where it is missing (an older study), return an empty one."""
    return read_table(path) if path.is_file() else pd.DataFrame(columns=list(columns))
