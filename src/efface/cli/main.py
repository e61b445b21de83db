"""The parser of every command, exit codes, and errors in one line."""

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from efface._version import __version__
from efface.cli.options import DONE, INTERRUPTED, USAGE, complain
from efface.errors import EffaceError
from efface.io.scratch import clean_up

COMMANDS = (
    "deface",
    "segment",
    "compare",
    "qc",
    "audit",
    "share",
    "study",
    "privacy",
    "report",
    "review",
    "dataset",
    "demo",
    "train",
    "methods",
)
"""Each is a module of this package with ``HELP``, ``add_arguments(parser)`` and ``run(options)``."""
GOES_ON = frozenset({"demo", "share", "study", "train"})
"""Commands that keep what is done, and go on from there when they are run again."""
EPILOG = (
    "Exit codes: 0 all done; 1 some scans failed (listed at the end); 2 usage or input error (one line on stderr); "
    "130 interrupted (Ctrl-C)."
)
OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file name need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(argv)
    try:
        clean_up()
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except EffaceError as error:
        complain(str(error))
        return USAGE
    except KeyboardInterrupt:
        complain("interrupted; the same command goes on from here" if options.goes_on else "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left
        sys.stderr.close()
        return DONE
    except MemoryError:
        complain("not enough memory: run it on a machine with more, or with fewer jobs (--jobs); nothing was written")
        return USAGE
    except OSError as error:
        if error.errno is None:
            raise
        complain(_system_error(error))
        return USAGE


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the error in one line and end with exit code 2."""
        complain(f"{message} (see `{self.prog} --help`)")
        raise SystemExit(USAGE)


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    parser = OneLineParser(
        prog="efface", description="Remove faces from head MRI, and measure what that costs.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"efface {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=OneLineParser)
    for name in COMMANDS:
        module = importlib.import_module(f"efface.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=f"{module.HELP[0].upper()}{module.HELP[1:]}.")
        module.add_arguments(command)
        command.set_defaults(run=module.run, goes_on=name in GOES_ON)
    return parser


def _system_error(error: OSError) -> str:
    """What the operating system refused, and what to do."""
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    advice = "free some space" if error.errno in OUT_OF_SPACE else "check the path and its permissions"
    return f"{where}{(error.strerror or type(error).__name__).lower()}: {advice}, then run the same command again"
