"""A second opinion on a brain mask: what the pose network, which never saw the mask, is sure is brain.

The network's brain has no fluid around it and is coarse (4 mm), so it lies inside a good mask. What a mask leaves out of
it, away from its edge, is brain that the mask misses.
"""

import numpy as np

from efface.spatial.masks import box_of, distance_mm
from efface.spatial.resampling import resample
from efface.spatial.types import BoolVolume, Grid, Volume

FINE_MM = 2.0
INSIDE_MM = 3.0
"""So far inside the edge of its brain the network is sure."""
MISSED_ML = 4.0
"""A mask that misses more of that is doubtful: 0 to 1.9 ml on 21 scans of 0.9 to 2 mm, 1.8 to 6.3 ml on four with
slices of 4.8 mm. That of 6.3 ml was looked at: deepbet leaves out the temporal lobe in the outermost slices.
The network can be wrong: in one FLAIR of three it took 29 ml of neck muscle for brain."""


def sure_brain(coarse: Volume, scan: Grid) -> BoolVolume:
    """Find where the network is sure that there is brain.

    Parameters
    ----------
    coarse
        How probably each place is brain, by the network (`PosePrediction.brain`).
    scan
        Grid of the scan.
    """
    sides = [int(n) for n in np.ceil((np.array(coarse.data.shape) - 1) * coarse.grid.spacing_mm / FINE_MM) + 1]
    affine = coarse.affine @ np.diag([*(FINE_MM / coarse.grid.spacing_mm), 1.0])
    grid = Grid((sides[0], sides[1], sides[2]), affine)
    likely = resample(coarse, grid) > 0.5
    if not likely.any():
        return np.zeros(scan.shape, dtype=np.bool_)
    at = box_of(likely, 1)
    sure = np.zeros(grid.shape, np.float32)
    sure[at] = distance_mm(likely[at], grid.spacing_mm) > INSIDE_MM
    return np.asarray(resample(Volume(sure, affine), scan) > 0.5, dtype=np.bool_)
