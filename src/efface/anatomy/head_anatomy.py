"""Where the head and the brain are in a scan: each found once, lazily, shared by every method and segmenter.

References
----------
Fisch et al. "deepbet: Fast brain extraction of T1-weighted MRI using Convolutional Neural Networks." Computers in
Biology and Medicine 179 (2024) 108845 (brain mask).
"""

import functools
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from scipy import ndimage

from efface.anatomy import templates
from efface.errors import AnatomyError, InputError, RegistrationError
from efface.io.scan import Scan
from efface.spatial import registration, resampling
from efface.spatial.masks import distance_mm, largest_component, otsu_threshold
from efface.spatial.registration import AffineResult
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume

Made = TypeVar("Made")
BRAIN_ML = (400.0, 2400.0)
"""Volumes between which a mask can be a human brain, from a toddler's to a very large adult's."""
UPRIGHT_DEG = 15.0
"""Heads turned further than this from the average head are turned upright before the brain is looked for."""


class HeadAnatomy:
    """Head mask, brain mask and position of the average head for one scan.

    Parameters
    ----------
    scan
        The scan.
    brain
        A brain mask (non-zero = inside) to use instead of finding one, on the scan's RAS+ grid.

    Raises
    ------
    InputError
        If `brain` is empty or has another shape than the scan.
    """

    def __init__(self, scan: Scan, brain: BoolVolume | None = None) -> None:
        if brain is not None and brain.shape != scan.shape:
            msg = f"brain mask must have the scan's shape {scan.shape}; received {brain.shape}"
            raise InputError(msg)
        if brain is not None and not brain.any():
            msg = "the brain mask is empty; expected at least one voxel inside: check it"
            raise InputError(msg)
        self.scan = scan
        self._given_brain = None if brain is None else np.asarray(brain != 0)
        self._notes: list[str] = []
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What a segmenter or method works out about this scan: made at the first call with a key, then kept."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd so far: of the scan, and of what has been computed."""
        return (*self.scan.warnings, *self._notes)

    @functools.cached_property
    def head(self) -> BoolVolume:
        """Inside of the head (air cavities filled), same grid as the scan.

        Raises
        ------
        AnatomyError
            If nothing stands out from the background.
        """
        return head_mask(self.scan.volume)

    @functools.cached_property
    def registration(self) -> AffineResult:
        """The affine registration of the average head, with its verdict."""
        return registration.register_affine(
            templates.average_head(), self.scan.volume, discriminating_mask=templates.cranium()
        )

    @functools.cached_property
    def registration_mi(self) -> AffineResult:
        """The same, refined by a cost over the whole image, which fits the outlines of the head better.

        Raises
        ------
        RegistrationError
            If the registration did not converge.
        """
        return registration.refine_affine(templates.average_head(), self.scan.volume, self.average_to_scan)

    @property
    def average_to_scan(self) -> Affine:
        """Average head mm to scan mm, RAS+, shape (4, 4).

        Raises
        ------
        RegistrationError
            If the registration did not converge.
        """
        if not self.registration.converged:
            msg = (
                f"the average head could not be found in the scan: {self.registration.reason}; "
                "check that this is a whole head with the right orientation"
            )
            raise RegistrationError(msg)
        return self.registration.matrix

    @functools.cached_property
    def brain(self) -> BoolVolume:
        """Brain mask (deepbet, or the one given), same grid as the scan.

        Raises
        ------
        AnatomyError
            If no brain is found, or its volume cannot be a brain's.
        """
        if self._given_brain is not None:
            return self._given_brain
        mask = self._found_brain()
        volume_ml = float(mask.sum() * np.prod(self.scan.spacing_mm) / 1000)
        if not BRAIN_ML[0] <= volume_ml <= BRAIN_ML[1]:
            msg = (
                f"the brain found has {volume_ml:.0f} ml; expected {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f} ml: "
                "check the scan, or give --brain-mask"
            )
            raise AnatomyError(msg)
        return mask

    @functools.cached_property
    def from_brain_mm(self) -> FloatVolume:
        """Distance of every voxel from the brain mask, 0 inside, same grid as the scan."""
        distance = distance_mm(~self.brain, self.scan.spacing_mm)
        return np.ascontiguousarray(distance, dtype=np.float32)

    def _found_brain(self) -> BoolVolume:
        if "registration" in self.__dict__ or registration.default_threads() < 2:
            return self._upright_brain() if self._turned() else brain_mask(self.scan.data)
        # The pose and the brain take about as long, and one core each; few heads turn out to be turned.
        with ThreadPoolExecutor(1) as pool:
            straight = pool.submit(brain_mask, self.scan.data)
            turned = self._turned()
        return self._upright_brain() if turned else straight.result()

    def _turned(self) -> bool:
        if not self.registration.converged:
            return False
        u, _, vt = np.linalg.svd(self.registration.matrix[:3, :3])
        cosine = (np.trace(u @ vt) - 1) / 2
        return bool(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))) > UPRIGHT_DEG)

    def _upright_brain(self) -> BoolVolume:
        """Find the brain in the average head's pose, and bring the probability back by linear interpolation."""
        average = templates.average_head()
        upright = resampling.resample(self.scan.volume, average.grid, self.registration.matrix)
        found = Volume(brain_mask(upright).astype(np.float32), average.affine)
        back = np.asarray(np.linalg.inv(self.registration.matrix), dtype=np.float64)
        return resampling.resample(found, Grid(self.scan.shape, self.scan.affine), back) > 0.5


def head_mask(volume: Volume) -> BoolVolume:
    """Largest bright object, closed and filled slice by slice: the head without the air around it.

    Raises
    ------
    AnatomyError
        If nothing stands out from the background.
    """
    low, high = np.percentile(volume.data, (1.0, 99.0))
    floor = min(float(low), 0.0)  # scaled files can have air below zero
    values = np.clip(volume.data, floor, high) - np.float32(floor)
    spacing = volume.grid.spacing_mm
    smooth = ndimage.gaussian_filter(values, 1.0 / spacing, truncate=2)
    head = largest_component(ndimage.binary_opening(smooth > 0.5 * otsu_threshold(smooth)))
    if not head.any():
        msg = "no head was found: nothing in the image stands out from its background; check the scan"
        raise AnatomyError(msg)
    head = ndimage.binary_dilation(head)
    for axis in range(3):
        for index in range(head.shape[axis]):
            at: Any = tuple(index if a == axis else slice(None) for a in range(3))
            head[at] = ndimage.binary_fill_holes(head[at])
    mask: BoolVolume = ndimage.binary_erosion(head, border_value=1)
    return mask


@functools.cache
def _extractor() -> Any:
    """Load the networks once a process."""
    import torch
    from deepbet import BrainExtraction

    return BrainExtraction(no_gpu=not torch.cuda.is_available())


def brain_mask(data: FloatVolume) -> BoolVolume:
    """Segment the brain of an upright RAS+ head with deepbet.

    Raises
    ------
    AnatomyError
        If deepbet finds no brain.
    """
    try:
        extractor = _extractor()
        mask = extractor.run_model(data.copy()) > 0.5
        if not mask.any():
            msg = "no brain was found in the scan: check that it is a T1-weighted head, or give --brain-mask"
            raise AnatomyError(msg)
        return np.asarray(extractor.postprocess(mask), dtype=np.bool_)
    except (AssertionError, ValueError, RuntimeError) as error:
        if isinstance(error, AnatomyError):
            raise
        msg = f"no brain was found in the scan ({error}): check that it is a T1-weighted head, or give --brain-mask"
        raise AnatomyError(msg) from error
