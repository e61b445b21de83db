"""Public names that are imported when they are first used, so that `import efface` stays light."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package
        Name of the package, its ``__name__``.
    homes
        For each public name, the full name of the module that defines it.

    Returns
    -------
    tuple
        The functions to assign to ``__getattr__`` and ``__dir__`` (PEP 562).
    """

    def load(name: str) -> Any:
        if name not in homes:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(importlib.import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted(homes)

    return load, names
