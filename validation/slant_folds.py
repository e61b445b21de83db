"""The table of SLANT's cross-validation: Dice of every region over the heads held out by all folds.

    python validation/slant_folds.py FOLD_DIR [FOLD_DIR ...]

Each folder is a training of one fold with its ``dice.tsv`` (`efface train slant evaluate`).
"""

import sys
from pathlib import Path

import pandas as pd

from efface.segmentation.labels import REGION_NAMES

MEAN = "mean of 132 labels"


def main(folders: list[Path]) -> None:
    rows = pd.concat([pd.read_csv(folder / "dice.tsv", sep="\t") for folder in folders])
    labels = rows[rows.level == "label"].groupby(["subject", "grid"], as_index=False).dice.mean()
    table = pd.concat([rows[rows.level != "label"], labels.assign(region=MEAN)])
    print(f"{rows.subject.nunique()} heads: {', '.join(sorted(rows.subject.unique()))}\n")
    print("| region | scan's grid: mean | sd | lowest | 2 mm grid: mean |\n|---|---|---|---|---|")
    for region in (MEAN, "whole brain", *REGION_NAMES, "other"):
        scan, standard = (table[(table.region == region) & (table.grid == g)].dice for g in ("scan", "standard"))
        print(f"| {region} | {scan.mean():.3f} | {scan.std():.3f} | {scan.min():.3f} | {standard.mean():.3f} |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main([Path(a) for a in sys.argv[1:]])
