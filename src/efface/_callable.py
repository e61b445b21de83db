"""`efface.deface` and `efface.segment` are packages, and functions too: `efface.deface(image)` just works."""

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A module that can be called as the function of its name in `efface.api`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module("efface.api"), self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(name: str) -> None:
    """Let the module `name` be called as the function of the same name in `efface.api`."""
    sys.modules[name].__class__ = _CallableModule
