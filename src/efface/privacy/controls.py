"""The controls of an attack: a scan that must be found, and heads in which nothing personal is left."""

import numpy as np

from efface.anatomy.background import find_background
from efface.io.scan import Scan, load_scan
from efface.privacy.placed_head import PlacedHead
from efface.spatial.affine import apply_affine, invert
from efface.spatial.types import Volume

NOISE = 0.03
"""Standard deviation of the added noise, as a share of the scan's bright values (99th percentile above its air)."""
BRIGHT_PERCENTILE = 99.0
BOX_LOW_MM, BOX_HIGH_MM = (-50.0, -70.0, -50.0), (50.0, 15.0, 50.0)
"""What stays of a head that is cut flat, upright mm: its front is a plane at the ears."""


def noisy(scan: Scan) -> Scan:
    """The same scan with noise, so that it is not trivially identical; the noise is drawn from the scan.

    The noise is that of a magnitude image: it lifts the air above its level and never falls below it.

    Parameters
    ----------
    scan
        An original.

    References
    ----------
    Gudbjartsson, Patz. "The Rician distribution of noisy MRI data." Magnetic Resonance in Medicine 34 (1995), 910-914.
    """
    import nibabel as nib

    background = find_background(scan)
    signal = background.signal(scan.data)
    sigma = np.float32(NOISE * np.percentile(signal, BRIGHT_PERCENTILE))
    rng = np.random.default_rng(scan.seed)
    real, imaginary = (sigma * rng.standard_normal(scan.shape, dtype=np.float32) for _ in range(2))
    values = np.hypot(signal + real, imaginary) + np.float32(background.air)
    return load_scan(nib.Nifti1Image(values.astype(np.float32), scan.affine))


def cut_flat(head: PlacedHead) -> PlacedHead:
    """A head cut flat on all sides and filled: a box of one size in everybody, at one place of the upright head.

    Parameters
    ----------
    head
        An original. Its outline does not show: the outline of a flat cut through a real head is personal, too.
    """
    index = np.moveaxis(np.indices(head.image.data.shape, dtype=np.float32), 0, -1)
    at = apply_affine(invert(head.upright_to_scan) @ head.image.affine, index)
    inside = ((at >= BOX_LOW_MM) & (at <= BOX_HIGH_MM)).all(axis=-1)
    # Noise and holes would be personal: all that stays has one intensity.
    data = np.where(inside, np.float32(2 * head.threshold), np.float32(0))
    return PlacedHead(Volume(data, head.image.affine), head.average_to_scan, head.doubt, head.threshold)
