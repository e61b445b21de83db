"""Is a person found again by the brain alone, in another scan?

Run: ``python validation/brain_linking.py BRAINS_BIDS_DIR``. BRAINS holds skull-stripped T1w scans, some people scanned
twice. Each brain is aligned with the BrainCOLOR template (affine) and its intensities are ranked. Two brains are
compared by the correlation, inside the template's brain at 2 mm, of what differs from the mean of all. Every scan of a
person with two is looked for among one scan of each other person and this person's other one. Prints ranks and
correlations.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.query import find_scans
from efface.io.scan import load_scan
from efface.segmentation.brain_alignment import align, initial_pose, prepare_brain
from efface.spatial.affine import invert
from efface.spatial.resampling import block_mean, resample

MM = 2.0


def seen(path: Path, inside: np.ndarray) -> np.ndarray:
    """Ranks of the intensities of a brain on the template's grid, inside it."""
    anatomy = HeadAnatomy(load_scan(path))
    brain, mask, _ = prepare_brain(anatomy.image, anatomy.brain)
    to_template = align(brain, mask, initial_pose(anatomy, []), templates.braincolor_template())
    grid = block_mean(templates.braincolor_template(), MM).grid
    values = resample(block_mean(brain, MM / 2), grid, invert(to_template))[inside]
    return rankdata(values) / values.size


def main() -> None:
    scans = find_scans(Path(sys.argv[1]), validate=False)
    inside = block_mean(templates.braincolor_template(), MM).data > 0.2
    brains = np.array([seen(scan.path, inside) for scan in scans])
    own = brains - brains.mean(axis=0)
    alike = np.corrcoef(own)
    people = np.array([scan.subject for scan in scans])
    for i, scan in enumerate(scans):
        others = [j for j in range(len(scans)) if j != i and (people[j] == people[i] or scans[j].session in (None, "1"))]
        mine = [j for j in others if people[j] == people[i]]
        if mine:
            ranked = sorted(others, key=lambda j: -alike[i, j])
            rest = max(alike[i, j] for j in others if j not in mine)
            print(f"{scan.stem}: rank {ranked.index(mine[0]) + 1} of {len(others)}, own {alike[i, mine[0]]:.2f}, "
                  f"nearest other {rest:.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
