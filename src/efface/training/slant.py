"""Command line of the SLANT training: the data, one network for all tiles, 27 networks from it, and their accuracy.

Run the stages in this order. Each may be repeated: finished parts are kept, and interrupted ones are resumed::

    efface train slant prepare BIDS_DIR CACHE
    efface train slant prepare OTHER_HEADS CACHE --derivative atlas --unproven
    efface train slant pretrain CACHE START --fold start
    efface train slant pretrain CACHE OUT --fold 0 --start START
    efface train slant specialise CACHE OUT
    efface train slant evaluate CACHE OUT --bids BIDS_DIR

``START`` is a network trained on heads that no fold holds out, because their labels are no reference: the atlas, and
heads that the atlas segmenter labelled. Every fold, and the final training, can start from it. ``--fold all`` holds
nothing out; it makes the weights to ship. ``OUT/weights`` is a folder for the parameter ``compact`` of the segmenter.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from efface.segmentation.slant.tiling import EMBEDDED
from efface.training import slant_data
from efface.training.slant_fit import Schedule
from efface.training.slant_split import AUGMENTATION, make_split
from efface.training.slant_stages import evaluate, pretrain, specialise

PRETRAIN_STEPS, SPECIALISE_STEPS = 450, 12
SPECIALISE_RATE = 4e-4


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage from the command line."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.stage == "prepare":
        slant_data.prepare(
            options.bids_dir,
            options.cache,
            derivative=options.derivative,
            bias=options.bias,
            unproven=options.unproven,
        )
    elif options.stage == "pretrain":
        faceless = 0.0 if options.no_face_removal else AUGMENTATION.face
        split = make_split(options.cache, options.fold, stripped=options.stripped, seed=options.seed, faceless=faceless)
        pretrain(options.cache, options.out, split, Schedule(options.steps), options.start)
    elif options.stage == "specialise":
        steps = options.steps
        schedule = Schedule(steps, rate=SPECIALISE_RATE, warmup=10, epoch=steps, memory=0.99)
        specialise(options.cache, options.out, schedule, tuple(options.tiles))
    else:
        evaluate(options.cache, options.out, options.bids, options.derivative)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="efface train slant", description="Train the compact networks of SLANT.")
    stages = parser.add_subparsers(dest="stage", required=True)
    prepare = stages.add_parser("prepare", help="put labelled heads on the standard grid")
    prepare.add_argument("bids_dir", type=Path, help="data set with labels in its derivatives")
    prepare.add_argument("cache", type=Path, help="folder for the arrays")
    prepare.add_argument("--derivative", default="dlmuse", help="derivative with the labels (default: %(default)s)")
    prepare.add_argument("--no-bias-correction", dest="bias", action="store_false", help="skip N4")
    prepare.add_argument("--unproven", action="store_true", help="the labels are no reference: never hold out")
    pretraining = stages.add_parser("pretrain", help="train one network for all tiles")
    _add_folders(pretraining)
    pretraining.add_argument("--fold", default="all", help="0 to 4, start, or all (default)")
    pretraining.add_argument("--start", type=Path, metavar="OUT", help="start from the network of this training")
    pretraining.add_argument("--no-face-removal", action="store_true", help="never remove the face of an example")
    pretraining.add_argument("--stripped", action="store_true", help="show the networks the brain only")
    pretraining.add_argument("--seed", type=int, default=1, help="of all random draws (default: %(default)s)")
    pretraining.add_argument("--steps", type=int, default=PRETRAIN_STEPS, help="default: %(default)s")
    specialisation = stages.add_parser("specialise", help="train a network for each tile")
    _add_folders(specialisation)
    specialisation.add_argument("--steps", type=int, default=SPECIALISE_STEPS, help="default: %(default)s")
    specialisation.add_argument("--tiles", nargs="+", default=EMBEDDED.names, choices=EMBEDDED.names, metavar="TILE")
    evaluation = stages.add_parser("evaluate", help="Dice of the heads held out")
    _add_folders(evaluation)
    evaluation.add_argument("--bids", type=Path, help="data set with labels on the scan grids")
    evaluation.add_argument("--derivative", default="dlmuse", help="derivative with them (default: %(default)s)")
    return parser


def _add_folders(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("cache", type=Path, help="folder that the stage prepare filled")
    stage.add_argument("out", type=Path, help="folder of the training")


if __name__ == "__main__":
    raise SystemExit(main())
