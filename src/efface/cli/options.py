"""What several commands share: options, exit codes, checks of paths, messages."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efface.bids.derivatives import UNNAMED_SEGMENTER
from efface.errors import InputError, OutputError, one_line
from efface.parameters import pairs_by_owner

SLANT = "slant"
DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def add_header(parser: argparse.ArgumentParser) -> None:
    """Add ``--header`` and ``--sidecar-keep``."""
    parser.add_argument(
        "--header", choices=("scrub", "keep"), default="scrub",
        help="scrub (default): remove text from headers, and all but acquisition parameters from sidecars "
        "(docs: privacy); keep: leave it",
    )  # fmt: skip
    parser.add_argument(
        "--sidecar-keep",
        action="append",
        default=[],
        metavar="KEY",
        help="keep this key of sidecars too; may be repeated",
    )


def add_include_originals(parser: argparse.ArgumentParser) -> None:
    """Add ``--include-originals`` and its opposite."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--include-originals",
        action="store_true",
        help="show undefaced scans in the report and its figures; do not share such a report",
    )
    choice.add_argument(
        "--no-originals", action="store_true", help="no effect (this is the default); kept for older scripts"
    )


def add_slant_weights(parser: argparse.ArgumentParser) -> None:
    """Add ``--slant-weights``."""
    parser.add_argument(
        "--slant-weights", metavar="DIR", help="folder of the 27 published SLANT networks, instead of our own"
    )


def add_param(parser: argparse.ArgumentParser, of: str) -> None:
    """Add ``--param``."""
    text = f"a parameter of the {of}; may be repeated (see `efface methods`)"
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help=text)


def add_force(parser: argparse.ArgumentParser, what: str = "outputs that exist") -> None:
    """Add ``--force``."""
    parser.add_argument("--force", action="store_true", help=f"overwrite {what}; an input is never overwritten")


def add_brain_mask(parser: argparse.ArgumentParser, grid: str) -> None:
    """Add ``--brain-mask``."""
    parser.add_argument("--brain-mask", metavar="M", help=f"brain mask on the {grid} grid, instead of finding the brain")


def names(text: str) -> tuple[str, ...]:
    """Split a list with commas."""
    return tuple(filter(None, text.split(",")))


def chosen_methods(text: str) -> tuple[str, ...]:
    """Names of methods from ``--methods``."""
    from efface.defacing import METHODS

    return tuple(METHODS) if text == "all" else names(text)


Chosen = dict[str, dict[str, Any]]
"""Parameters by method or segmenter."""


def chosen_params(pairs: Sequence[str], methods: Sequence[str], segmenters: Sequence[str]) -> tuple[Chosen, Chosen]:
    """Parameters of methods and of segmenters from ``--param M.NAME=VALUE``.

    Raises
    ------
    InputError
        If a parameter is of something that is not run, or text is no such pair.
    """
    found = pairs_by_owner(pairs)
    others = [owner for owner in found if owner not in (*methods, *segmenters)]
    if others:
        msg = f"--param must be of what is run: {', '.join((*methods, *segmenters))}; received {', '.join(others)}"
        raise InputError(msg)
    of_methods: Chosen = {name: dict(found[name]) for name in methods if name in found}
    of_segmenters: Chosen = {name: dict(found[name]) for name in segmenters if name in found}
    return of_methods, of_segmenters


def with_slant_weights(params: Chosen, folder: str | None, segmenters: Sequence[str]) -> Chosen:
    """Parameters by segmenter with those of ``--slant-weights``.

    Raises
    ------
    InputError
        If SLANT is not among the segmenters.
    """
    if folder is None:
        return params
    if SLANT not in segmenters:
        msg = f"--slant-weights goes with --segmenter slant; received {', '.join(segmenters)}"
        raise InputError(msg)
    return params | {SLANT: {**params.get(SLANT, {}), "weights": str(Path(folder).resolve())}}


def first_segmenter(text: str | None) -> str:
    """The segmenter of ``--segmenter``, or the default one."""
    return text or UNNAMED_SEGMENTER


def check_paths(
    inputs: Sequence[str | Path | None], outputs: Sequence[str | Path | None], *, force: bool | None = None
) -> None:
    """Refuse outputs that are an input, that are given twice, or that exist.

    Parameters
    ----------
    inputs, outputs
        All paths that the command reads and writes; None for options that were not given. Hard links, symbolic links
        and other spellings of an input count as the input.
    force
        Whether existing outputs may be overwritten; None checks nothing about existing outputs.

    Raises
    ------
    OutputError
        If an output cannot be written there; an input is refused with ``--force`` too.
    """
    sources = [Path(one) for one in inputs if one is not None]
    resolved = {Path(os.path.realpath(one)) for one in sources}  # unlike resolve(), it takes a link to itself
    seen: set[Path] = set()
    for given in (Path(one) for one in outputs if one is not None):
        path = Path(os.path.realpath(given))
        if path in resolved or any(_is_same_file(given, one) for one in sources):
            msg = f"output {given} is an input, which would be lost: choose another path"
            raise OutputError(msg)
        if path in seen or any(_is_same_file(given, one) for one in seen):
            msg = f"output {given} is given twice: choose another path for one of them"
            raise OutputError(msg)
        seen.add(path)
    if force is not None:
        from efface.io.atomic import check_output

        for given in (Path(one) for one in outputs if one is not None):
            check_output(given, force=force)


def _is_same_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:  # one of them is not there yet
        return False


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on stderr, each once."""
    for warning in dict.fromkeys(warnings):
        print(f"warning: {one_line(warning)}", file=sys.stderr)


def complain(message: str) -> None:
    """Print an error on stderr, in one line."""
    print(f"efface: error: {one_line(message)}", file=sys.stderr)
