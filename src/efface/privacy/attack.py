"""What an attack is: one record, which the command line, the tables, the tests and the documentation read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from efface.privacy.placed_head import PlacedHead


@dataclass(frozen=True)
class Attack:
    """A way to find the person in a defaced scan among the originals of a cohort.

    Attributes
    ----------
    name
        As the tables have it.
    title
        For figures and reports.
    summary
        What is compared, in a few words.
    reference
        The paper behind it.
    enrol
        Makes of an original what the attacker keeps of it; None where there is nothing to keep. It can be pickled.
    look
        Makes of a defaced scan what the attacker compares; None where nothing is left to compare. It can be pickled.
    distance
        How unlike what `look` and `enrol` gave are, 0 or more; smaller is more alike.
    packages
        Distributions whose code or data decide what it finds, beyond those of efface itself.
    missing
        Why the attack cannot be run on this machine, and what to install; empty where it can.
    """

    name: str
    title: str
    summary: str
    reference: str
    enrol: Callable[[PlacedHead], Any]
    look: Callable[[PlacedHead], Any]
    distance: Callable[[Any, Any], float]
    packages: tuple[str, ...] = ()
    missing: Callable[[], str] = str
