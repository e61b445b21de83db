"""The BIDS validator, run on a data set: the official program, from the package ``bids-validator-deno``."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.errors import ExternalToolError, MissingDependencyError
from efface.io.programs import find_program

PROGRAM = "bids-validator-deno"
"""The program, and the package that brings it."""
LIMIT_S = 3600.0
MOST_FILES = 3


@dataclass(frozen=True)
class Validated:
    """What the validator said.

    Attributes
    ----------
    version
        Of the validator.
    errors
        One line for each kind of error.
    warnings
        Number of warnings.
    """

    version: str
    errors: tuple[str, ...]
    warnings: int


def check_validator() -> Path:
    """Where the validator is.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    program = find_program(PROGRAM)
    if program is None:
        msg = f"--validate needs the BIDS validator: install it with `pip install {PROGRAM}`"
        raise MissingDependencyError(msg)
    return program


def validate(folder: Path) -> Validated:
    """Run the validator on a raw data set.

    Parameters
    ----------
    folder
        The data set.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    ExternalToolError
        If it failed.
    """
    command = [str(check_validator()), "--format", "json", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        content = json.loads(done.stdout)
        issues = content["issues"]["issues"]
        names = content["issues"].get("codeMessages", {})
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        msg = f"the BIDS validator failed ({type(error).__name__}): run `{PROGRAM} {folder}` to see why"
        raise ExternalToolError(msg) from error
    errors = [issue for issue in issues if issue.get("severity") == "error"]
    warnings = sum(issue.get("severity") == "warning" for issue in issues)
    version = str(content.get("summary", {}).get("schemaVersion", ""))
    return Validated(f"(schema {version})" if version else "", tuple(_lines(errors, names)), warnings)


def _lines(errors: list[Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """One line for each kind of error, with the first files that have it."""
    kinds: dict[str, list[str]] = {}
    for issue in errors:
        kind = " ".join(filter(None, [issue.get("code", ""), issue.get("subCode", "")]))
        kinds.setdefault(kind, []).append(str(issue.get("location", "")))
    lines = []
    for kind, files in kinds.items():
        more = f" and {len(files) - MOST_FILES} more" if len(files) > MOST_FILES else ""
        said = names.get(kind.split(" ")[0], "")
        lines.append(f"{kind}: {', '.join(files[:MOST_FILES])}{more}" + (f" ({said})" if said else ""))
    return lines
