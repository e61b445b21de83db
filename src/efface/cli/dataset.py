"""``efface dataset``: a published download into BIDS."""

import argparse
from pathlib import Path
from typing import Any

from efface.cli import options as shared
from efface.errors import InputError

HELP = "put a published download into BIDS; the download is not changed"
DATASETS = ("kirby21", "oasis3")
"""Keys of `efface.bids.importers.IMPORTERS`, which is not imported only to print help."""
OWN = {"kirby21": ("contrasts", "pairs"), "oasis3": ("subjects", "seed", "all")}
"""Options of one data set only."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("name", choices=DATASETS, help="Kirby 21 (KKI2009) of NITRC, or OASIS-3")
    parser.add_argument("source", metavar="SRC", type=Path, help="folder of the download")
    parser.add_argument("bids_dir", metavar="BIDS_DIR", type=Path, help="where the data set goes, outside SRC")
    parser.add_argument("--link", action="store_true", help="make symbolic links instead of copies")
    kirby = parser.add_argument_group("kirby21")
    kirby.add_argument(
        "--contrasts", metavar="A,B", help="of MPRAGE, FLAIR and T2w (default: MPRAGE, which the study reads)"
    )
    kirby.add_argument(
        "--pairs", type=Path, metavar="FILE", help="a table scan, subject[, session] instead of the published mapping"
    )
    oasis = parser.add_argument_group("oasis3")
    oasis.add_argument(
        "--subjects", type=int, metavar="N", help="people chosen at random, one T1w scan each (default: 179, the paper)"
    )
    oasis.add_argument("--seed", type=int, metavar="S", help="of that choice (default: 0)")
    oasis.add_argument("--all", action="store_true", help="every T1w scan of every person")


def run(options: argparse.Namespace) -> int:
    """Copy or link the download, and print how much there was."""
    from efface.bids.importers import IMPORTERS

    done = IMPORTERS[options.name](options.source, options.bids_dir, link=options.link, **own_options(options))
    shared.warn(done.warnings)
    print(f"{options.bids_dir}: {done.scans} scans of {done.subjects} subjects, {done.written} files written")
    return shared.DONE


def own_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of the data set itself.

    Raises
    ------
    InputError
        If an option of another data set was given, or two do not go together.
    """
    values = {name: getattr(options, name) for names in OWN.values() for name in names}
    given = {name: value for name, value in values.items() if value is not None and value is not False}
    strange = sorted(set(given) - set(OWN[options.name]))
    if strange:
        msg = f"--{strange[0]} is not an option of {options.name}: leave it out (see `efface dataset --help`)"
        raise InputError(msg)
    if "contrasts" in given:
        given["contrasts"] = shared.names(given["contrasts"])
    if given.pop("all", False):
        if "subjects" in given:
            msg = "--all takes every person and --subjects some: give one of them"
            raise InputError(msg)
        given["subjects"] = None
    return given
