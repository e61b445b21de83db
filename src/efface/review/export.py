"""The reviewers' verdicts in qc.tsv: columns ``manual``, ``reviewers`` and ``agreed``; all else there stays as it is."""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from efface.errors import InputError
from efface.files import write_atomically
from efface.paths import recipe_of
from efface.review.cases import Case, read_json
from efface.votes import Vote

MANUAL = ("manual", "reviewers", "agreed")
COLUMNS = ("subject", "session", "scan", "method", "implementation", "verdict", "score", *MANUAL)
MISSING, TIED = "n/a", "tied"


def export_votes(out_dir: Path, cases: Iterable[Case], votes: Iterable[Vote]) -> Path:
    """Write the majority of the reviewers for each case; a table of verdicts that is not there yet is begun.

    Raises
    ------
    InputError
        If there is a qc.tsv that is no table of scans and methods.
    OutputError
        If it cannot be written; the table before is then untouched.
    """
    path = out_dir / "qc.tsv"
    columns, rows = _read(path)
    by_case: dict[tuple[str, str], list[str]] = {}
    for vote in votes:
        by_case.setdefault(vote.case, []).append(vote.verdict)
    known = {(row["scan"], row["method"]) for row in rows}
    rows += [_new_row(case) for case in cases if (case.paths.stem, case.method) not in known]
    for row in rows:
        row.update(_manual(by_case.get((row["scan"], row["method"]), []), row.get("verdict", MISSING)))
    columns += [name for name in MANUAL if name not in columns]
    lines = ["\t".join(columns), *("\t".join(row.get(name) or MISSING for name in columns) for row in rows)]
    write_atomically(path, ("\n".join(lines) + "\n").encode(), force=True)
    return path


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.is_file():
        return list(COLUMNS), []
    reader = csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = list(reader.fieldnames or ())
    if not {"scan", "method", "verdict"} <= set(columns):
        msg = f"{path} lacks the columns scan, method and verdict: delete it and run `efface study ... group` again"
        raise InputError(msg)
    return columns, list(reader)


def _new_row(case: Case) -> dict[str, str]:
    paths = case.paths
    score = MISSING if math.isnan(case.score) else f"{case.score:.6g}"
    names = (paths.subject, paths.session or "", paths.stem, case.method)
    implementation = str(read_json(recipe_of(case.defaced)).get("Implementation", ""))
    return dict(zip(COLUMNS, (*names, implementation, case.automatic, score), strict=False))


def _manual(verdicts: list[str], automatic: str) -> Mapping[str, str]:
    ranked = Counter(verdicts).most_common(2)
    if not ranked:
        return dict.fromkeys(MANUAL, MISSING) | {"reviewers": "0"}
    tied = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
    manual = TIED if tied else ranked[0][0]
    compared = not tied and automatic not in ("", MISSING)
    return {
        "manual": manual,
        "reviewers": str(len(verdicts)),
        "agreed": str(int(manual == automatic)) if compared else MISSING,
    }
