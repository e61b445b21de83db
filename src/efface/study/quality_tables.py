"""qc.tsv and table1.tsv: the verdicts of the quality check and the reviewers' ratings of all defaced scans."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from efface.bids.derivatives import GroupPaths
from efface.errors import InputError
from efface.io.json_files import read_object
from efface.metrics import cohen_kappa
from efface.quality import FACE_FEATURES, QualityClass
from efface.statistics.undefined import ratio
from efface.study.ratings import Rating, blind_ratings, current_ratings
from efface.study.records import NOT_AVAILABLE, write_table
from efface.study.study_content import EARLIER_IMAGE, EARLIER_VERDICT, RATING, VERDICT, FailedStep, StudyContent

log = logging.getLogger(__name__)

UNIT = ("subject", "session", "scan", "method", "implementation")
"""Columns that identify a defaced scan."""
BRAIN = ("failed", "score", "damaged_ml", "damaged_voxels", "edited_ml", "deepest_mm", "where")
TIED = "tied"
AUTOMATIC, MANUAL, ALL = "automatic", "manual", "all"
QUALITY_COLUMNS = (
    *UNIT, "verdict", "score", "reason",
    *(f"brain_{name}" for name in BRAIN), *(f"brain_{axis}_mm" for axis in "xyz"),
    "face_failed", "face_score", "face_changed", "features_left",
    *(f"{name}_changed" for name in FACE_FEATURES), *(f"{name}_moved_mm" for name in FACE_FEATURES),
    "manual", "reviewers", "blind", "agreed", "anchored",
)  # fmt: skip
"""Columns of qc.tsv."""
TABLE1_COLUMNS = (
    "method", "source", "scans", "success", "failure_i", "failure_ii", "failed_runs", "not_judged",
    "blind_scans", "agreement", "kappa", "anchored_scans", "anchored_agreement",
)  # fmt: skip
"""Columns of table1.tsv."""
_TEXT = frozenset({*UNIT, "verdict", "reason", "brain_where", "features_left", "manual", "blind", "anchored", "source"})


def write_quality(out_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make qc.tsv and table1.tsv from the verdicts and ratings of a study, and return both.

    A defaced scan that reviewers have rated has a row even where the quality check has given no verdict. A run of a
    method that failed has no row in qc.tsv, and counts as Failure I in Table 1.

    Raises
    ------
    InputError
        If a table of results or the record of the study cannot be read.
    OutputError
        If a table cannot be written.
    """
    return make_quality(StudyContent.of(out_dir))


def make_quality(content: StudyContent) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Do what `write_quality` does, and note in `content` what does not belong to the study."""
    out_dir = content.out_dir
    paths = GroupPaths(out_dir)
    failed = {(step.scan, step.method): step for step in content.failed_steps()}
    ratings = _by_case(current_ratings(out_dir))
    blind = {case: [r.verdict for r in given] for case, given in _by_case(blind_ratings(out_dir)).items()}
    found = ((path, read_object(path)) for path in paths.unit_qualities())
    rows = [row for path, verdict in found if "unit" in verdict and (row := _row_of(path, verdict)) is not None]
    rows = [row for row in rows if _belongs(content, VERDICT, row, failed)]
    rows += [_unjudged(asdict(step)) for step in failed.values() if not step.is_run]
    known = {(row["scan"], row["method"]) for row in rows}
    others = [_unjudged(asdict(given[0])) for case, given in sorted(ratings.items()) if case not in known]
    rows += [row for row in others if _belongs(content, RATING, row, failed)]
    for row in rows:
        case = (row["scan"], row["method"])
        row |= _manual(ratings.get(case, []), blind.get(case, []), row["verdict"])
    quality = pd.DataFrame(rows, columns=list(QUALITY_COLUMNS))
    table1 = count(quality, [step.method for step in failed.values() if step.is_run])
    for path, frame in ((paths.quality, quality), (paths.table1, table1)):
        texts = [name for name in frame.columns if name in _TEXT]
        write_table(path, frame.assign(**{name: frame[name].replace("", NOT_AVAILABLE) for name in texts}))
    return quality, table1


def read_quality(out_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the tables of `write_quality`; empty frames where a study has no verdicts.

    Raises
    ------
    InputError
        If a table cannot be read.
    """
    paths = GroupPaths(out_dir)
    return _table(paths.quality, QUALITY_COLUMNS), _table(paths.table1, TABLE1_COLUMNS)


def count(quality: pd.DataFrame, failed: Sequence[str] = ()) -> pd.DataFrame:
    """Make Table 1: successes and failures by method and in all, by the check and by reviewers, and their agreement.

    Parameters
    ----------
    quality
        One row a defaced scan (`QUALITY_COLUMNS`).
    failed
        The method of each run that failed. As in the paper, it is a Failure I.

    Returns
    -------
    pandas.DataFrame
        Columns `TABLE1_COLUMNS`. ``scans`` is the sum of Success, Failure I and Failure II; ``failed_runs`` of Failure I
        are runs that failed; ``not_judged`` more scans were defaced and have no verdict of this source.
    """
    methods = list(dict.fromkeys([*quality.method, *failed]))
    rows = []
    for method in [*methods, *([ALL] if methods else [])]:
        mine = quality if method == ALL else quality[quality.method == method]
        runs = len(failed) if method == ALL else failed.count(method)
        judged = mine[mine.verdict.isin(list(QualityClass))]
        rows.append(_counts(method, AUTOMATIC, mine.verdict, runs))
        reviewed = mine[mine.manual.isin(list(QualityClass))]
        if len(reviewed):
            rows.append(_counts(method, MANUAL, mine.manual, runs) | _agreement(judged))
    return pd.DataFrame(rows, columns=list(TABLE1_COLUMNS))


def _counts(method: str, source: str, verdicts: pd.Series, failed_runs: int) -> dict[str, Any]:
    words = Counter({name: int((verdicts == name).sum()) for name in QualityClass})
    not_judged = len(verdicts) - words.total()
    words[QualityClass.FAILURE_I] += failed_runs
    row: dict[str, Any] = dict.fromkeys(TABLE1_COLUMNS, math.nan)
    counts = zip(("success", "failure_i", "failure_ii"), QualityClass, strict=True)
    row |= {"method": method, "source": source, "scans": words.total(), "failed_runs": failed_runs}
    return row | {"not_judged": not_judged} | {name: words[verdict] for name, verdict in counts}


def _belongs(
    content: StudyContent, what: str, row: Mapping[str, Any], failed: Mapping[tuple[str, str], FailedStep]
) -> bool:
    """Whether a verdict or a rating is of the study, and of the image of the latest run; note it otherwise."""
    step = failed.get((row["scan"], row["method"]))
    reason = content.why_not(row["scan"], row["method"], row["implementation"] or None)
    if not reason and step is not None:
        reason = EARLIER_IMAGE if step.is_run else EARLIER_VERDICT
    if reason:
        content.leave_out(what, row["subject"], row["scan"], row["method"], reason)
    return not reason


def _agreement(judged: pd.DataFrame) -> dict[str, float]:
    """Agreement of the check with the reviewers: kappa with blind verdicts only, anchored ones apart and without one."""
    found: dict[str, float] = {}
    for name, share in (("blind", "agreement"), ("anchored", "anchored_agreement")):
        both = judged[judged[name].isin(list(QualityClass))]
        pairs = pd.crosstab(both.verdict, both[name]).reindex(index=list(QualityClass), columns=list(QualityClass))
        counts = pairs.fillna(0).to_numpy(dtype=np.intp)
        found |= {f"{name}_scans": float(counts.sum()), share: float(ratio(counts.trace(), counts.sum()))}
        if name == "blind":
            found["kappa"], _, _ = cohen_kappa(counts)
    return found


def _by_case(ratings: Iterable[Rating]) -> dict[tuple[str, str], list[Rating]]:
    found: dict[tuple[str, str], list[Rating]] = {}
    for rating in ratings:
        found.setdefault(rating.case, []).append(rating)
    return found


def _row_of(path: Path, content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the columns of one defaced scan, or None, with a warning, where the file holds anything else."""
    try:
        row = _judged(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        row = {}
    texts, numbers = ({k: v for k, v in row.items() if (k in _TEXT) == is_text} for is_text in (True, False))
    usable = all(isinstance(v, str) for v in texts.values()) and all(
        v is None or _is_number(v) for v in numbers.values()
    )
    if row and usable and row["verdict"] in list(QualityClass):
        return row
    log.warning("%s is no verdict of the quality check and is left out: run the participant level again", path)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _judged(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the quality check for one defaced scan."""
    unit, damage, left = content["unit"], content["brain"], content["face"]
    row: dict[str, Any] = {name: unit[name] for name in UNIT}
    row |= {name: content[name] for name in ("verdict", "score", "reason")}
    row |= {f"brain_{name}": damage[name] for name in BRAIN}
    row |= dict(zip((f"brain_{axis}_mm" for axis in "xyz"), damage["centre_mm"] or [math.nan] * 3, strict=True))
    row |= {f"face_{name}": left[name] for name in ("failed", "score", "changed")}
    row |= {name: int(row[name]) for name in ("brain_failed", "face_failed")}
    row["features_left"] = ",".join(left["left"]) or "none"
    for name, parts in FACE_FEATURES.items():
        seen = [left["features"][part] for part in parts if left["features"][part]["changed"] is not None]
        area = sum(part["area_cm2"] for part in seen)
        for what in ("changed", "moved_mm"):
            row[f"{name}_{what}"] = sum(p[what] * p["area_cm2"] for p in seen) / area if area else math.nan
    return row


def _unjudged(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of the quality check for a defaced scan without a verdict."""
    row: dict[str, Any] = {name: "" if name in _TEXT else math.nan for name in QUALITY_COLUMNS}
    return row | {name: about[name] for name in (*UNIT, "reason") if name in about}


def _manual(given: list[Rating], blind_verdicts: list[str], automatic: str) -> dict[str, Any]:
    """Return the reviewers' columns.

    ``manual``, ``blind`` and ``anchored`` are majority verdicts: of all votes, of the blind ones, and of those given
    after the automatic verdict was shown. ``agreed`` is whether ``blind`` is the automatic verdict (1, 0, NaN).
    """
    blind = _majority(blind_verdicts)
    comparable = bool(automatic) and blind not in ("", TIED)
    return {
        "manual": _majority([rating.verdict for rating in given]),
        "reviewers": len(given),
        "blind": blind,
        "agreed": float(blind == automatic) if comparable else math.nan,
        "anchored": _majority([rating.verdict for rating in given if rating.automatic_shown]),
    }


def _majority(verdicts: list[str]) -> str:
    ranked = Counter(verdicts).most_common(2)
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        return TIED
    return ranked[0][0] if ranked else ""


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame({name: pd.Series(dtype=object if name in _TEXT else float) for name in columns})
    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3, encoding="utf-8-sig")
        values = {
            name: frame[name].replace(NOT_AVAILABLE, "")
            if name in _TEXT
            else frame[name].replace(NOT_AVAILABLE, "nan").astype(float)
            for name in columns
        }
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, KeyError) as error:
        msg = f"{path} cannot be read as a table ({' '.join(str(error).split())}): run `efface study ... group` again"
        raise InputError(msg) from error
    return pd.DataFrame(values)
