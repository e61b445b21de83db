"""``efface demo``: a whole study on virtual people."""

import argparse
import time
from pathlib import Path

from efface.cli import options as shared
from efface.cli.study import run_group, run_participants

HELP = "run a whole study on an embedded cohort of four virtual people"
METHODS = "quickshear,pydeface"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("out_dir", metavar="OUT_DIR", nargs="?", type=Path, default=Path("efface-demo"))
    text = f"as in `efface study` (default: {METHODS}, for time)"
    parser.add_argument("--methods", default=METHODS, metavar="A,B", help=text)
    parser.add_argument("--jobs", type=int, metavar="N", help="scans at once (default: what cores and memory allow)")


def run(options: argparse.Namespace) -> int:
    """Make the cohort, run both levels, and print the time."""
    from efface.simulation.cohort import make_cohort
    from efface.study import Settings, Study
    from efface.study.backends import backend_of

    start = time.perf_counter()
    bids_dir, out_dir = options.out_dir / "cohort", options.out_dir / "efface"
    settings = Settings(bids_dir, out_dir, shared.chosen_methods(options.methods))
    print(f"making four virtual people, two sessions each, in {bids_dir}", flush=True)
    make_cohort(bids_dir)
    code = run_participants(Study(settings), backend_of(None, options.jobs))
    run_group(out_dir, include_originals=True)  # these people do not exist
    print(f"{time.perf_counter() - start:.0f} s")
    return code
