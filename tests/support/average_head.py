"""The average head as a scan whose brain and position are known."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.templates import FEATURE_LABELS
from efface.io.scan import Scan, load_scan
from efface.spatial.registration import AffineResult
from efface.spatial.resampling import block_mean, resample
from efface.spatial.types import BoolVolume, FloatVolume, Volume


def volume(mm: float = 3.0) -> Volume:
    """The average head in blocks of about so many mm."""
    return block_mean(templates.average_head(), mm)


IN_PLACE = AffineResult(np.eye(4), 1.0, converged=True, reason="", dof=12, starts=1)


def anatomy(
    data: FloatVolume | None = None,
    mm: float = 3.0,
    *,
    located: bool = True,
    registration: AffineResult = IN_PLACE,
) -> HeadAnatomy:
    """The average head, or other intensities on its grid, in its own place; the brain is where every head's is."""
    whole = volume(mm)
    values = whole.data if data is None else data
    scan = load_scan(nib.Nifti1Image(np.rint(values).astype(np.int16), whole.affine))
    brain = resample(templates.prior("brain"), scan.grid) > 0.5
    return HeadAnatomy(scan, brain=brain, registration=registration if located else None)


def person(seed: int, mm: float = 3.0, rms_mm: float = 4.0) -> Volume:
    """The average head under a smooth random deformation: another face for each seed."""
    whole = volume(mm)
    rng = np.random.default_rng(seed)
    moves = [ndimage.gaussian_filter(rng.standard_normal(whole.data.shape), 12.0 / mm) for _ in range(3)]
    index = [i + m / m.std() * rms_mm / mm for i, m in zip(np.indices(whole.data.shape), moves, strict=True)]
    return Volume(ndimage.map_coordinates(whole.data, index, order=1, mode="nearest"), whole.affine)


def landmark_fraction(mask: BoolVolume, scan: Scan, name: str) -> float:
    """Fraction of the voxels of a landmark of the average head that a mask covers."""
    labels = resample(templates.prior("features"), scan.grid, order=0) == FEATURE_LABELS[name]
    return float((mask & labels).sum() / labels.sum())
