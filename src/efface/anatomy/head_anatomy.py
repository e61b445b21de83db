"""Lazily computed head mask, brain mask, facial landmarks and average-head registration of one scan."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from efface.anatomy import templates
from efface.anatomy.brain_extraction import brain_mask, check_found_volume, is_turned, turned_brain_mask
from efface.anatomy.head_mask import head_mask
from efface.anatomy.landmarks import FacialLandmark, find_landmarks
from efface.errors import InputError, RegistrationError
from efface.io.scan import Scan
from efface.spatial import registration as spatial_registration
from efface.spatial.masks import distance_mm
from efface.spatial.registration import AffineResult
from efface.spatial.types import Affine, BoolVolume, FloatVolume


class HeadAnatomy:
    """Anatomy of one scan; each part is computed when it is first used, and kept with the object.

    Parameters
    ----------
    scan
        The scan.
    brain
        A brain mask (non-zero = inside) to use instead of finding one, on the scan's RAS+ grid.
    registration
        A registration of the average head to use instead of finding one.
    landmarks
        Facial landmarks to use instead of finding them.

    Raises
    ------
    InputError
        If `brain` is empty or has another shape than the scan.
    """

    def __init__(
        self,
        scan: Scan,
        brain: BoolVolume | None = None,
        *,
        registration: AffineResult | None = None,
        landmarks: tuple[FacialLandmark, ...] | None = None,
    ) -> None:
        if brain is not None and brain.shape != scan.shape:
            msg = f"brain mask must have the scan's shape {scan.shape}; received {brain.shape}"
            raise InputError(msg)
        if brain is not None and not brain.any():
            msg = "the brain mask is empty; expected at least one voxel inside: check it"
            raise InputError(msg)
        self.scan = scan
        self._brain = None if brain is None else np.asarray(brain != 0)
        self._registration = registration
        self._landmarks = landmarks

    @property
    def warnings(self) -> tuple[str, ...]:
        """Oddities of the scan that did not prevent its use."""
        return self.scan.warnings

    @functools.cached_property
    def head(self) -> BoolVolume:
        """Inside of the head (air cavities filled), same grid as the scan.

        Raises
        ------
        AnatomyError
            If nothing stands out from the background.
        """
        return head_mask(self.scan.volume)

    @property
    def registration(self) -> AffineResult:
        """The affine registration of the average head, with its verdict."""
        if self._registration is None:
            self._registration = spatial_registration.register_affine(
                templates.average_head(), self.scan.volume, discriminating_mask=templates.cranium()
            )
        return self._registration

    @functools.cached_property
    def registration_mi(self) -> AffineResult:
        """The same, refined by mutual information of the whole image, which fits the outline of the head better.

        Raises
        ------
        RegistrationError
            If the registration did not converge.
        """
        return spatial_registration.refine_affine(templates.average_head(), self.scan.volume, self.average_to_scan)

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

    @property
    def landmarks(self) -> tuple[FacialLandmark, ...]:
        """Eyes, nose, ears and mouth found by the landmark network."""
        if self._landmarks is None:
            self._landmarks = find_landmarks(self.scan.volume)
        return self._landmarks

    @property
    def knows_brain(self) -> bool:
        """Whether the brain mask was given, or has been found."""
        return self._brain is not None

    @property
    def brain(self) -> BoolVolume:
        """Brain mask (deepbet, or the one given), same grid as the scan.

        Raises
        ------
        AnatomyError
            If no brain is found, or its volume cannot be a brain's.
        """
        if self._brain is None:
            found = self._found_brain()
            check_found_volume(found, float(np.prod(self.scan.spacing_mm)))
            self._brain = found
        return self._brain

    @functools.cached_property
    def brain_distance_mm(self) -> FloatVolume:
        """Distance of every voxel from the brain mask, 0 inside, same grid as the scan."""
        distance = distance_mm(~self.brain, self.scan.spacing_mm)
        return np.ascontiguousarray(distance, dtype=np.float32)

    def _found_brain(self) -> BoolVolume:
        if self._registration is not None or spatial_registration.default_threads() < 2:
            return self._turned_brain() if self._is_turned() else brain_mask(self.scan.data)
        # The pose and the brain take about as long, and one core each; few heads turn out to be turned.
        with ThreadPoolExecutor(1) as pool:
            straight = pool.submit(brain_mask, self.scan.data)
            turned = self._is_turned()
        return self._turned_brain() if turned else straight.result()

    def _is_turned(self) -> bool:
        return self.registration.converged and is_turned(self.registration.matrix)

    def _turned_brain(self) -> BoolVolume:
        return turned_brain_mask(self.scan.volume, self.registration.matrix)
