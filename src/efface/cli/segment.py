"""``efface segment``: the 132 BrainCOLOR labels of one scan."""

import argparse
from pathlib import Path
from typing import Any

from efface.bids.derivatives import UNNAMED_SEGMENTER
from efface.cli import options as shared
from efface.cli.memory import keep_freed_memory
from efface.parameters import pairs_to_mapping

HELP = "segment the brain into the 132 BrainCOLOR labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.add_argument("scan", metavar="IN", help="NIfTI or MGH file of one head")
    parser.add_argument("out", metavar="OUT", type=Path, help="where the labels go (.nii or .nii.gz)")
    parser.add_argument("--segmenter", metavar="NAME", help=f"see `efface methods` (default: {UNNAMED_SEGMENTER})")
    shared.add_param(parser, "segmenter")
    shared.add_slant_weights(parser)
    parser.add_argument("--volumes", type=Path, metavar="T.tsv", help="write volumes in ml here")
    shared.add_force(parser)


def run(options: argparse.Namespace) -> int:
    """Segment, and write the labels and their volumes."""
    from efface._api import segment_with

    keep_freed_memory()
    params: dict[str, Any] = dict(pairs_to_mapping(options.param))
    shared.check_paths([options.scan], [options.out, options.volumes], force=options.force)
    segmenter = shared.first_segmenter(options.segmenter)
    params = shared.with_slant_weights({segmenter: params}, options.slant_weights, (segmenter,))[segmenter]
    result = segment_with(options.scan, segmenter, params)
    result.scan.save_like(result.labels.values, options.out, force=options.force)
    volumes = result.volumes
    if options.volumes:
        from efface.io.atomic import as_private_as
        from efface.study.records import write_table

        with as_private_as([Path(options.scan)]):
            write_table(options.volumes, volumes)
    shared.warn((*result.scan.warnings, *result.labels.warnings))
    present = int(((volumes.level == "label") & (volumes.volume_ml > 0)).sum())
    print(f"{options.out}: {present} labels, {volumes.volume_ml.iloc[0]:.0f} ml")
    return shared.DONE
