"""Where external programs are looked for: on PATH, then beside the running interpreter.

An environment that is not activated is not on PATH, although ``pip install quickshear`` has put the program there.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path


def find_program(name: str | Path) -> Path | None:
    """Path of a program that can be run; None where there is none.

    Parameters
    ----------
    name
        A name, looked for in `search_path`; or a path, which is taken as it is.
    """
    found = shutil.which(str(name), path=search_path())
    return None if found is None else Path(found)


def search_path() -> str:
    """PATH, followed by the folders of `beside_interpreter`."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *map(str, beside_interpreter())))


def beside_interpreter() -> tuple[Path, ...]:
    """Folders into which the environment of the running interpreter installs programs."""
    folders = [Path(sysconfig.get_path("scripts"))]
    if sys.executable:  # empty where Python is embedded in another program
        folders.insert(0, Path(sys.executable).parent)
    return tuple(dict.fromkeys(folders))
