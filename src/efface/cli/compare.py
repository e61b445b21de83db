"""``efface compare``: Dice of two segmentations."""

import argparse
import math
from pathlib import Path

from efface.cli import options as shared

HELP = "Dice of two segmentations: whole brain (union, and all labels pooled), nine regions, 132 labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("a", metavar="SEG_A", help="labels, BrainCOLOR ids")
    parser.add_argument("b", metavar="SEG_B", help="labels on the same grid")
    parser.add_argument("--out", type=Path, metavar="T.tsv", help="write all rows here; n/a = empty in both")
    shared.add_force(parser, "the table if it exists")


def run(options: argparse.Namespace) -> int:
    """Compare, print the regions, and write the table."""
    from efface._api import dice
    from efface.study.records import write_table

    shared.check_paths([options.a, options.b], [options.out], force=options.force)
    frame = dice(options.a, options.b)
    shared.warn(frame.attrs["warnings"])
    if options.out:
        write_table(options.out, frame)
    unions = frame[frame.level != "label"]
    for region, value in zip(unions.region, unions.dice, strict=True):
        print(f"{region:<14}{'n/a' if math.isnan(value) else format(value, '.4f')}")
    labels = frame[frame.level == "label"].dice
    mean = "n/a" if labels.isna().all() else f"{labels.mean():.4f}"
    print(f"{'mean of labels':<14}{mean}  ({labels.notna().sum()} of {len(labels)} present)")
    return shared.DONE
