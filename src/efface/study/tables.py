"""Group level: the tables of a whole study, collected from its scan jobs and rescan jobs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from efface.bids.derivatives import GroupPaths
from efface.errors import InputError
from efface.metrics import MEASURES
from efface.study.quality_tables import read_quality, write_quality
from efface.study.records import COLUMNS, FAILED, OK, STATISTICS, read_table, require_columns, write_table
from efface.study.rescan_job import RESCAN_12, RESCAN_GROUPS
from efface.study.statistics_table import compute_statistics

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
        rescans, the resampling control.
    statistics
        One row for each estimate or test (`efface.study.statistics_table`).
    quality
        One row for each defaced scan: verdict, score, evidence, reviewers' verdict.
    table1
        Successes and failures of each method, automatic and manual, and their agreement.
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


def collect(out_dir: Path) -> Tables:
    """Collect the rows of all scan jobs and rescan jobs, compute the statistics, and write the tables.

    Raises
    ------
    InputError
        If there are no results, a table cannot be read, or two rows are about the same thing.
    OutputError
        If a table cannot be written.
    """
    paths = GroupPaths(out_dir)
    found = paths.unit_results()
    if not found:
        msg = f"{out_dir} holds no results (sub-*/*_results.tsv): run the participant level first"
        raise InputError(msg)
    rows = _rows(found)
    again = _rows(paths.rescan_results())
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
    volumes, distances = _wide(good, _VOLUMES), _wide(good, _DISTANCES)
    rescan = _rescan(good, again)
    main = _main_segmenter(out_dir)
    shown = [_only(frame, main) for frame in (dice, volumes, distances, rescan)]
    statistics = compute_statistics(*shown)
    for path, frame in (
        (paths.dice, dice), (paths.edits, edits), (paths.failures, failures), (paths.volumes, volumes),
        (paths.distances, distances), (paths.rescan, rescan), (paths.statistics, statistics),
    ):  # fmt: skip
        write_table(path, frame)
    return Tables(shown[0], edits, failures, shown[1], shown[2], shown[3], statistics, *write_quality(out_dir))


def load_tables(out_dir: Path) -> Tables:
    """Read the tables written by `collect`.

    Raises
    ------
    InputError
        If they are missing or cannot be read.
    """
    paths = GroupPaths(out_dir)
    for path in (paths.dice, paths.edits, paths.failures):
        if not path.is_file():
            msg = f"{path} is missing: run `efface study BIDS {out_dir} group` first"
            raise InputError(msg)
    main = _main_segmenter(out_dir)
    return Tables(
        _only(read_table(paths.dice), main),
        read_table(paths.edits),
        read_table(paths.failures),
        _only(_read_or_empty(paths.volumes, (*_KEYS, *_VOLUMES)), main),
        _only(_read_or_empty(paths.distances, (*_KEYS, *_DISTANCES)), main),
        _only(_read_or_empty(paths.rescan, _LONG), main),
        _read_or_empty(paths.statistics, STATISTICS),
        *read_quality(out_dir),
    )


def _main_segmenter(out_dir: Path) -> str | None:
    """Return the study's main segmenter, to which tables in memory and statistics are limited; None where unknown."""
    try:
        described = json.loads(GroupPaths(out_dir).description.read_text(encoding="utf-8"))
        return str(described["Efface"]["Segmenter"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _only(frame: pd.DataFrame, segmenter: str | None) -> pd.DataFrame:
    """Return the rows of one segmenter."""
    return frame if segmenter is None else frame[frame.segmenter == segmenter].reset_index(drop=True)


_LONG = tuple(c for c in COLUMNS if c not in ("status", "reason"))


def _rows(found: Sequence[Path]) -> pd.DataFrame:
    """Return all rows of these tables."""
    frames = [read_table(path) for path in found]
    for path, frame in zip(found, frames, strict=True):
        require_columns(frame, path, COLUMNS)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


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
    """Return the rows of rescans and control, and the methods' rows of the scans that have a rescan."""
    # Every kind of rescan has the rows of the same control in its table: they are kept once.
    found = again[again.status == OK].drop(columns=["status", "reason"]).drop_duplicates()
    first = set(again[again.method == RESCAN_12].scan)
    compared = [name for spec in MEASURES.values() for name in spec.numbers]
    methods = good[good.scan.isin(first) & good.subject.isin(found.subject) & good.measure.isin(compared)]
    both = pd.concat([methods, found]) if len(found) else found
    place = {name: i for i, name in enumerate([*good.method.drop_duplicates(), *RESCAN_GROUPS])}
    both = both.assign(_place=both.method.map(place))
    both = both.sort_values(["subject", "_place"], kind="stable").drop(columns="_place")
    return both.reset_index(drop=True).astype({"value": "float64"})


def _read_or_empty(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table; where it is missing (an older study), return an empty one."""
    return read_table(path) if path.is_file() else pd.DataFrame(columns=list(columns))
