"""What defacing changes in a segmentation by networks that were, and were not, trained on heads without a face.

    python validation/face_removal.py OUT_DIR NAME=WEIGHTS_DIR [NAME=WEIGHTS_DIR ...]

OUT_DIR is a study. Only heads that all the trainings held out count (``split.json`` beside the weights). Each original
and each of its defaced scans is segmented by each of the networks, everything before the networks found anew; the
table gives Dice between original and defaced.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.dataset_links import original_of
from efface.io.scan import load_scan
from efface.metrics.dice import compare_labels
from efface.segmentation import segment
from efface.segmentation.labels import Labels


def main(out_dir: Path, trainings: dict[str, Path]) -> None:
    held = set.intersection(*(set(json.loads((t / "split.json").read_text())["held"]) for t in trainings.values()))
    rows = []
    for subject in sorted(held):
        before: dict[str, Labels] = {}
        for path in sorted(out_dir.glob(f"{subject}/**/*_T1w.nii.gz")):
            if not before:
                source, why = original_of(path, out_dir)
                assert source is not None, why
                before = labels_of(source, trainings)
            method = path.name.split("_desc-")[1].split("_")[0]
            for name, after in labels_of(path, trainings).items():
                overlaps = compare_labels(before[name].values, after.values)
                whole = next(o.dice for o in overlaps if o.level == "whole brain")
                each = [o.dice for o in overlaps if o.level == "label"]
                rows.append((subject, method, name, whole, float(np.nanmean(each)), float(np.nanmin(each))))
                print(*rows[-1], file=sys.stderr, flush=True)
    table = pd.DataFrame(rows, columns=["subject", "method", "networks", "whole brain", "132 labels", "worst label"])
    columns = ["whole brain", "132 labels", "worst label"]
    print(f"{len(held)} heads: {', '.join(sorted(held))}")
    print(table.groupby(["method", "networks"])[columns].mean().round(4).to_string())
    print(table.groupby("networks")[columns].mean().round(4).to_string())


def labels_of(path: Path, trainings: dict[str, Path]) -> dict[str, Labels]:
    """Segmentations by each of the networks; pose, brain and what is resampled are found once for all of them."""
    anatomy = HeadAnatomy(load_scan(path))
    return {name: segment(anatomy, "slant", {"compact": str(folder / "weights")}) for name, folder in trainings.items()}


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), {a.partition("=")[0]: Path(a.partition("=")[2]) for a in sys.argv[2:]})
