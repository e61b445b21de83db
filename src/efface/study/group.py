"""Group level: the tables of a whole study, gathered from its units."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from efface.errors import InputError
from efface.paths import GroupPaths
from efface.study.rows import COLUMNS, FAILED, OK, read_table, require_columns, write_table


@dataclass(frozen=True)
class Tables:
    """The tables of a study, as written.

    Attributes
    ----------
    dice
        One row a scan, method and region; of the study's main segmenter only (``dice.tsv`` has all).
    edits
        One row a scan and method: volume changed, and how much of it in the head and in the brain mask, ml.
    failures
        One row for whatever failed, with its reason.
    """

    dice: pd.DataFrame
    edits: pd.DataFrame
    failures: pd.DataFrame


def collect(out_dir: Path) -> Tables:
    """Gather all units' rows and write dice.tsv, edits.tsv and failures.tsv.

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
    frames = [read_table(path) for path in found]
    for path, frame in zip(found, frames, strict=True):
        require_columns(frame, path, COLUMNS)
    rows = pd.concat(frames, ignore_index=True)
    good = rows[rows.status == OK].drop(columns=["status", "reason"])
    dice = good[good.measure == "dice"].reset_index(drop=True)
    edits = (
        good[good.measure != "dice"]
        .drop(columns=["level", "region"])
        .pivot(index=["subject", "session", "scan", "method", "implementation"], columns="measure", values="value")
        .reset_index()
        .rename_axis(columns=None)
    )
    failures = rows[rows.status == FAILED].drop(columns=["level", "region", "value"]).reset_index(drop=True)
    for path, frame in ((paths.dice, dice), (paths.edits, edits), (paths.failures, failures)):
        write_table(path, frame)
    return Tables(_main(dice, out_dir), edits, failures)


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
    return Tables(_main(read_table(paths.dice), out_dir), read_table(paths.edits), read_table(paths.failures))


def _main(dice: pd.DataFrame, out_dir: Path) -> pd.DataFrame:
    """Rows of the study's main segmenter."""
    try:
        described = json.loads(GroupPaths(out_dir).description.read_text(encoding="utf-8"))
        segmenter = described["Efface"]["Segmenter"]
    except (OSError, ValueError, KeyError, TypeError):  # no description: nothing to tell them apart by
        return dice
    main: pd.DataFrame = dice[dice.segmenter == segmenter].reset_index(drop=True)
    return main
