"""The command line: parse, call, print. Heavy imports happen inside the command that needs them."""

from efface.cli.main import build_parser, main

__all__ = ["build_parser", "main"]
