"""The scans of a study that `efface privacy` attacks: what was defaced, and the originals that it was made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface.bids.dataset_links import original_of
from efface.bids.derivatives import UnitPaths
from efface.errors import InputError
from efface.privacy.cohort import Cohort
from efface.privacy.looks import ORIGINAL, HeadFile
from efface.study.tables import Tables


def cohort_of(out_dir: Path, tables: Tables) -> Cohort:
    """Find the scans of a study.

    Parameters
    ----------
    out_dir
        Output of a study.
    tables
        Its tables; what `edits` lists was defaced.

    Raises
    ------
    InputError
        If nothing was defaced, an original is not known or not there, or there are too few people.
    """
    rows = tables.edits.sort_values(["subject", "session", "scan"], kind="stable").to_dict("records")
    if not rows:
        msg = f"{out_dir} holds no defaced scan: run the participant level first"
        raise InputError(msg)
    defaced = [_file(out_dir, row) for row in rows]
    originals: dict[str, HeadFile] = {}
    for file in defaced:
        if file.scan not in originals:
            originals[file.scan] = HeadFile(file.subject, file.session, file.scan, ORIGINAL, _original(file, out_dir))
    return Cohort(list(originals.values()), defaced)


def _file(out_dir: Path, row: Mapping[Any, Any]) -> HeadFile:
    subject, session, scan, method = (str(row[name]) for name in ("subject", "session", "scan", "method"))
    path = UnitPaths(out_dir, subject, session or None, scan).defaced(method)
    return HeadFile(subject, session, scan, method, path, str(row["implementation"]))


def _original(file: HeadFile, out_dir: Path) -> Path:
    path, why = original_of(file.path, out_dir)
    if path is None or not path.is_file():
        msg = f"the original of {file.path.name} is needed: {why or f'{path} is not there; correct DatasetLinks'}"
        raise InputError(msg)
    return path
