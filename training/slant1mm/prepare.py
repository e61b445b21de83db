"""Pack labelled scans for `train.py`: brain intensities on the scan's own grid, labels, and where the brain is.

Each file is an xz-compressed npz. `image` has one byte a voxel: 0 outside the brain, else 1 + (z + 4) / `STEP` for the
z-score within the brain after N4. `labels` has label indices, 0 to 132; `IGNORED` where the label is none of the 132 but
tissue that one of them may cover. `to_template` maps voxels to millimetres of the BrainCOLOR template. Nothing is
resampled, with one exception: labels of 2 mm are interpolated to 1 mm, so that outlines are smooth. `mirror.json` has,
by label index, the label on the other side.
"""

import argparse
import io
import json
import logging
import lzma
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.errors import EffaceError
from efface.io.label_images import load_labels
from efface.io.scan import load_scan
from efface.segmentation.brain_alignment import align, pose_by_centre, prepare_brain
from efface.segmentation.braincolor_template import load_template
from efface.segmentation.labels import MIRRORED, index_lookup
from efface.segmentation.slant.preprocessing import ALIGNING_MM, scan_to_template
from efface.segmentation.slant.whole_brain import z_scores
from efface.spatial.boxes import Box
from efface.spatial.resampling import block_mean
from efface.spatial.types import Affine, BoolVolume, FloatVolume, LabelVolume, Volume

log = logging.getLogger(__name__)

STEP = 1 / 16
"""Difference of two neighbouring codes, in standard deviations of the brain."""
LOWEST, CODES = -4.0, 136
"""z-score of code 1, and number of codes; the highest is for 4.4."""
IGNORED = 255
UNCERTAIN = (42, 43, 63, 64, 65, 127)
"""Atlas ids without a place among the 132: unnamed cortex, vessels, lesion-like tissue. 15, 46 and 69 are background."""
MARGIN_VOX = 6


def brain_to_template(volume: Volume, mask: BoolVolume) -> Affine:
    """Register a stripped brain to the template, from the two centres of mass."""
    small = block_mean(volume, ALIGNING_MM)
    inside = block_mean(Volume(mask.astype(np.float32), volume.affine), ALIGNING_MM).data > 0.5
    brain, inside, _ = prepare_brain(small, inside, bias=False)
    return align(brain, inside, pose_by_centre(inside, brain.affine), load_template())


def encoded(values: FloatVolume, mask: BoolVolume, spacing_mm: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Correct the bias field, z-score, and round to codes."""
    scores = z_scores(values, mask, spacing_mm)
    codes = np.clip(np.rint((scores - LOWEST) / STEP) + 1, 1, CODES)
    return np.where(mask, codes, 0).astype(np.uint8)


def label_indices(ids: LabelVolume) -> NDArray[np.uint8]:
    """Label indices of BrainCOLOR ids; uncertain tissue is ignored, other unknown ids are background."""
    table = index_lookup()
    indices = table[np.where(ids < len(table), ids, 0)].astype(np.uint8)
    indices[np.isin(ids, UNCERTAIN)] = IGNORED
    return indices


def smooth_labels(labels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Labels on a grid `factor` times finer: the largest of the linearly interpolated memberships."""
    fine = tuple(factor * n for n in labels.shape)
    best, chosen = np.full(fine, 1e-6, np.float32), np.zeros(fine, np.uint8)
    boxes: list[Box | None] = [ndimage.find_objects((labels > 0).astype(np.uint8))[0], *ndimage.find_objects(labels)]
    for label, tight in enumerate(boxes):
        if tight is None:
            continue
        box = tuple(slice(max(0, s.start - 2), min(n, s.stop + 2)) for s, n in zip(tight, labels.shape, strict=True))
        member = (labels[box] == label).astype(np.float32)
        share = ndimage.zoom(member, factor, order=1, grid_mode=True, mode="nearest")
        part = tuple(slice(factor * s.start, factor * s.stop) for s in box)
        better = share > best[part]
        best[part][better], chosen[part][better] = share[better], label
    return chosen


def pack(scan_path: Path, labels_path: Path, *, stripped: bool) -> bytes:
    """Content of one file."""
    scan = load_scan(scan_path)
    volume = scan.volume
    stored, affine = load_labels(labels_path)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
    ids = np.asarray(canonical.dataobj, dtype=np.int32)
    if ids.shape != volume.data.shape or not np.allclose(canonical.affine, volume.affine, atol=1e-2):
        msg = f"{labels_path} is not on the grid of {scan_path}"
        raise ValueError(msg)
    if stripped:
        mask = np.asarray(ndimage.binary_fill_holes(volume.data > 0), dtype=np.bool_)
        to_template = brain_to_template(volume, mask)
    else:
        anatomy = HeadAnatomy(scan)
        mask, to_template = anatomy.brain, scan_to_template(anatomy, [])
    tight = ndimage.find_objects((mask | (ids > 0)).astype(np.int8))[0]
    box = tuple(slice(max(0, s.start - MARGIN_VOX), s.stop + MARGIN_VOX) for s in tight)
    codes = encoded(volume.data, mask, volume.grid.spacing_mm)[box]
    labels = label_indices(ids)[box]
    factor = int(np.rint(volume.grid.spacing_mm.mean()))
    if factor > 1:
        labels = smooth_labels(labels, factor)
    buffer = io.BytesIO()
    voxel_to_template = to_template @ volume.grid.cropped(box).affine
    np.savez(buffer, image=codes, labels=labels, factor=factor, to_template=voxel_to_template)
    return lzma.compress(buffer.getvalue(), preset=6)


def main() -> None:
    """Pack a data set from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("derivative", help="name of the derivative with the labels")
    parser.add_argument("out", type=Path)
    parser.add_argument("--stripped", action="store_true", help="the scans show the brain only")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "mirror.json").write_text(json.dumps(MIRRORED.tolist()))
    for labels_path in sorted((options.bids_dir / "derivatives" / options.derivative).rglob("*_dseg.nii.gz")):
        part = labels_path.relative_to(options.bids_dir / "derivatives" / options.derivative).parent
        (scan_path,) = (options.bids_dir / part).glob("*_T1w.nii.gz")
        target = options.out / f"{options.derivative}_{'_'.join(p for p in part.parts if p != 'anat')}.npz.xz"
        if target.exists():
            continue
        try:
            content = pack(scan_path, labels_path, stripped=options.stripped)
        except EffaceError as error:
            log.warning("%s left out: %s", scan_path.name, error)
            continue
        target.write_bytes(content)
        log.info("%s: %d kB", target.name, len(content) // 1000)


if __name__ == "__main__":
    main()
