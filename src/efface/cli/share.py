"""``efface share``: the copy of a BIDS data set that may be uploaded."""

import argparse
import sys
from pathlib import Path
from typing import Any

from efface.cli import options as shared
from efface.errors import one_line
from efface.parameters import pairs_to_mapping

HELP = "make the copy of a BIDS data set that may be uploaded: every face removed and checked, or the image withheld"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("bids_dir", metavar="BIDS_DIR", type=Path, help="the data set; it is never written to")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="the data set that may be shared, raw BIDS")
    parser.add_argument("level", nargs="?", choices=("participant",), help="as of every BIDS App; may be left out")
    parser.add_argument("--participant-label", nargs="+", default=[], metavar="L", help="only these subjects")
    parser.add_argument("--session-label", nargs="+", default=[], metavar="L", help="only these sessions")
    parser.add_argument(
        "--bids-filter", "--bids-filter-file", dest="bids_filter", metavar="FILE|JSON",
        help="only images whose entities match, as in fMRIPrep: {\"t1w\": {\"acquisition\": \"mprage\"}}",
    )  # fmt: skip
    parser.add_argument("--method", default="pydeface", metavar="NAME", help="see `efface methods` (default: pydeface)")
    shared.add_param(parser, "method")
    parser.add_argument("--link", action="store_true", help="hard links where nothing changes, instead of copies")
    parser.add_argument(
        "--dates", choices=("remove", "shift", "keep"), default="remove",
        help="of scans.tsv, sessions.tsv and sidecars: remove (default); shift, by one random number of days a subject "
        "that is stored nowhere; keep",
    )  # fmt: skip
    parser.add_argument(
        "--across-sessions", action="store_true",
        help="where a session has no image that can decide what is removed, take one of another session",
    )  # fmt: skip
    parser.add_argument(
        "--also", action="append", default=[], metavar="PATH",
        help="take along this file or folder, relative to BIDS_DIR, as it is: efface does not look into it; may be "
        "repeated",
    )  # fmt: skip
    shared.add_header(parser)
    parser.add_argument("--jobs", type=int, metavar="N", help="sessions at once (default: what cores and memory allow)")
    parser.add_argument("--memory", type=float, metavar="GB", help="of a worker, which is ended where it needs more")
    parser.add_argument("--cluster", metavar="C", help="tcp://HOST:PORT of a dask scheduler, or slurm, pbs, sge, lsf")
    parser.add_argument("--cluster-config", type=Path, metavar="F", help="YAML: what to ask the batch system for")
    parser.add_argument("--validate", action="store_true", help="run the BIDS validator on the result")


def run(options: argparse.Namespace) -> int:
    """Share, and print what was withheld."""
    from efface.bids.filters import load_filter
    from efface.cli.progress import show_progress
    from efface.report.share_page import build_share_page
    from efface.share import ShareSettings, share
    from efface.share.validator import check_validator
    from efface.study.backends import backend_of

    settings = ShareSettings(
        options.bids_dir,
        options.out_dir,
        options.method,
        pairs_to_mapping(options.param),
        link=options.link,
        dates=options.dates,
        header=options.header,
        sidecar_keep=tuple(options.sidecar_keep),
        across_sessions=options.across_sessions,
        also=tuple(options.also),
    )
    if options.validate:
        check_validator()
    backend = backend_of(options.cluster, options.jobs, memory_gb=options.memory, config=options.cluster_config)
    with show_progress("sessions") as progress:
        result = share(
            settings,
            backend=backend,
            subjects=options.participant_label,
            sessions=options.session_label,
            bids_filter=load_filter(options.bids_filter) if options.bids_filter else None,
            progress=progress,
        )
    page = build_share_page(options.out_dir)
    is_valid = _validate(options.out_dir) if options.validate else True
    _print(options.out_dir, result, page)
    return shared.DONE if is_valid and not result.withheld else shared.SOME_FAILED


def _print(out_dir: Path, result: Any, page: Path) -> None:
    from efface.share import Became

    counts = ", ".join(f"{result.count(outcome)} {outcome.value}" for outcome in Became)
    sessions = f"{result.sessions} session{'s' * (result.sessions != 1)}"
    print(f"{out_dir}: {counts}; {sessions}, {result.computed} computed")
    for row in result.withheld:
        print(one_line(f"withheld: {row.path}: {row.reason}"), file=sys.stderr)
    for row in result.misnamed:
        print(one_line(f"left out: {row.path}: {row.reason}"), file=sys.stderr)
    if result.withheld:
        print(f"look at what was withheld, and vote: efface review {out_dir}; then run the same command again")
    print(f"report: {page.resolve()}")


def _validate(out_dir: Path) -> bool:
    """Run the BIDS validator, print its errors, and say whether there are none."""
    from efface.share.validator import validate

    found = validate(out_dir)
    for issue in found.errors:
        print(one_line(f"BIDS validator: {issue}"), file=sys.stderr)
    print(f"BIDS validator {found.version}: {len(found.errors)} errors, {found.warnings} warnings")
    return not found.errors
