"""``efface report``: figures and report again, from the tables."""

import argparse
from pathlib import Path

from efface.cli import options as shared

HELP = "rebuild figures and report.html from a study's tables"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="output of `efface study`")
    shared.add_include_originals(parser)


def run(options: argparse.Namespace) -> int:
    """Build the report, and print its path."""
    from efface.report import build_report
    from efface.study import out_dir_of

    out_dir = out_dir_of(options.out_dir)
    print(f"report: {build_report(out_dir, include_originals=options.include_originals).resolve()}")
    return shared.DONE
