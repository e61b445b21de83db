"""``efface review``: look at every defaced scan in the browser."""

import argparse
from pathlib import Path

from efface.cli import options as shared

HELP = "look at every defaced scan in the browser, and vote"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="output of `efface study`, or of `efface share`")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="of the local page (default: a free one)")
    parser.add_argument("--reviewer", default="", metavar="NAME", help="whose votes these are (default: the page asks)")
    parser.add_argument(
        "--blind",
        action="store_true",
        help="show the automatic verdict and others' votes only after the reviewer's own; in random order",
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address, which works once")


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, then print how many votes there are."""
    from efface.review import serve
    from efface.study.ratings import ratings_path

    first = True

    def say(url: str) -> None:
        nonlocal first
        more = "\nonly this machine can open it, once, in one browser; Ctrl-C ends"
        print(f"review: {url}{more}" if first else f"opened; for another browser: {url}", flush=True)
        first = False

    session = serve(
        options.out_dir,
        port=options.port,
        reviewer=options.reviewer,
        blind=options.blind,
        open_browser=not options.no_browser,
        say=say,
    )
    log = session.log()
    print(f"{ratings_path(session.votes_dir)}: {len(log.last)} votes of {len(session.cases)} cases")
    if log.broken:
        shared.warn([f"{log.broken} lines there cannot be read (cut short by a crash?) and are left out"])
    return shared.DONE
