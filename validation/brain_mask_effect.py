"""How much of the effect of defacing on a segmentation comes from the brain mask that is found in the defaced scan.

Run: ``brain_mask_effect.py STUDY_OUT OUT.tsv [--methods A,B] [--jobs 2]``. STUDY_OUT is the output folder of `efface
study` with SLANT. Each defaced scan is segmented once more, with the brain mask of its original in the place of its own:
then brain mask, pose of the brain and bias field see the same voxels before and after, and what is left of the effect
is that of voxels that changed. OUT.tsv gets the Dice with the segmentation of the original, with both masks; a scan that
is in it already is not segmented again. Prints the median (lowest) of every method.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import METHODS
from efface.io.scan import load_scan
from efface.metrics.dice import compare_labels
from efface.segmentation import segment
from efface.spatial.types import LabelVolume

COLUMNS = ["scan", "method", "mask", "voxels_of_masks_apart", "whole brain", "mean of 132 labels"]


def rows_of(task: tuple[Path, str]) -> list[tuple[object, ...]]:
    """Dice of one defaced scan with its original, with its own brain mask and with the original's."""
    original, method = task
    torch.set_num_threads(1)

    tag = method.replace("_", "")
    before, brain, own = (labels_of(named(original, what)) for what in ("original_dseg", "brain_mask", f"{tag}_dseg"))
    brain = brain > 0
    scan = load_scan(named(original, f"{tag}_T1w"))
    given = segment(HeadAnatomy(scan, brain), "slant", {}).values
    apart = np.count_nonzero(HeadAnatomy(scan).brain != brain)
    name = original.name.split("_desc-")[0]
    return [
        (name, method, "own", apart, *_dice(before, own)),
        (name, method, "of the original", 0, *_dice(before, given)),
    ]


def named(original: Path, what: str) -> Path:
    """Another image of the scan whose segmentation is ``original``."""
    return original.with_name(original.name.replace("original_dseg", what))


def labels_of(path: Path) -> LabelVolume:
    """Labels on the axes that a scan has in memory, RAS+."""
    image = nib.as_closest_canonical(nib.load(path))
    return np.ascontiguousarray(image.dataobj, dtype=np.int32)


def _dice(before: LabelVolume, after: LabelVolume) -> tuple[float, float]:
    overlaps = compare_labels(before, after)
    (whole,) = (overlap.dice for overlap in overlaps if overlap.level == "whole brain")
    return whole, float(np.nanmean([overlap.dice for overlap in overlaps if overlap.level == "label"]))


def print_table(table: pd.DataFrame) -> None:
    """Median (lowest) of every method and mask."""
    for (method, mask), rows in table.groupby(["method", "mask"], sort=False):
        told = [f"{name} {rows[name].median():.4f} ({rows[name].min():.4f})" for name in COLUMNS[4:]]
        print(f"{method}, brain mask {mask}, {len(rows)} scans:", "; ".join(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    known = pd.read_csv(options.out, sep="\t") if options.out.is_file() else pd.DataFrame(columns=COLUMNS)
    done = set(known[["scan", "method"]].itertuples(index=False, name=None))
    waiting = [
        (original, method)
        for original in sorted(options.study.rglob("*_desc-original_dseg.nii.gz"))
        for method in options.methods.split(",")
        if (original.name.split("_desc-")[0], method) not in done
        and named(original, f"{method.replace('_', '')}_dseg").is_file()
    ]
    with ProcessPoolExecutor(options.jobs) as pool:
        for rows in pool.map(rows_of, waiting):
            new = pd.DataFrame(rows, columns=COLUMNS)
            new.to_csv(options.out, sep="\t", index=False, mode="a", header=not options.out.is_file())
    print_table(pd.read_csv(options.out, sep="\t"))


if __name__ == "__main__":
    main()
