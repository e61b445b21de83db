"""How far each segmenter's labels move between original and defaced scan, and between original and rescan.

    python validation/segmenter_robustness.py OUT_DIR

OUT_DIR is a study with several segmenters and rescans, after its group level, for example of the demo cohort::

    efface study COHORT OUT_DIR participant --methods quickshear,pydeface --segmenter slant,atlas
    efface study COHORT OUT_DIR group
"""

import sys
from pathlib import Path

import pandas as pd

from efface.segmentation.labels import REGION_NAMES

MEAN = "mean of 132 labels"


def main(out_dir: Path) -> None:
    rows = pd.concat([pd.read_csv(out_dir / name, sep="\t") for name in ("dice.tsv", "rescan.tsv")])
    rows = rows[rows.measure == "dice"].drop_duplicates(["scan", "method", "segmenter", "level", "region"])
    mean = rows[rows.level == "label"].groupby(["scan", "method", "segmenter"], as_index=False).value.mean()
    rows = pd.concat([rows[rows.level != "label"], mean.assign(region=MEAN)])
    table = rows.pivot_table(index="region", columns=["method", "segmenter"], values="value", aggfunc="mean")
    table = table.reindex([MEAN, "whole brain", *REGION_NAMES])
    methods = list(dict.fromkeys(rows.method))  # rescans are segmented by the first segmenter only
    pairs = [(m, s) for m in methods for s in dict.fromkeys(rows.segmenter) if (m, s) in table.columns]
    scans = rows.groupby(["method"]).scan.nunique()
    print("scans:", ", ".join(f"{m} {scans[m]}" for m in methods))
    print("\n| region | ", " | ".join(f"{m}, {s}" for m, s in pairs), " |\n|---|", "---|" * len(pairs), sep="")
    for region, values in table.iterrows():
        print(f"| {region} |", " | ".join(f"{values[pair]:.3f}" for pair in pairs), "|")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
