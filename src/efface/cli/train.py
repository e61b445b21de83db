"""``efface train``: how our weights and priors were made, again."""

import argparse
import importlib
from collections.abc import Callable, Sequence

HELP = "make our own weights and priors again from labelled heads"
TRAINERS = ("slant", "defacer", "pose", "priors", "left_face", "face_shape", "face_gallery")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("what", choices=TRAINERS, help="`efface train WHAT --help` says more")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the training command")


def run(options: argparse.Namespace) -> int:
    """Hand over to the training module."""
    train: Callable[[Sequence[str]], int] = importlib.import_module(f"efface.training.{options.what}").main
    return train(options.arguments)
