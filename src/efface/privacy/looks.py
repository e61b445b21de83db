"""What an attacker sees in each scan of a cohort: one look a scan, on several processes.

A scan that cannot be looked at has a reason.
"""

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from efface.errors import EffaceError, one_line
from efface.io.scan import load_scan
from efface.privacy.controls import cut_flat, noisy
from efface.privacy.placed_head import PlacedHead, place
from efface.privacy.registry import ATTACKS

T = TypeVar("T")
LOST = "the process that looked at it died, probably out of memory: try a smaller --jobs"
ORIGINAL, UNTOUCHED, FLAT = "original", "untouched", "flat"
"""``method`` of the scans before defacing, and of the two controls."""
NOTHING_LEFT = "nothing is left that this attack could compare"


@dataclass(frozen=True)
class HeadFile:
    """One scan of the cohort.

    Attributes
    ----------
    subject, session, scan
        As in every table of a study.
    method
        What defaced it; `ORIGINAL` where nothing did.
    path
        The image.
    implementation
        ``native`` or ``original``; empty where nothing defaced it.
    """

    subject: str
    session: str
    scan: str
    method: str
    path: Path
    implementation: str = ""


@dataclass(frozen=True)
class Look:
    """What attacks see in one scan.

    Attributes
    ----------
    file
        The scan.
    seen
        By (attack, role): what it compares, or None where nothing is left. The roles of a defaced scan are its method;
        those of an original `ORIGINAL` (as the attacker keeps it), `UNTOUCHED` and `FLAT`.
    reasons
        By role, or by (attack, role) joined with a blank: why it could not be looked at.
    doubt
        Why the pose may be wrong.
    """

    file: HeadFile
    seen: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    doubt: str = ""

    def reason(self, attack: str, role: str) -> str:
        """Why an attack cannot be run; empty where it can."""
        return self.reasons.get(role, "") or self.reasons.get(f"{attack} {role}", "")


def look_at(file: HeadFile, attacks: Sequence[str], *, add_noise: bool = True) -> Look:
    """Look at one scan with every attack; expected errors become reasons.

    Parameters
    ----------
    file
        An original, of which the controls are made too, or a defaced scan.
    attacks
        Names in `ATTACKS`.
    add_noise
        Whether noise is added to the untouched control: not where the gallery holds another scan of the person.
    """
    made = _Made(attacks)
    if file.method != ORIGINAL:
        head = made.tried(file.method, lambda: place(load_scan(file.path)))
        made.look(file.method, head, "look")
        return Look(file, made.seen, made.reasons, head.doubt if head else "")
    scan = made.tried(ORIGINAL, lambda: load_scan(file.path))
    head = made.tried(ORIGINAL, lambda: place(_there(scan)))
    made.look(ORIGINAL, head, "enrol")
    again = made.tried(UNTOUCHED, lambda: place(noisy(_there(scan)))) if add_noise else head
    made.look(UNTOUCHED, again, "look")
    made.look(FLAT, made.tried(FLAT, lambda: cut_flat(_there(head))), "look")
    return Look(file, made.seen, made.reasons, head.doubt if head else "")


def _there(thing: T | None) -> T:
    """What an earlier step has made."""
    if thing is None:
        msg = "the original cannot be used"
        raise EffaceError(msg)
    return thing


class _Made:
    """Results and reasons while a scan is looked at."""

    def __init__(self, attacks: Sequence[str]) -> None:
        self.attacks = attacks
        self.seen: dict[tuple[str, str], Any] = {}
        self.reasons: dict[str, str] = {}

    def tried(self, key: str, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except EffaceError as error:
            self.reasons.setdefault(key, one_line(str(error)))
            return None

    def look(self, role: str, head: PlacedHead | None, how: str) -> None:
        """Let the attacks look at a head, as ``enrol`` or ``look`` of their records."""
        for name in self.attacks:
            if head is not None:
                function = getattr(ATTACKS[name], how)
                self.seen[name, role] = self.tried(f"{name} {role}", functools.partial(function, head))


def looks(files: Sequence[HeadFile], attacks: Sequence[str], twins: frozenset[str], jobs: int) -> Iterator[Look]:
    """Look at every scan, in their order.

    Parameters
    ----------
    files
        Originals and defaced scans.
    attacks
        Names in `ATTACKS`.
    twins
        Scans that are in the gallery themselves: noise is added to their untouched control.
    jobs
        Processes; with 1, everything happens in this one.
    """
    if jobs <= 1 or len(files) <= 1:
        for file in files:
            yield look_at(file, attacks, add_noise=file.scan in twins)
        return
    waiting = list(files)
    while waiting:
        done = 0
        with _pool(min(jobs, len(waiting))) as pool:
            tasks = [pool.submit(look_at, file, attacks, add_noise=file.scan in twins) for file in waiting]
            for look in _until_broken(tasks):
                done += 1
                yield look
        waiting = waiting[done:]
        for file in waiting[:jobs]:  # it was one of the next ones: each alone
            yield _alone(file, attacks, add_noise=file.scan in twins)
        waiting = waiting[jobs:]


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread)


def _until_broken(tasks: "Sequence[Future[Look]]") -> Iterator[Look]:
    """What was seen, until a process dies, and the pool with it: which scan it was is not said."""
    for task in tasks:
        try:
            look = task.result()
        except BrokenProcessPool:
            return
        yield look


def _alone(file: HeadFile, attacks: Sequence[str], *, add_noise: bool) -> Look:
    """Look at a scan in a process of its own; where that dies, it is this scan's doing."""
    with _pool(1) as pool:
        try:
            return pool.submit(look_at, file, attacks, add_noise=add_noise).result()
        except BrokenProcessPool:
            roles = (ORIGINAL, UNTOUCHED, FLAT) if file.method == ORIGINAL else (file.method,)
            return Look(file, reasons=dict.fromkeys(roles, LOST))


def _one_thread() -> None:
    """Let each process use one thread: there are as many processes as cores, or fewer."""
    import torch

    torch.set_num_threads(1)
