"""CPU seconds for all surface distances of two 1 mm segmentations: ``python benchmarks/distance_speed.py [A B]``.

Without arguments, the BrainCOLOR atlas at 1 mm against itself moved by 2 mm: the worst case for a search near the
surface, as hardly a surface voxel is shared. For comparison, the 132 labels by a pair of distance transforms each,
in the label's box, and how far the numbers differ.
"""

import sys
import time

import numpy as np
from scipy import ndimage

from efface.anatomy.templates import braincolor_labels
from efface.io.label_images import load_labels
from efface.metrics import compare_labels, compare_surfaces
from efface.segmentation.labels import LABELS


def by_transforms(a: np.ndarray, b: np.ndarray, spacing_mm: np.ndarray) -> list[float]:
    found = []
    boxes = [ndimage.find_objects(x, LABELS[-1].id) for x in (a, b)]
    for label in LABELS:
        one, two = (x[label.id - 1] for x in boxes)
        if one is None or two is None:
            found.append(float("nan"))
            continue
        box = tuple(
            slice(max(0, min(s.start, t.start) - 1), max(s.stop, t.stop) + 1) for s, t in zip(one, two, strict=True)
        )
        masks = [x[box] == label.id for x in (a, b)]
        edges = [m & ~ndimage.binary_erosion(m) for m in masks]
        maps = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
        found.append(max(np.percentile(maps[1][edges[0]], 95), np.percentile(maps[0][edges[1]], 95)))
    return found


def main() -> None:
    if len(sys.argv) == 3:
        (a, affine), (b, _) = (load_labels(path) for path in sys.argv[1:])
        spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    else:
        a, volume = braincolor_labels()
        b, spacing_mm = np.roll(a, 2, axis=1), volume.grid.spacing_mm
    print(f"{a.shape} voxels of {spacing_mm.round(2)} mm, {np.unique(a).size - 1} numbers")
    start = time.process_time()
    dice = [row.dice for row in compare_labels(a, b) if row.level == "label"]
    print(f"Dice of all          {time.process_time() - start:6.2f} s (mean of labels {np.nanmean(dice):.3f})")
    start = time.process_time()
    rows = compare_surfaces(a, b, spacing_mm)
    print(f"surfaces of all      {time.process_time() - start:6.2f} s ({len(rows)} regions)")
    start = time.process_time()
    other = by_transforms(a, b, spacing_mm)
    print(f"transforms, labels   {time.process_time() - start:6.2f} s")
    ours = [row.hd95_mm for row in rows if row.level == "label"]
    print(f"largest difference   {np.nanmax(np.abs(np.subtract(ours, other))):.2g} mm")


if __name__ == "__main__":
    main()
