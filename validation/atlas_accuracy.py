"""Dice of the atlas segmenter against the DLMUSE labels of the development heads, seconds and peak memory.

    python validation/atlas_accuracy.py [--heads ../shared/data/heads] [--subjects sub-01 sub-02 ...] [--out dice.tsv]

Heads without labels are segmented and timed only. Time is split into anatomy (brain mask, average head: shared
with the defacing methods) and segmentation; the first head also pays for loading the atlas and the network.
Run it for one subject at a time (``--subjects sub-child``) to see that subject's own peak memory.
"""

import argparse
import resource
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.io.scan import load_scan
from efface.segmentation import REGIONS, segment
from efface.segmentation.labels import LABEL_IDS


def dice_rows(reference: NDArray[np.int32], found: NDArray[np.int32]) -> dict[str, float]:
    """Dice of every label, of every region and of the whole brain; NaN where both are empty."""
    size = max(int(reference.max()), int(found.max()), LABEL_IDS[-1]) + 1
    joint = np.bincount(reference.ravel() * size + found.ravel(), minlength=size * size).reshape(size, size)
    groups = {str(i): (i,) for i in LABEL_IDS} | dict(REGIONS) | {"whole brain": tuple(range(1, size))}
    rows = {}
    for name, ids in groups.items():
        members = list(ids)
        total = joint[members].sum() + joint[:, members].sum()
        rows[name] = float(2 * joint[np.ix_(members, members)].sum() / total) if total else float("nan")
    rows["mean of 132"] = float(np.nanmean([rows[str(i)] for i in LABEL_IDS]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=Path, default=Path("../shared/data/heads"))
    parser.add_argument("--subjects", nargs="*")
    parser.add_argument("--out", type=Path, help="write every label's Dice for every head here")
    options = parser.parse_args()
    subjects = options.subjects or sorted(p.name for p in options.heads.glob("sub-*"))
    columns = ["mean of 132", "whole brain", *REGIONS]
    results = {}
    print("\t".join(["subject", *columns, "anatomy_s", "segment_s", "peak_gb"]))
    for subject in subjects:
        anatomy = HeadAnatomy(load_scan(options.heads / subject / "anat" / f"{subject}_T1w.nii.gz"))
        start = time.perf_counter()
        _ = anatomy.brain, anatomy.average_to_scan
        middle = time.perf_counter()
        labels = segment(anatomy)
        seconds = (middle - start, time.perf_counter() - middle)
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        path = options.heads / f"derivatives/dlmuse/{subject}/anat/{subject}_desc-dlmuse_dseg.nii.gz"
        cells = [""] * len(columns)
        if path.exists():
            image = nib.as_closest_canonical(nib.load(path))
            results[subject] = dice_rows(np.asarray(image.dataobj).astype(np.int32), labels.values)
            cells = [f"{results[subject][c]:.3f}" for c in columns]
        line = [subject, *cells, *(f"{s:.1f}" for s in seconds), f"{peak_gb:.2f}", *labels.warnings]
        print("\t".join(line), flush=True)
    if results:
        mean = [float(np.nanmean([r[c] for r in results.values()])) for c in columns]
        print("\t".join(["mean", *(f"{m:.3f}" for m in mean)]))
    if results and options.out:
        names = list(next(iter(results.values())))
        lines = ["\t".join(["subject", *names])]
        lines += ["\t".join([s, *(f"{r[n]:.4f}" for n in names)]) for s, r in results.items()]
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
