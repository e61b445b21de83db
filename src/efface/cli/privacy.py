"""``efface privacy``: whether the people in the defaced scans of a study are found again."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from efface.cli import options as shared

if TYPE_CHECKING:
    import pandas as pd

HELP = "attack the defaced scans of a study, and count the people that are found again among the originals"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.epilog = (
        "Exit code 0: the tables were made, or are up to date. 1: a control of an attack failed, and its numbers cannot "
        "be used. 2: it could not run."
    )
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="output of `efface study`, with its group tables")
    parser.add_argument(
        "--attacks", default="", metavar="A,B",
        help="geometry_face, geometry_head, face_network, by commas (default: all that can be run here; the last needs "
        "the extra efface[face])",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N", help="scans at once (default: what cores and memory allow)")
    shared.add_include_originals(parser)


def run(options: argparse.Namespace) -> int:
    """Attack, write tables and report, and print a line for each method and attack."""
    from efface.cli.progress import show_progress
    from efface.errors import InputError
    from efface.report import build_report
    from efface.study import default_jobs, out_dir_of
    from efface.study.privacy_tables import measure_privacy, read_privacy

    if options.jobs is not None and options.jobs < 1:
        msg = f"--jobs must be 1 or more; received {options.jobs}"
        raise InputError(msg)
    attacks = shared.names(options.attacks)
    if options.attacks and not attacks:
        msg = f"--attacks must name at least one attack; received {options.attacks!r}"
        raise InputError(msg)
    out_dir = out_dir_of(options.out_dir)
    with show_progress() as progress:
        made = measure_privacy(out_dir, attacks=attacks, jobs=options.jobs or default_jobs(), progress=progress)
    summary = made.summary if made else read_privacy(out_dir).summary
    print(f"{out_dir}: {'attacked' if made else 'up to date'}; one row a scan in privacy.tsv")
    unusable = _show(summary)
    print(f"report: {build_report(out_dir, include_originals=options.include_originals).resolve()}")
    return shared.SOME_FAILED if unusable else shared.DONE


def _show(summary: "pd.DataFrame") -> bool:
    """Print the summary; returns whether a control failed."""
    for names, rows in summary.groupby(["attack", "gallery_scan"], sort=False):
        print(f"{', '.join(map(str, names))} of the person in the gallery of {rows.gallery.max():.0f}:")
        for row in rows.to_dict("records"):
            lost = f", {row['not_attacked']:.0f} not attacked" if row["not_attacked"] else ""
            print(
                f"    {row['method']}: {row['rank1']:.0%} of {row['people']:.0f} people at rank 1 "
                f"({row['rank1_low']:.0%} to {row['rank1_high']:.0%}), AUC {row['auc']:.2f} "
                f"({row['auc_low']:.2f} to {row['auc_high']:.2f}){lost}"
            )
        if rows.unusable.iloc[0]:
            print(f"    these numbers cannot be used: {rows.unusable.iloc[0]}")
    return bool((summary.unusable != "").any())
