"""Does native PyDeface change the voxels that the original changes?

Run: ``python validation/pydeface_reference.py HEADS_DIR REFERENCE_DIR``. The reference folder holds
``<subject>_changed_mask.nii.gz`` on the scan's stored grid: the voxels whose value the original changed.

Both Dice values are of changed voxels inside the head mask, which leaves out the air.

``raw``
    As the files are.
``same-scale``
    Over the voxels that only defacing can have changed. The original lets the writer choose a new scale factor
    for integer files. When the brightest voxel was in the face, the scale changes, and so does the value of every
    voxel, brain included, whose stored number has no near equivalent on the new scale: speckle all over the head.
    It depends on the stored number alone (sub-01: rescaling the maximum from 255 to 245 stored units predicts,
    for every number, whether it changed), so it is read off the voxels further than `FAR_MM` from our mask. A
    number that changed in more than half of those was changed by the scale; all voxels with that number, and with
    numbers not seen there (the brightest), are left out, on both sides, wherever they are. Without any such
    number, this equals raw. ``of head`` is the share of the head mask that is compared.

Seconds are those of the anatomy's registration plus the plan, in this process.
"""

import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import pydeface
from efface.io.scan import Scan, load_scan

FAR_MM = 16.0
SUFFIX = "_changed_mask.nii.gz"


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def changed_by_defacing_only(scan: Scan, reference: np.ndarray, ours: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Voxels whose stored number the original's new scale factor leaves alone; all True without a new scale."""
    far = head & (ndimage.distance_transform_edt(~ours, sampling=scan.spacing_mm) > FAR_MM)
    numbers, index = np.unique(scan.stored_to_ras(scan.stored), return_inverse=True)
    index = index.reshape(scan.shape)
    seen = np.bincount(index[far], minlength=len(numbers))
    changed = np.bincount(index[far], weights=reference[far], minlength=len(numbers))
    rescaled = changed > 0.5 * seen
    if not rescaled.any():
        return np.ones(scan.shape, bool)
    return ((seen > 0) & ~rescaled)[index]


def row(path: Path, reference_path: Path) -> str:
    scan = load_scan(path)
    reference = scan.stored_to_ras(np.asarray(nib.load(reference_path).dataobj) > 0)
    anatomy = HeadAnatomy(scan)
    start = time.perf_counter()
    ours = pydeface.plan(anatomy, pydeface.Params()).mask
    seconds = time.perf_counter() - start
    head = anatomy.head
    usable = head & changed_by_defacing_only(scan, reference, ours, head)
    return (
        f"{path.name.split('_')[0]:12s} {dice(ours & head, reference & head):6.3f} "
        f"{dice(ours & usable, reference & usable):11.3f} {usable.sum() / head.sum():9.0%} {seconds:8.1f}"
    )


def main() -> None:
    heads, references = (Path(argument) for argument in sys.argv[1:3])
    print(f"{'subject':12s} {'raw':>6s} {'same-scale':>11s} {'of head':>9s} {'seconds':>8s}")
    for reference in sorted(references.glob(f"*{SUFFIX}")):
        subject = reference.name.removesuffix(SUFFIX)
        print(row(heads / subject / "anat" / f"{subject}_T1w.nii.gz", reference))


if __name__ == "__main__":
    main()
