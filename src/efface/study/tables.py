"""Group level: the tables of a whole study, gathered from its units and rescans."""

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
_EDITS = ("edited_ml", "edited_head_ml", "edited_brain_ml")
_VOLUMES, _DISTANCES = MEASURES["volume"].numbers, MEASURES["distance"].numbers


@dataclass(frozen=True)
class Tables:
    """The tables of a study, as written. The last four are empty where nothing of the kind was measured.

    Attributes
    ----------
    dice
        One row a scan, method and region; of the study's main segmenter only (``dice.tsv`` has all).
    edits
        One row a scan and method: volume changed, and how much of it in the head and in the brain mask, ml.
    failures
        One row for whatever failed, with its reason.
    volumes, distances
        One row a scan, method and region: volume before and its change; surface distances.
    rescan
        One row a group, measure and region, for subjects with two sessions: the methods on the first session, the
        rescans, the resampling control.
    statistics
        One row a number that was estimated or tested (`efface.study.statistics_table`).
    quality
        One row a defaced scan: verdict, score, evidence, reviewers' verdict; empty where nothing was judged.
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
    """Gather all units' and rescans' rows, compute the statistics, and write the tables.

    Raises
    ------
    InputError
        If no unit has results, or one's table cannot be read.
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
    """Read the tables that `collect` wrote.

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
    """The study's main segmenter, which tables in memory and statistics speak of; None where nothing tells."""
    try:
        described = json.loads(GroupPaths(out_dir).description.read_text(encoding="utf-8"))
        return str(described["Efface"]["Segmenter"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _only(frame: pd.DataFrame, segmenter: str | None) -> pd.DataFrame:
    """Rows of one segmenter."""
    return frame if segmenter is None else frame[frame.segmenter == segmenter].reset_index(drop=True)


_LONG = tuple(c for c in COLUMNS if c not in ("status", "reason"))


def _rows(found: Sequence[Path]) -> pd.DataFrame:
    """All rows of these tables, as they are."""
    frames = [read_table(path) for path in found]
    for path, frame in zip(found, frames, strict=True):
        require_columns(frame, path, COLUMNS)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _wide(good: pd.DataFrame, numbers: Sequence[str]) -> pd.DataFrame:
    """One column a number; the rows of a measure's numbers come in the same order."""
    parts = {name: good[good.measure == name].reset_index(drop=True) for name in numbers}
    first = parts[numbers[0]][list(_KEYS)]
    return first.assign(**{name: part.value.astype("float64") for name, part in parts.items()})


def _rescan(good: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """The rescans' rows, and the methods' rows of the scans that were scanned again."""
    found = again[again.status == OK].drop(columns=["status", "reason"]).drop_duplicates()  # the control comes each time
    first = set(again[again.method == RESCAN_12].scan)
    compared = [name for spec in MEASURES.values() for name in spec.numbers]
    methods = good[good.scan.isin(first) & good.subject.isin(found.subject) & good.measure.isin(compared)]
    both = pd.concat([methods, found]) if len(found) else found
    place = {name: i for i, name in enumerate([*good.method.drop_duplicates(), *RESCAN_GROUPS])}
    both = both.assign(_place=both.method.map(place))
    both = both.sort_values(["subject", "_place"], kind="stable").drop(columns="_place")
    return both.reset_index(drop=True).astype({"value": "float64"})


def _read_or_empty(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table that an older study does not have is empty."""
    return read_table(path) if path.is_file() else pd.DataFrame(columns=list(columns))
