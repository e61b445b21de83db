"""The brain mask (deepbet), also of heads that do not lie upright.

References
----------
Fisch et al. "deepbet: Fast brain extraction of T1-weighted MRI using Convolutional Neural Networks." Computers in
Biology and Medicine 179 (2024) 108845.
"""

import functools
import threading
from typing import Any

import numpy as np

from efface._gpu import gpu_memory
from efface.anatomy import templates
from efface.errors import AnatomyError, GpuMemoryError
from efface.spatial.affine import invert
from efface.spatial.masks import filled
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume

FOUND_BRAIN_ML = (400.0, 2400.0)
"""Volumes between which a mask that was found can be a human brain, from a toddler's to a very large adult's."""
USABLE_BRAIN_ML = (300.0, 3000.0)
"""Volumes between which any mask, a given one too, can be segmented."""
ALONE_SHARE = 0.9
"""Share of the tissue of a scan that a brain mask must cover, for the scan to show a brain alone. Stripped brains have
more than 0.99, whole heads 0.15 to 0.5."""
_DEEPBET = threading.Lock()


def turned_brain_mask(scan: Volume, average_to_scan: Affine) -> BoolVolume:
    """Find the brain in the average head's pose, and resample it to the scan by linear interpolation."""
    average = templates.average_head()
    upright = resample(scan, average.grid, average_to_scan)
    found = Volume(brain_mask(upright).astype(np.float32), average.affine)
    return resample(found, Grid(scan.grid.shape, scan.affine), invert(average_to_scan)) > 0.5


def stripped_brain(scan: Volume) -> BoolVolume | None:
    """What a scan shows if it can be a brain without its head: tissue in the middle of nothing.

    Returns
    -------
    numpy.ndarray or None
        Voxels above zero, holes filled; None if they touch the border of the image, as a neck does, or have not the
        volume of a brain. A whole head may pass: see `shows_brain_alone`.
    """
    tissue = scan.data > 0
    volume_ml = np.count_nonzero(tissue) * float(np.prod(scan.grid.spacing_mm)) / 1000
    if volume_ml > FOUND_BRAIN_ML[1] or any(np.take(tissue, (0, -1), axis).any() for axis in range(3)):
        return None
    brain = filled(tissue)
    volume_ml = np.count_nonzero(brain) * float(np.prod(scan.grid.spacing_mm)) / 1000
    return brain if FOUND_BRAIN_ML[0] <= volume_ml <= FOUND_BRAIN_ML[1] else None


def shows_brain_alone(tissue: BoolVolume, brain: BoolVolume) -> bool:
    """Whether a brain mask covers all that a scan shows, but for scattered voxels."""
    return bool(np.count_nonzero(tissue & brain) >= ALONE_SHARE * np.count_nonzero(tissue))


def check_found_volume(mask: BoolVolume, voxel_mm3: float) -> None:
    """Refuse a mask that cannot be a brain.

    Raises
    ------
    AnatomyError
        If its volume is outside `FOUND_BRAIN_ML`.
    """
    volume_ml = float(mask.sum() * voxel_mm3 / 1000)
    low, high = FOUND_BRAIN_ML
    if not low <= volume_ml <= high:
        msg = (
            f"the brain found has {volume_ml:.0f} ml; expected {low:.0f} to {high:.0f} ml: "
            "check the scan, or give --brain-mask"
        )
        raise AnatomyError(msg)


@functools.cache
def _extractor() -> Any:
    """Load the networks once a process."""
    import torch
    from deepbet import BrainExtraction

    return BrainExtraction(no_gpu=not torch.cuda.is_available())


def load_networks() -> None:
    """Load deepbet and torch, which takes seconds, before they are needed."""
    with _DEEPBET:
        _extractor()


def brain_mask(data: FloatVolume) -> BoolVolume:
    """Segment the brain of an upright RAS+ head with deepbet.

    Raises
    ------
    AnatomyError
        If deepbet finds no brain.
    GpuMemoryError
        If the GPU has too little memory.
    """
    try:
        # deepbet keeps the box of the brain between its two steps: one thread at a time.
        with _DEEPBET, gpu_memory("finding the brain"):
            extractor = _extractor()
            mask = extractor.run_model(data.copy()) > 0.5
            if not mask.any():
                msg = "no brain was found in the scan: check that it is a T1-weighted head, or give --brain-mask"
                raise AnatomyError(msg)
            return np.asarray(extractor.postprocess(mask), dtype=np.bool_)
    except (AssertionError, ValueError, RuntimeError) as error:
        if isinstance(error, AnatomyError | GpuMemoryError):
            raise
        msg = f"no brain was found in the scan ({error}): check that it is a T1-weighted head, or give --brain-mask"
        raise AnatomyError(msg) from error
