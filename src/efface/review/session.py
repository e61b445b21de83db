"""State of a review: cases, votes, and what a blind review hides."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.review.agreement import Agreement, agreement
from efface.review.cases import ReviewCase, find_cases
from efface.review.evidence import evidence_lines
from efface.review.shared_cases import find_shared_cases
from efface.segmentation.labels import LABELS
from efface.share.records import HOME, is_shared
from efface.study.quality_tables import write_quality
from efface.study.ratings import (
    Rating,
    RatingLog,
    append_rating,
    check_reviewer,
    is_stale,
    now,
    ratings_path,
    read_ratings,
)

GOLDEN_TURN = 0.618034


@dataclass
class Session:
    """One `efface review`.

    Attributes
    ----------
    out_dir
        The study.
    blind
        The automatic verdict and other reviewers' votes are kept back until a reviewer has voted.
    reviewer
        Name to begin with; empty: the page asks.
    scratch
        Private folder for images that show a face, in which what was withheld is made again; needed for the output of
        `efface share` only.
    cases
        Everything there is to review, by id.
    """

    out_dir: Path
    blind: bool = False
    reviewer: str = ""
    scratch: Path | None = None
    cases: dict[str, ReviewCase] = field(default_factory=dict)
    _known: dict[Path, tuple[int, list[ReviewCase]]] = field(default_factory=dict)
    _log: tuple[tuple[int, int], RatingLog] = ((-1, -1), RatingLog((), 0))

    def __post_init__(self) -> None:
        if self.reviewer:
            check_reviewer(self.reviewer)
        self.refresh()

    def refresh(self) -> None:
        """Look for new results of the study, or of the shared data set.

        Raises
        ------
        InputError
            If there is nothing to review.
        """
        if is_shared(self.out_dir):
            if self.scratch is None:
                msg = "the review of a shared data set needs a private folder: give scratch"
                raise InputError(msg)
            self.cases = {case.id: case for case in find_shared_cases(self.out_dir, self.scratch)}
        else:
            self.cases = {case.id: case for case in find_cases(self.out_dir, self._known)}

    @property
    def votes_dir(self) -> Path:
        """Folder below which the votes are kept."""
        return self.out_dir / HOME if is_shared(self.out_dir) else self.out_dir

    def log(self) -> RatingLog:
        """All votes, read again only when the file has changed."""
        try:
            status = ratings_path(self.votes_dir).stat()
        except OSError:
            return read_ratings(self.votes_dir)
        stamp = (status.st_size, status.st_mtime_ns)
        if self._log[0] != stamp:
            self._log = (stamp, read_ratings(self.votes_dir))
        return self._log[1]

    def study(self, reviewer: str) -> dict[str, Any]:
        """Content of the case list, in the order of review."""
        reviewer = reviewer or self.reviewer
        log = self.log()
        mine = {vote.case: vote for (name, *_), vote in log.last.items() if name == reviewer}
        rows = []
        for case in self._ordered(reviewer):
            vote = mine.get((case.paths.stem, case.method))
            stale = vote is not None and is_stale(vote, case.image)
            known = vote if vote is not None and not stale else None
            shown = self._automatic(case, voted=known is not None)
            rows.append([case.id, case.paths.stem, case.method, *shown, known and known.verdict, stale])
        return {
            "name": str(self.out_dir),
            "blind": self.blind,
            "reviewer": reviewer,
            "reviewers": sorted({vote.reviewer for vote in log.ratings}),
            "broken": log.broken,
            "cases": rows,
        }

    def details(self, case_id: str, reviewer: str) -> dict[str, Any]:
        """Details of one case, without images.

        Raises
        ------
        InputError
            If there is no such case.
        """
        case = self.case(case_id)
        current = [v for v in self.log().last.values() if v.case == (case.paths.stem, case.method)]
        current = [v for v in current if not is_stale(v, case.image)]
        mine = next((v for v in current if v.reviewer == reviewer), None)
        recipe = case.recipe_content()
        parameters = recipe.get("Parameters")
        volumes = case.volumes()
        return {
            "id": case.id,
            "volumes": {kind: path.name for kind, path in volumes.items()},
            "no_original": "" if "before" in volumes else case.original()[1],
            "implementation": _text(recipe.get("Implementation")),
            "parameters": parameters if isinstance(parameters, dict) else {},
            "vote": mine and asdict(mine),
            "open": mine is not None or not self.blind,
            **self._revealed(case, [v for v in current if v.reviewer != reviewer], voted=mine is not None),
        }

    def vote(self, case_id: str, reviewer: str, verdict: str, note: str) -> dict[str, Any]:
        """Save a vote; when this returns, it is on the disk.

        Raises
        ------
        InputError
            If there is no such case, or the vote cannot be taken.
        OutputError
            If it could not be written.
        """
        case = self.case(case_id)
        before = self.details(case_id, reviewer)
        paths = case.paths
        # A vote opens the verdict on this image, and taking it back does not make it unseen.
        key = (reviewer, paths.stem, case.method, case.image)
        earlier = any((v.reviewer, *v.case, v.image) == key for v in self.log().ratings)
        shown = bool(case.automatic) and (before["open"] or earlier)
        session = paths.session or ""
        names = (now(), reviewer, paths.subject, session, paths.stem, case.method)
        append_rating(self.votes_dir, Rating(*names, verdict, note, case.image, automatic_shown=shown))
        return self.details(case_id, reviewer)

    def case(self, case_id: str) -> ReviewCase:
        """A case by its id.

        Raises
        ------
        InputError
            If there is none.
        """
        if case_id not in self.cases:
            msg = f"there is no case {case_id[:80]!r} in this study: reload the page"
            raise InputError(msg)
        return self.cases[case_id]

    def agreement(self) -> Agreement:
        """Of all reviewers with each other and with the automatic verdicts; anchored votes are counted apart."""
        images = {(c.paths.stem, c.method): c for c in self.cases.values()}
        log = self.log()
        blind = _words(log.blind.values(), images)
        anchored = _words((vote for vote in log.last.values() if vote.automatic_shown), images)
        return agreement(blind, {key: c.automatic for key, c in images.items() if c.automatic}, anchored)

    def export(self) -> str:
        """Write the votes into qc.tsv and table1.tsv, as the group level does, and say so.

        Raises
        ------
        OutputError
            If a table cannot be written.
        """
        if is_shared(self.out_dir):
            return f"{len(self.log().last)} votes; the next `efface share` follows them"
        quality, _ = write_quality(self.out_dir)
        return f"{int(quality.reviewers.sum())} votes in qc.tsv and table1.tsv"

    def _ordered(self, reviewer: str) -> Iterable[ReviewCase]:
        """Worst first; in a blind review in random order, another one for each reviewer."""
        if self.blind:
            return sorted(self.cases.values(), key=lambda c: hashlib.sha256(f"{reviewer}|{c.id}".encode()).digest())
        return sorted(self.cases.values(), key=lambda c: c.urgency, reverse=True)

    def _automatic(self, case: ReviewCase, *, voted: bool) -> tuple[str | None, float | None]:
        if (self.blind and not voted) or not case.automatic:
            return None, None
        return case.automatic, None if math.isnan(case.score) else case.score

    def _revealed(self, case: ReviewCase, others: list[Rating], *, voted: bool) -> dict[str, Any]:
        """Automatic verdict, evidence and other votes; hidden before a blind vote."""
        automatic, score = self._automatic(case, voted=voted)
        if self.blind and not voted:
            return {"automatic": None, "score": None, "reason": "", "evidence": [], "warnings": [], "others": []}
        content = case.evidence_content()
        recipe = case.recipe_content()
        sources = (recipe.get("Warnings"), content.get("warnings"))
        warnings = [w for source in sources if isinstance(source, list) for w in source]
        return {
            "automatic": automatic,
            "score": score,
            "reason": _text(content.get("reason")),
            "evidence": [asdict(line) for line in evidence_lines(content)],
            "warnings": list(dict.fromkeys(map(str, warnings))),
            "others": [{"reviewer": v.reviewer, "verdict": v.verdict, "note": v.note} for v in others],
        }


def _words(
    votes: Iterable[Rating], cases: Mapping[tuple[str, str], ReviewCase]
) -> dict[str, dict[tuple[str, str], str]]:
    """Verdicts by reviewer and case, of images as they are now."""
    words: dict[str, dict[tuple[str, str], str]] = {}
    for vote in votes:
        case = cases.get(vote.case)
        if case is not None and not is_stale(vote, case.image):
            words.setdefault(vote.reviewer, {})[vote.case] = vote.verdict
    return words


def _text(value: Any) -> str:
    """Text of a JSON file; empty for anything else."""
    return value if isinstance(value, str) else ""


def label_colours() -> dict[str, Any]:
    """Names and colours of the 132 labels, left and right alike: a colour table for the viewer."""
    import colorsys

    rows: list[tuple[int, str, tuple[int, ...], int]] = [(0, "", (0, 0, 0), 0)]
    for label in LABELS:
        turn = GOLDEN_TURN * min(label.id, label.partner)
        rgb = colorsys.hsv_to_rgb(turn % 1, 0.55 + 0.4 * (turn * 7 % 1), 0.75 + 0.25 * (turn * 3 % 1))
        rows.append((label.id, label.name, tuple(round(255 * c) for c in rgb), 255))
    red, green, blue = zip(*(rgb for _, _, rgb, _ in rows), strict=True)
    return {
        "I": [r[0] for r in rows], "labels": [r[1] for r in rows], "A": [r[3] for r in rows],
        "R": red, "G": green, "B": blue,
    }  # fmt: skip
