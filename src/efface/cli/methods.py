"""``efface methods``: what can be run here, with all parameters."""

import argparse
from typing import TYPE_CHECKING

from efface.cli import options as shared
from efface.errors import MissingDependencyError

if TYPE_CHECKING:
    from efface.defacing import DefacingMethod
    from efface.parameters import Params

HELP = "list the methods and segmenters, their parameters, and what can be run here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("--params", action="store_true", help="list every parameter with its default and its limits")


def run(options: argparse.Namespace) -> int:
    """Print the tables of methods and segmenters."""
    from efface.defacing import METHODS
    from efface.segmentation import SEGMENTERS

    print("defacing methods (efface deface --method)")
    for method in METHODS.values():
        print(f"  {method.name:<12} native    {method.summary} ({method.reference})")
        print(f"  {'':<12} original  {_external(method)}")
        if options.params:
            _print_params(method.params)
    print("segmenters (efface segment --segmenter)")
    for segmenter in SEGMENTERS.values():
        print(f"  {segmenter.name:<12} native    {segmenter.summary}")
        if options.params:
            _print_params(segmenter.params)
    return shared.DONE


def _external(method: "DefacingMethod") -> str:
    """Where the published program is, or why it cannot be run."""
    from efface.defacing.external import find_program

    if method.external is None:
        return f"cannot be run: it {method.external_note}"
    try:
        return f"at {find_program(method.name)}"
    except MissingDependencyError:
        return f"not installed: {method.external.install}"


def _print_params(params: "type[Params]") -> None:
    from efface.parameters import describe

    for one in describe(params):
        unit = f" {one.unit}" if one.unit else ""
        allowed = f" ({one.allowed})" if one.allowed else ""
        print(f"  {'':<12} --param   {one.name}={one.default}{unit}{allowed}: {one.help}")
