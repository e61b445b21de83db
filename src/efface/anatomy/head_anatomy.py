"""Lazily computed head mask, brain mask, facial landmarks and average-head registration of one scan."""

import functools
from concurrent.futures import Future

import numpy as np

from efface._threads import alongside, default_threads, on_one_core
from efface.anatomy import templates
from efface.anatomy.background import Background, find_background
from efface.anatomy.brain_extraction import (
    brain_mask,
    check_found_volume,
    shows_brain_alone,
    stripped_brain,
    turned_brain_mask,
)
from efface.anatomy.brain_witness import MISSED_ML, sure_brain
from efface.anatomy.head_mask import head_mask
from efface.anatomy.head_pose import find_pose
from efface.anatomy.landmarks import FacialLandmark, upright_landmarks
from efface.anatomy.pose_prediction import PosePrediction, predict
from efface.anatomy.upright import is_turned
from efface.anatomy.wraparound import Wrap, find_wrap, whole_scan
from efface.errors import AnatomyError, InputError, RegistrationError
from efface.io.scan import Scan
from efface.spatial import registration as spatial_registration
from efface.spatial.masks import distance_mm
from efface.spatial.registration import AffineResult
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Volume


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
        self._given_brain = brain
        self._brain = None if brain is None else np.asarray(brain != 0)
        self._registration = self._given_registration = registration
        self._landmarks = landmarks
        self._straight: Future[BoolVolume] | None = None
        self._looked_at: tuple[Affine, tuple[FacialLandmark, ...]] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Oddities of the scan that did not prevent its use."""
        return self.scan.warnings

    def knowing(self, brain: BoolVolume | None, registration: AffineResult) -> "HeadAnatomy":
        """Return the anatomy of the same scan with a brain mask and a pose from elsewhere; what was computed is kept.

        Parameters
        ----------
        brain
            On the scan's RAS+ grid; None finds it.
        registration
            Of the average head.
        """
        other = HeadAnatomy(self.scan, brain, registration=registration)
        for name in ("background", "signal", "image", "head", "wrap", "prediction", "sure_brain"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    @functools.cached_property
    def wrap(self) -> Wrap | None:
        """Parts of the head that continue at the opposite border of the scan; None where there are none."""
        return find_wrap(self.image)

    @functools.cached_property
    def whole(self) -> "HeadAnatomy":
        """Anatomy of the whole head: this one, or that of a larger image in which what wraps around is in its place.

        What stays has the same mm in both, so a given registration holds for both.
        """
        if self.wrap is None:
            return self
        brain = None if self._given_brain is None else self.wrap.whole(self._given_brain != 0, empty=False)
        return HeadAnatomy(whole_scan(self.scan, self.wrap), brain, registration=self._given_registration)

    @functools.cached_property
    def background(self) -> Background:
        """The level of the scan's air, and whether its air is noise."""
        return find_background(self.scan)

    @functools.cached_property
    def signal(self) -> FloatVolume:
        """Intensities above those of air, same grid as the scan."""
        return self.background.signal(self.scan.data)

    @functools.cached_property
    def image(self) -> Volume:
        """The scan with dark air at 0, in which all anatomy is found."""
        return Volume(self.background.image(self.signal), self.scan.affine)

    @functools.cached_property
    def head(self) -> BoolVolume:
        """Inside of the head (air cavities filled), same grid as the scan.

        Raises
        ------
        AnatomyError
            If nothing stands out from the background.
        """
        return head_mask(self.image)

    @functools.cached_property
    def prediction(self) -> PosePrediction:
        """What the pose network sees; the pose and the check of the brain mask need it."""
        return predict(self.image)

    @property
    def registration(self) -> AffineResult:
        """The affine registration of the average head, with its verdict."""
        if self._registration is None:
            self._registration = find_pose(self.image, self._landmarks_at, lambda _image: self.prediction)
        return self._registration

    @property
    def known_registration(self) -> AffineResult | None:
        """The registration that was given, or has been found."""
        return self._registration

    @property
    def was_registered(self) -> bool:
        """Whether the registration was given."""
        return self._given_registration is not None

    @functools.cached_property
    def registration_mi(self) -> AffineResult:
        """The same, refined by mutual information of the whole image, which fits the outline of the head better.

        Raises
        ------
        RegistrationError
            If the registration did not converge.
        """
        return spatial_registration.refine_affine(templates.average_head(), self.image, self.average_to_scan)

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
            pose = self.registration
            self._landmarks = self._landmarks_at(self.image, pose.matrix if pose.converged else np.eye(4))
        return self._landmarks

    def _landmarks_at(self, volume: Volume, pose: Affine) -> tuple[FacialLandmark, ...]:
        """Landmarks of the scan in a pose; the last pose's are kept, because the search ends with the one it found."""
        if self._looked_at is None or not np.array_equal(self._looked_at[0], pose):
            self._looked_at = (pose, upright_landmarks(volume, pose))
        return self._looked_at[1]

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

    def begin(self) -> bool:
        """Begin to look for the brain in another thread, if it is not known and there is a core for it.

        Returns
        -------
        bool
            Whether it is being looked for now, so that what needs no brain is best computed first.
        """
        if self._brain is not None or default_threads() < 2:
            return False
        if self._straight is None and not (self._registration is not None and self._is_turned()):
            self._straight = alongside(brain_mask, self.image.data)
        return self._straight is not None

    @functools.cached_property
    def sure_brain(self) -> BoolVolume:
        """Where a network that never saw the brain mask is sure that there is brain."""
        return sure_brain(self.prediction.brain, self.scan.grid)

    @functools.cached_property
    def missed_brain(self) -> BoolVolume:
        """What the brain mask leaves out of `sure_brain`."""
        if self.shows_brain_alone:
            return np.zeros(self.scan.shape, dtype=np.bool_)
        return np.asarray(self.sure_brain & ~self.brain, dtype=np.bool_)

    @property
    def pose_doubts(self) -> tuple[str, ...]:
        """A warning where another program found the pose, because our own registration was refused."""
        by = self._registration.by if self._registration is not None else ""
        if not by:
            return ()
        return (
            f"our own search for the head was refused, and {by} found a pose that passed the checks: look at the face",
        )

    @property
    def brain_doubts(self) -> tuple[str, ...]:
        """A warning where the brain mask misses more than masks of good scans do."""
        ml = float(np.count_nonzero(self.missed_brain)) * float(np.prod(self.scan.spacing_mm)) / 1000
        if ml <= MISSED_ML:
            return ()
        return (
            f"the brain mask seems to miss {ml:.0f} ml of brain (a second network is sure of them; expected at most "
            f"{MISSED_ML:.0f} ml): look at the mask, or give a better one with --brain-mask",
        )

    @functools.cached_property
    def shows_brain_alone(self) -> bool:
        """Whether the scan shows a brain without its head; its mask is then all that the scan shows."""
        if self._tissue is None:
            return False
        try:
            brain = self._straight_brain() if self._brain is None else self._brain
        except AnatomyError:
            return False
        return shows_brain_alone(self._tissue, brain)

    @functools.cached_property
    def _tissue(self) -> BoolVolume | None:
        return stripped_brain(self.image)

    @functools.cached_property
    def brain_distance_mm(self) -> FloatVolume:
        """Distance of every voxel from the brain mask, 0 inside, same grid as the scan."""
        distance = distance_mm(~self.brain, self.scan.spacing_mm)
        return np.ascontiguousarray(distance, dtype=np.float32)

    def _found_brain(self) -> BoolVolume:
        if self._tissue is not None and self.shows_brain_alone:
            return self._tissue
        if self._registration is None and self.begin():
            with on_one_core():  # the pose and the brain take about as long; few heads turn out to be turned
                turned = self._is_turned()
        else:
            turned = self._is_turned()
        return self._turned_brain() if turned else self._straight_brain()

    def _straight_brain(self) -> BoolVolume:
        """The brain of a head that lies about upright."""
        return brain_mask(self.image.data) if self._straight is None else self._straight.result()

    def _is_turned(self) -> bool:
        return self.registration.converged and is_turned(self.registration.matrix, self.scan.affine)

    def _turned_brain(self) -> BoolVolume:
        return turned_brain_mask(self.image, self.registration.matrix)
