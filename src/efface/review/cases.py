"""The cases of a review: every defaced scan of a study with its files. No image is opened here."""

import csv
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efface.bids.dataset_links import UNLINKED, original_of
from efface.bids.derivatives import ORIGINAL, UNNAMED_SEGMENTER, GroupPaths, UnitPaths, alphanumeric, recipe_of
from efface.errors import InputError
from efface.io.encoding import SUFFIXES
from efface.io.json_files import read_object
from efface.study.ratings import VERDICTS, fingerprint
from efface.study.study_record import recorded_scans

_DEFACED = re.compile(r"(?P<stem>sub-.+)_desc-(?P<description>[A-Za-z0-9]+)_(?P<suffix>[A-Za-z0-9]+)\.nii\.gz")
SETTLED_NS = 2_000_000_000
_NO_SCANS = ("mask", "dseg")
_MEND = f": correct DatasetLinks in dataset_description.json, or link the data set at {UNLINKED}"


@dataclass(frozen=True)
class ReviewCase:
    """One defaced scan.

    Attributes
    ----------
    paths
        Where all files of the scan are.
    method
        Name of the method, as in every table.
    segmenter
        Which segmentation is shown.
    automatic, score
        The automatic verdict and how bad it is (0 to 1); empty and NaN where there is none.
    """

    paths: UnitPaths
    method: str
    segmenter: str
    automatic: str = ""
    score: float = math.nan

    @property
    def id(self) -> str:
        """Identifier on the page."""
        return f"{self.paths.stem}_desc-{self.method}"

    @property
    def defaced(self) -> Path:
        """The defaced scan."""
        return self.paths.defaced(self.method)

    @property
    def evidence(self) -> Path:
        """Evidence of the automatic verdict, JSON."""
        return self.defaced.with_name(self.defaced.name.removesuffix(f"{self.paths.suffix}.nii.gz") + "qc.json")

    @property
    def image(self) -> str:
        """Fingerprint of the defaced scan as it is now."""
        return fingerprint(self.defaced)

    def original(self) -> tuple[Path | None, str]:
        """The scan before defacing, or why it cannot be shown."""
        path, why = original_of(self.defaced, self.paths.out_dir)
        if path is None:
            return None, why
        if not path.name.endswith(SUFFIXES):
            return None, f"the original {path.name} is no image"
        try:
            return (path, "") if path.is_file() else (None, f"the original is not at {path} any more{_MEND}")
        except OSError as error:
            return None, f"the original {path} cannot be reached ({error.strerror})"

    @property
    def urgency(self) -> float:
        """By which cases are ordered, the highest first."""
        return -1.0 if math.isnan(self.score) else self.score

    def evidence_content(self) -> dict[str, Any]:
        """Evidence of the automatic verdict; empty where there is none."""
        return read_object(self.evidence)

    def recipe_content(self) -> dict[str, Any]:
        """How the defaced scan was made; empty where this is not known."""
        return read_object(recipe_of(self.defaced))

    def volumes(self) -> dict[str, Path]:
        """The images that can be shown and are there, by kind."""
        before, _ = self.original()
        found = {
            "before": before,
            "after": self.defaced,
            "edit": self.paths.mask(self.method),
            "labels-before": self.paths.segmentation(ORIGINAL, self.segmenter),
            "labels-after": self.paths.segmentation(self.method, self.segmenter),
            "brain": self.paths.brain(),
        }
        return {kind: path for kind, path in found.items() if path is not None and path.is_file()}


def find_cases(out_dir: Path, known: dict[Path, tuple[int, list[ReviewCase]]] | None = None) -> list[ReviewCase]:
    """Find every defaced scan of a study, by name and method, with its automatic verdict where there is one.

    Scans that are not in the study any more are left out.

    Parameters
    ----------
    out_dir
        Output of a study.
    known
        What was found in each folder before, kept up to date: only folders that have changed are read again.

    Raises
    ------
    InputError
        If the folder is no study's output, has no defaced scan yet, or the record of its scans cannot be read.
    """
    settings = read_object(GroupPaths(out_dir).description).get("Efface")
    if not isinstance(settings, dict):
        msg = f"{out_dir} is no study output: run `efface study BIDS {out_dir} participant` first"
        raise InputError(msg)
    listed = settings.get("Methods")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    methods = {alphanumeric(name): name for name in names}
    segmenter = settings.get("Segmenter")
    segmenter = segmenter if isinstance(segmenter, str) and segmenter.isalnum() else UNNAMED_SEGMENTER
    verdicts = _automatic_verdicts(out_dir)
    known = {} if known is None else known
    scans = recorded_scans(out_dir)
    cases = []
    for subject in _folders(out_dir, "sub-"):
        for session in [None, *_folders(subject, "ses-")]:
            folder = (session or subject) / "anat"
            stamp = _changed_ns(folder)
            if folder not in known or known[folder][0] != stamp:
                found = list(_defaced_scans(out_dir, subject, session, methods, segmenter))
                known[folder] = (stamp, found)
            cases += [case for case in known[folder][1] if scans is None or case.paths.stem in scans]
    if not cases:
        msg = f"{out_dir} holds no defaced scan of {', '.join(methods.values())}: run the participant level first"
        raise InputError(msg)
    order = list(methods.values())
    cases = [_with_verdict(case, verdicts.get((case.paths.stem, case.method))) for case in cases]
    return sorted(cases, key=lambda case: (case.paths.stem, order.index(case.method)))


def _defaced_scans(
    out_dir: Path, subject: Path, session: Path | None, methods: Mapping[str, str], segmenter: str
) -> Iterator[ReviewCase]:
    """Cases of one folder, with the verdicts of their evidence files."""
    labels = (subject.name.removeprefix("sub-"), session.name.removeprefix("ses-") if session else None)
    names = set(_files((session or subject) / "anat"))
    for name in names:
        match = _DEFACED.fullmatch(name)
        if match and name.isprintable() and match["description"] in methods and match["suffix"] not in _NO_SCANS:
            paths = UnitPaths(out_dir, *labels, match["stem"], match["suffix"])
            case = ReviewCase(paths, methods[match["description"]], segmenter)
            has_evidence = case.evidence.name in names
            yield _with_verdict(case, _verdict_of(read_object(case.evidence)) if has_evidence else None)


def _with_verdict(case: ReviewCase, verdict: tuple[str, float] | None) -> ReviewCase:
    return case if verdict is None else replace(case, automatic=verdict[0], score=verdict[1])


def _changed_ns(folder: Path) -> int:
    """When a name in a folder last changed; -1 where it has none, and a new number each time while it may yet change."""
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return -1
    now = time.time_ns()
    return changed if now - changed > SETTLED_NS else now


def _folders(parent: Path, prefix: str) -> list[Path]:
    with os.scandir(parent) as entries:
        found = [e.name for e in entries if e.name.startswith(prefix) and e.name.isprintable() and e.is_dir()]
    return sorted(parent / name for name in found)


def _files(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - thousands of names, no need of a path for each
    except FileNotFoundError:
        return []


def _automatic_verdicts(out_dir: Path) -> dict[tuple[str, str], tuple[str, float]]:
    """All of qc.tsv in one read; cases it lacks are looked up one by one."""
    try:
        text = (out_dir / "qc.tsv").read_text(encoding="utf-8-sig", errors="replace")
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, csv.Error):
        return {}
    return {(r.get("scan", ""), r.get("method", "")): verdict for r in rows if (verdict := _verdict_of(r))[0]}


def _verdict_of(content: Mapping[str, Any]) -> tuple[str, float]:
    try:
        score = float(content.get("score", "nan"))
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    score = score if math.isfinite(score) else math.nan
    verdict = content.get("verdict")
    return (verdict, score) if verdict in VERDICTS else ("", math.nan)
