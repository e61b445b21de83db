"""How much of the effect of defacing on SLANT comes from the alignment: by the brain, or by the whole head.

    python validation/alignment_variants.py run OUT.tsv SCAN [SCAN ...] [--networks whole]
    python validation/alignment_variants.py table OUT.tsv

Each scan and what each method leaves of it (default parameters, brain not protected) are segmented four times:
``align=brain`` and ``align=head``, each with the network for the whole brain and with the 27 tile networks. Pose, brain
mask and bias field are found anew in every image. OUT.tsv gets the Dice between original and defaced of every region,
and how far the affine moved inside the brain; an image that is in it already is not segmented again. ``--networks``
takes one kind of networks only.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import METHODS, apply_edit, plan
from efface.errors import EffaceError
from efface.io.scan import load_scan
from efface.metrics.dice import compare_labels
from efface.segmentation import segment
from efface.segmentation.labels import REGION_NAMES
from efface.segmentation.slant.alignment import aligned
from efface.segmentation.slant.params import SlantParams
from efface.spatial.affine import apply_affine
from efface.spatial.types import Affine, LabelVolume

ALIGNMENTS, NETWORKS = ("brain", "head"), ("whole", "tiles")
MEAN, MOVED = "mean of 132 labels", "affine moved, mm"
COLUMNS = ["scan", "method", "networks", "align", "region", "value"]
SHOWN = ["whole brain", "pooled", MEAN, *REGION_NAMES, MOVED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("out", type=Path)
    parser.add_argument("scans", type=Path, nargs="*")
    parser.add_argument("--networks", choices=NETWORKS, action="append")
    options = parser.parse_args()
    if options.action == "table":
        print_table(pd.read_csv(options.out, sep="\t"))
        return
    done = set()
    if options.out.is_file():
        done = set(pd.read_csv(options.out, sep="\t")[["scan", "method"]].itertuples(index=False, name=None))
    for path in options.scans:
        compare_scan(path, options.out, done, options.networks or NETWORKS)


def compare_scan(path: Path, out: Path, done: set[tuple[str, str]], kinds: Sequence[str]) -> None:
    """Add the rows of one scan that are missing."""
    name = path.name.split(".")[0]
    missing = [method for method in METHODS if (name, method) not in done]
    if not missing:
        return
    original = HeadAnatomy(load_scan(path))
    before = segmented(original, kinds)
    for method in missing:
        try:
            defaced = apply_edit(original.scan, plan(original, method, {}, protect_brain=False))
            after = segmented(HeadAnatomy(defaced), kinds)
        except EffaceError as error:
            print(f"{name} {method}: {error}", file=sys.stderr, flush=True)
            continue
        points = apply_affine(original.scan.affine, np.argwhere(original.brain)[::97])
        rows = []
        for key, (labels, affine) in after.items():
            first, first_affine = before[key]
            values = dice(first, labels)
            moved = np.linalg.norm(apply_affine(affine, points) - apply_affine(first_affine, points), axis=1)
            values[MOVED] = float(np.sqrt((moved**2).mean()))
            rows += [(name, method, *key, region, value) for region, value in values.items()]
        pd.DataFrame(rows, columns=COLUMNS).to_csv(out, sep="\t", index=False, mode="a", header=not out.is_file())
        print(name, method, file=sys.stderr, flush=True)


def segmented(anatomy: HeadAnatomy, kinds: Sequence[str]) -> dict[tuple[str, str], tuple[LabelVolume, Affine]]:
    """Labels and affine (scan mm to template mm) by networks and alignment."""
    affines = {align: aligned(anatomy, SlantParams(align=align), []).to_template for align in ALIGNMENTS}
    return {
        (networks, align): (segment(anatomy, "slant", {"networks": networks, "align": align}).values, affines[align])
        for networks in kinds
        for align in ALIGNMENTS
    }


def dice(before: LabelVolume, after: LabelVolume) -> dict[str, float]:
    """Dice by region."""
    overlaps = compare_labels(before, after)
    values = {o.region if o.level != "pooled" else "pooled": o.dice for o in overlaps if o.level != "label"}
    values[MEAN] = float(np.nanmean([o.dice for o in overlaps if o.level == "label"]))
    return values


def print_table(rows: pd.DataFrame) -> None:
    """Mean over scans and methods, and the whole brain by method."""
    scans = rows.groupby("scan").method.nunique()
    print("scans (methods):", ", ".join(f"{scan} ({n})" for scan, n in scans.items()))
    keys = [(networks, align) for networks in NETWORKS for align in ALIGNMENTS]
    heads = [f"{networks}, align={align}" for networks, align in keys]
    for index, chosen in (("region", rows), ("method", rows[rows.region == MEAN])):
        table = chosen.pivot_table(index=index, columns=["networks", "align"], values="value", aggfunc="mean")
        table = table.reindex(SHOWN if index == "region" else list(METHODS))
        print(f"\n| {index} |", " | ".join(heads), "|\n|---|", "---|" * len(keys), sep="")
        for name, values in table.iterrows():
            print(f"| {name} |", " | ".join(f"{values[key]:.4f}" for key in keys), "|")


if __name__ == "__main__":
    main()
