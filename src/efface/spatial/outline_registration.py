"""Registration of two contrasts by their edges, and a measure of fit that no contrast misleads.

A local correlation of intensities can be led astray where one image is dark in what is bright in the other (T1w and T2w
without the signal of fat, for example). The edges of both are at the same places, whatever their contrast.
"""

import numpy as np
from scipy import ndimage

from efface.spatial.pose_search import ImagePair
from efface.spatial.resampling import block_mean, resample
from efface.spatial.types import Affine, Volume

COARSE_MM, FINE_MM = 8.0, 4.0
EDGE_MM, SAMPLED_MM = 1.5, 2.0
BINS = 32


def register_edges(fixed: Volume, moving: Volume, initial: Affine) -> Affine:
    """Find the rigid transform from `fixed` to `moving` mm by the edges of both images.

    Parameters
    ----------
    fixed, moving
        Two images of one head, any contrasts, RAS+ affines.
    initial
        Fixed mm to moving mm, within about 30 mm and 15 degrees of the answer: nothing is searched.
    """
    a, b = edges(fixed), edges(moving)
    coarse = ImagePair.prepare(a, b, None, COARSE_MM).fit(initial, 6, "50")
    return ImagePair.prepare(a, b, None, FINE_MM).fit(coarse, 6, "50")


def edges(volume: Volume) -> Volume:
    """Magnitude of the gradient, per mm, on voxels of about 2 mm."""
    small = block_mean(volume, SAMPLED_MM)
    sigma = EDGE_MM / small.grid.spacing_mm
    slopes = (
        ndimage.gaussian_filter(small.data, sigma, order=[int(axis == a) for a in range(3)]) / step
        for axis, step in enumerate(small.grid.spacing_mm)
    )
    return Volume(np.sqrt(sum(slope**2 for slope in slopes)).astype(np.float32), small.affine)


def edge_correlation(fixed: Volume, moving: Volume, matrix: Affine) -> float:
    """Correlation of the edges of two images; `matrix` takes fixed mm to moving mm."""
    return ImagePair.prepare(edges(fixed), edges(moving), None, FINE_MM).correlation(matrix)


def mutual_information(fixed: Volume, moving: Volume, matrix: Affine) -> float:
    """Mutual information of two images, where both are, in nats; `matrix` takes fixed mm to moving mm."""
    a, b = (block_mean(volume, FINE_MM) for volume in (fixed, moving))
    inside = resample(Volume(np.ones(b.data.shape, np.float32), b.affine), a.grid, matrix) > 0.5
    counts, _, _ = np.histogram2d(a.data[inside], resample(b, a.grid, matrix)[inside], bins=BINS)
    joint = counts / max(counts.sum(), 1)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / apart[filled])).sum())
