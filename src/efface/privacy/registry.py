"""All attacks, in the order of tables and figures."""

from collections.abc import Mapping
from types import MappingProxyType

from efface.errors import InputError, MissingDependencyError
from efface.privacy import face_network, geometry
from efface.privacy.attack import Attack

ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {attack.name: attack for attack in (geometry.FACE, geometry.HEAD, face_network.ATTACK)}
)
"""Name to record."""


def chosen_attacks(names: tuple[str, ...]) -> tuple[Attack, ...]:
    """Attacks by their names; all that can be run here, where none is named.

    Raises
    ------
    InputError
        If there is no such attack.
    MissingDependencyError
        If a named attack cannot be run on this machine.
    """
    if not names:
        return tuple(attack for attack in ATTACKS.values() if not attack.missing())
    for name in names:
        if name not in ATTACKS:
            msg = f"attack must be one of {', '.join(ATTACKS)}; received {name!r}"
            raise InputError(msg)
        if why := ATTACKS[name].missing():
            raise MissingDependencyError(why)
    return tuple(ATTACKS[name] for name in dict.fromkeys(names))
