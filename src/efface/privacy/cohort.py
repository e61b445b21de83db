"""A cohort under attack: every probe against the gallery of originals, one a person, with the controls."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.privacy.attack import Attack
from efface.privacy.looks import FLAT, NOTHING_LEFT, ORIGINAL, UNTOUCHED, HeadFile, Look, looks
from efface.statistics.identification import Identification, identification

MINIMUM_PEOPLE = 3
"""A gallery of fewer people says nothing."""
SAME_SCAN, ANOTHER_SCAN = "same scan", "another scan"
"""Whether the gallery holds the very scan that was defaced, or another one of the person."""
FOUND_AT_LEAST = 0.9
"""Rank-1 rate of the untouched control from which an attack can say something."""
CONTROLS = (UNTOUCHED, FLAT)


@dataclass(frozen=True)
class ProbeResult:
    """One probe and attack: a row of privacy.tsv.

    Attributes
    ----------
    file
        The probe; its method may be a control.
    attack, gallery_scan
        Name of the attack; `SAME_SCAN` or `ANOTHER_SCAN`.
    gallery
        People in the gallery.
    rank
        Of the true person; NaN where nothing was there to compare or the probe was not attacked.
    own, nearest_other
        Distance of the true person, and of the nearest other one.
    status, reason
        ``attacked``, ``nothing left`` or ``not attacked``, and why; of an attacked probe, a doubt about its pose.
    """

    file: HeadFile
    attack: str
    gallery_scan: str
    gallery: int
    rank: float
    own: float
    nearest_other: float
    status: str
    reason: str


ATTACKED, NOTHING, NOT_ATTACKED = "attacked", "nothing left", "not attacked"


@dataclass(frozen=True)
class GroupResult:
    """One method (or control) and attack: a row of privacy_summary.tsv.

    Attributes
    ----------
    method, implementation, attack, gallery_scan
        What was attacked, and how.
    found
        The numbers.
    unusable
        Why the numbers of this attack cannot be used: a control failed. Empty where they can.
    """

    method: str
    implementation: str
    attack: str
    gallery_scan: str
    found: Identification
    unusable: str = ""


@dataclass(frozen=True)
class Measured:
    """Everything that was found.

    Attributes
    ----------
    probes
        One for each probe and attack, controls included.
    groups
        One for each method and attack, controls included.
    """

    probes: tuple[ProbeResult, ...] = ()
    groups: tuple[GroupResult, ...] = ()


@dataclass
class Cohort:
    """The scans of a cohort.

    Attributes
    ----------
    originals
        At least one a person; the first of each person, in this order, is in the gallery.
    defaced
        The probes.
    """

    originals: Sequence[HeadFile]
    defaced: Sequence[HeadFile]
    gallery: Mapping[str, HeadFile] = field(init=False)

    def __post_init__(self) -> None:
        gallery: dict[str, HeadFile] = {}
        for file in self.originals:
            gallery.setdefault(file.subject, file)
        self.gallery = gallery
        if len(gallery) < MINIMUM_PEOPLE:
            msg = (
                f"the originals of {len(gallery)} people were found; an attack needs at least {MINIMUM_PEOPLE} to "
                "choose from: run it on a larger study"
            )
            raise InputError(msg)

    def files(self) -> list[HeadFile]:
        """Every scan to look at: originals of people with probes, and the probes."""
        return [*self.originals, *self.defaced]

    def look(self, attacks: Sequence[Attack], jobs: int = 1) -> Iterator[Look]:
        """Look at every scan; see `efface.privacy.looks`."""
        twins = frozenset(file.scan for file in self.gallery.values())
        return looks(self.files(), [attack.name for attack in attacks], twins, jobs)

    def compare(self, seen: Sequence[Look], attacks: Sequence[Attack], jobs: int = 1) -> Measured:
        """Compare every probe with the gallery.

        Parameters
        ----------
        seen
            Of every scan, from `look`.
        attacks
            Those that looked.
        jobs
            Threads.
        """
        probes: list[ProbeResult] = []
        groups: list[GroupResult] = []
        for attack in attacks:
            for gallery_scan in (SAME_SCAN, ANOTHER_SCAN):
                found = _Comparison(self.gallery, attack, gallery_scan, jobs).run(seen)
                probes += found.probes
                groups += found.groups
        return Measured(tuple(probes), tuple(groups))


@dataclass(frozen=True)
class _Comparison:
    """One attack, with probes of one kind."""

    gallery: Mapping[str, HeadFile]
    attack: Attack
    gallery_scan: str
    jobs: int

    def run(self, seen: Sequence[Look]) -> Measured:
        """Compare, and judge by the controls."""
        kept = {look.file.subject: look for look in seen if self.gallery.get(look.file.subject) == look.file}
        enrolled = {s: look.seen.get((self.attack.name, ORIGINAL)) for s, look in kept.items()}
        subjects = [subject for subject in self.gallery if enrolled.get(subject) is not None]
        probes = [(look, role) for look in seen for role in self._roles(look)]
        kept_of_originals = [enrolled[subject] for subject in subjects]
        with ThreadPoolExecutor(max(1, self.jobs)) as pool:
            rows = list(pool.map(lambda probe: self._distances(probe[0], probe[1], kept_of_originals), probes))
        results: list[ProbeResult] = []
        groups: list[GroupResult] = []
        for method, implementation in dict.fromkeys(_kind(look, role) for look, role in probes):
            chosen = [i for i, (look, role) in enumerate(probes) if _kind(look, role) == (method, implementation)]
            mine = [probes[i] for i in chosen]
            distances = np.array([rows[i] for i in chosen]).reshape(len(mine), len(subjects))
            reasons = [self._reason(look, role, kept, enrolled) for look, role in mine]
            found = identification(distances, _own(mine, subjects), np.array([not why for why in reasons]))
            results += [
                self._result(*probe, row, subjects, why, rank)
                for probe, row, why, rank in zip(mine, distances, reasons, found.ranks, strict=True)
            ]
            groups.append(GroupResult(method, implementation, self.attack.name, self.gallery_scan, found))
        return Measured(tuple(results), _judged(groups))

    def _roles(self, look: Look) -> tuple[str, ...]:
        """As which probes a scan is compared with a gallery of this kind."""
        twin = self.gallery.get(look.file.subject)
        if twin is None or (twin.scan == look.file.scan) != (self.gallery_scan == SAME_SCAN):
            return ()
        return CONTROLS if look.file.method == ORIGINAL else (look.file.method,)

    def _distances(self, look: Look, role: str, enrolled: Sequence[object]) -> NDArray[np.float64]:
        probe = look.seen.get((self.attack.name, role))
        if probe is None:
            return np.full(len(enrolled), np.nan)
        return np.array([self.attack.distance(probe, one) for one in enrolled], dtype=np.float64)

    def _reason(self, look: Look, role: str, kept: Mapping[str, Look], enrolled: Mapping[str, object]) -> str:
        """Why a probe was not attacked; empty where it was."""
        why = look.reason(self.attack.name, role)
        if why:
            return why
        subject = look.file.subject
        if enrolled.get(subject) is not None:
            return ""
        original = kept[subject].reason(self.attack.name, ORIGINAL) if subject in kept else ""
        return f"the person is not in the gallery: {original or NOTHING_LEFT}"

    def _result(
        self, look: Look, role: str, row: NDArray[np.float64], subjects: Sequence[str], why: str, rank: float
    ) -> ProbeResult:
        file = replace(look.file, method=role)
        is_there = not why and not np.isnan(row).all()
        own = row[subjects.index(file.subject)] if is_there else np.nan
        others = np.delete(row, subjects.index(file.subject)) if is_there else np.array([np.nan])
        status = NOT_ATTACKED if why else ATTACKED if is_there else NOTHING
        said = why or (look.doubt if is_there else NOTHING_LEFT)
        return ProbeResult(file, self.attack.name, self.gallery_scan, len(subjects), rank, float(own),
                           float(others.min()) if others.size else float("nan"), status, said)  # fmt: skip


def _kind(look: Look, role: str) -> tuple[str, str]:
    """Method (or control) and implementation."""
    return role, look.file.implementation


def _own(probes: Sequence[tuple[Look, str]], subjects: Sequence[str]) -> NDArray[np.intp]:
    """Column of each probe's person; a negative number of its own for a person who is not in the gallery."""
    column = {subject: i for i, subject in enumerate(subjects)}
    absent = dict.fromkeys(look.file.subject for look, _ in probes if look.file.subject not in column)
    column |= {subject: -1 - i for i, subject in enumerate(absent)}
    return np.array([column[look.file.subject] for look, _ in probes], dtype=np.intp)


def _judged(groups: Sequence[GroupResult]) -> tuple[GroupResult, ...]:
    """The groups with what their controls say."""
    controls = {group.method: group.found for group in groups if group.method in CONTROLS}
    why = " and ".join(filter(None, [_not_found(controls.get(UNTOUCHED)), _found_flat(controls.get(FLAT))]))
    return tuple(replace(group, unusable=why) for group in groups)


def _not_found(untouched: Identification | None) -> str:
    if untouched is None or not untouched.probes:
        return "there is no untouched scan as a control"
    if untouched.rank1 >= FOUND_AT_LEAST:
        return ""
    return f"only {untouched.rank1:.0%} of untouched scans are found at rank 1 (expected {FOUND_AT_LEAST:.0%})"


def _found_flat(flat: Identification | None) -> str:
    if flat is None or not flat.probes:
        return "there is no head cut flat as a control"
    if flat.rank1_low <= flat.chance and not flat.auc_low > 0.5:
        return ""
    return f"heads cut flat are found (rank 1 {flat.rank1:.0%}, AUC {flat.auc:.2f}): something else gives them away"
