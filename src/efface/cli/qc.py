"""``efface qc``: Success, Failure I or Failure II, with the evidence."""

import argparse
import json
from pathlib import Path

from efface.cli import options as shared

HELP = "judge a defaced scan: Success, Failure I (face left), Failure II (brain cut)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.epilog = (
        "Exit code 0 for any verdict; 2 where none can be given. The rank of the original among 1,000 synthetic "
        "faces, by what is left of its face, is evidence: it changes no verdict."
    )
    parser.add_argument("original", metavar="ORIGINAL", help="the scan before defacing")
    parser.add_argument("defaced", metavar="DEFACED", help="the same scan defaced, by any program")
    parser.add_argument("--json", type=Path, metavar="F", help="write verdict and evidence here")
    shared.add_brain_mask(parser, "original's")
    shared.add_force(parser, "the JSON file if it exists")


def run(options: argparse.Namespace) -> int:
    """Judge, and print the verdict with its evidence."""
    from efface._api import qc
    from efface.io.atomic import as_private_as, write_atomically

    shared.check_paths([options.original, options.defaced, options.brain_mask], [options.json], force=options.force)
    verdict = qc(options.original, options.defaced, brain_mask=options.brain_mask)
    if options.json:
        content = json.dumps(verdict.to_json(), indent=2) + "\n"
        with as_private_as([Path(options.original), Path(options.defaced)]):
            write_atomically(options.json, content.encode(), force=options.force)
    shared.warn(verdict.warnings)
    print(verdict.verdict)
    print(f"score   {verdict.score:.2f}  (a failure from 0.50 on)")
    print(f"reason  {verdict.reason}")
    for line in verdict.lines():
        print(line)
    return shared.DONE
