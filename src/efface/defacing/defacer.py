"""Defacer: a network finds eyes, nose, ears and mouth; their voxels are replaced by constant values or noise.

References
----------
Jeong et al. "De-identification of facial features in magnetic resonance images: software development using deep
learning technology." Journal of Medical Internet Research 22 (2020) e22739.
"""

import functools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.landmarks import EXPECTED, FacialLandmark, missing
from efface.defacing.edit import Edit
from efface.defacing.method import MARGIN, DefacingMethod
from efface.errors import LandmarkError
from efface.spatial.boxes import Box
from efface.spatial.masks import dilated, distance_mm
from efface.spatial.types import BoolVolume, FloatVolume

NOSE_BOX, EYE_BOX = 1.33, 1.5
"""Size of the edited box relative to the bounding box of the landmark."""
SKIN_MM = 3.0
"""The eyelids: voxels within this distance of the head's outer contour, at least one voxel on either side."""
NEIGHBOURHOOD_MM = 3.0
"""Standard deviation of the Gaussian that smooths the intensities of eyelids and mouth."""
NOISE_LEVEL = 0.8
"""Largest noise value in the ears, relative to the triangle threshold."""


@dataclass(frozen=True)
class Params:
    """Parameters of Defacer.

    Attributes
    ----------
    incomplete
        When not exactly two eyes, one nose, two ears and one mouth are found: ``refuse`` (as the published program)
        raises an error, ``edit`` edits the landmarks that are found, with a warning.
    margin_mm
        Ears are edited up to this distance around their predicted voxels (the published labels were generous).
    mouth_margin_mm
        The same for the mouth. The network finds the upper lip, and both lips must be edited.
    version
        How eyes are edited: ``0.2`` flattens the eyelids, found by the outline of the head; ``0.1`` flattens the voxels
        that the network takes for eyes, as the program that its authors distribute since 19 November 2020.
    """

    incomplete: str = field(
        default="refuse",
        metadata={"help": "what to do with a face that is not complete", "choices": ("refuse", "edit")},
    )
    margin_mm: float = field(default=2.0, metadata={"help": "margin around the ears", **MARGIN})
    mouth_margin_mm: float = field(default=10.0, metadata={"help": "margin around the mouth", **MARGIN})
    version: str = field(
        default="0.2",
        metadata={"help": "0.2 edits the eyelids, 0.1 the network's voxels of the eyes", "choices": ("0.1", "0.2")},
    )


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide which voxels Defacer changes, and their values.

    Parameters
    ----------
    anatomy
        Of the scan; the head mask is used, no registration.
    params
        See `Params`.

    Raises
    ------
    LandmarkError
        If landmarks are missing and `Params.incomplete` is ``refuse``, or no landmark is found.
    AnatomyError
        If no head is found.

    Notes
    -----
    As in the published program: the box of the nose, 1.33 times as large, becomes air. The skin of the eyes (the head's
    outer contour +-3 mm inside the box of the eye, 1.5 times as large; in version 0.1 the eyes' own voxels) becomes the
    maximum of its smoothed intensities. Ears become uniform noise up to 0.8 times the triangle threshold. The mouth
    becomes the maximum of its smoothed intensities. The network was trained for efface, and the margins are ours.
    """
    landmarks = anatomy.landmarks
    warnings = _check_complete(landmarks, params.incomplete)
    canvas = _Canvas(anatomy, params)
    steps = {
        "nose": canvas.zero_nose,
        "eyes": canvas.flatten_eyelids if params.version == "0.2" else canvas.flatten_eye,
        "ears": canvas.noise_ears,
        "mouth": canvas.flatten_mouth,
    }
    # The order matters: eyelids and mouth leave the zeros of the nose as they are.
    for name, edit in steps.items():
        for landmark in landmarks:
            if landmark.name == name:
                edit(landmark)
    counts = {name: sum(landmark.name == name for landmark in landmarks) for name in EXPECTED}
    record = {**asdict(params), "found": counts}
    return Edit(
        canvas.mask,
        canvas.values[canvas.mask] + np.float32(anatomy.background.air),
        "defacer",
        params=record,
        warnings=warnings,
    )


def _check_complete(found: Iterable[FacialLandmark], incomplete: str) -> tuple[str, ...]:
    """Warn of a wrong number of landmarks, or raise LandmarkError."""
    wrong = missing(found)
    if not wrong:
        return ()
    words = ", ".join(f"{count} of {EXPECTED[name]} {name}" for name, count in wrong.items())
    if incomplete == "refuse" or not list(found):
        msg = (
            f"Defacer found {words}: the face is not complete (cut by the field of view, or defaced before); "
            "look at the scan, use incomplete=edit, or another method"
        )
        raise LandmarkError(msg)
    return (f"defacer: found {words}; what was not found is unchanged",)


class _Canvas:
    """New values above the air's, and the mask of the voxels that have them; one method for each kind of landmark."""

    def __init__(self, anatomy: HeadAnatomy, params: Params) -> None:
        scan = anatomy.scan
        self.anatomy, self.params, self.grid = anatomy, params, scan.grid
        self.spacing_mm = scan.spacing_mm
        self.values: FloatVolume = anatomy.image.data.copy()
        self.mask: BoolVolume = np.zeros(scan.shape, dtype=np.bool_)
        self.noise = np.random.default_rng(scan.seed)

    def zero_nose(self, nose: FacialLandmark) -> None:
        """Set the box of the nose to air."""
        at = nose.box(self.grid, NOSE_BOX)
        self.values[at], self.mask[at] = 0.0, True

    def flatten_eyelids(self, eye: FacialLandmark) -> None:
        """Set the skin in the box of an eye to one bright value."""
        at = eye.box(self.grid, EYE_BOX)
        wide = _dilated_box(at, 2 * SKIN_MM / self.spacing_mm, self.grid.shape)
        head = self.anatomy.head[wide] & ~self._is_zeroed(wide)
        if head.all() or not head.any():
            return
        inside, outside = (distance_mm(m, self.spacing_mm) for m in (head, ~head))
        skin = np.where(head, inside, outside) <= SKIN_MM
        skin |= dilated(head) & dilated(~head)
        self._flatten(at, np.asarray(skin[_relative_box(at, wide)]))

    def flatten_eye(self, eye: FacialLandmark) -> None:
        """Set the voxels of an eye to one bright value."""
        self._flatten(*self._voxels(eye, 0.0))

    def noise_ears(self, ear: FacialLandmark) -> None:
        """Set an ear to uniform noise of the level of air."""
        at, voxels = self._voxels(ear, self.params.margin_mm)
        count = int(voxels.sum())
        level = NOISE_LEVEL * self._triangle_threshold
        self.values[at][voxels] = (level * self.noise.random(count)).astype(np.float32)
        self.mask[at] |= voxels

    def flatten_mouth(self, mouth: FacialLandmark) -> None:
        """Set the mouth to one bright value."""
        self._flatten(*self._voxels(mouth, self.params.mouth_margin_mm))

    @functools.cached_property
    def _triangle_threshold(self) -> float:
        threshold = SimpleITK.TriangleThresholdImageFilter()
        threshold.Execute(SimpleITK.GetImageFromArray(self.anatomy.image.data))
        return float(threshold.GetThreshold())

    def _is_zeroed(self, at: Box) -> BoolVolume:
        """Voxels of a box that the edit has set to 0."""
        return np.asarray(self.mask[at] & (self.values[at] == 0))

    def _voxels(self, landmark: FacialLandmark, margin_mm: float) -> tuple[Box, BoolVolume]:
        """A box, and the voxels in it that lie within a margin of a landmark."""
        at, voxels = landmark.voxels(self.grid)
        wide = _dilated_box(at, margin_mm / self.spacing_mm, self.grid.shape)
        grown = np.zeros([s.stop - s.start for s in wide], dtype=np.bool_)
        grown[_relative_box(at, wide)] = voxels
        if margin_mm > 0 and voxels.any():
            grown = distance_mm(~grown, self.spacing_mm) <= margin_mm
        return wide, grown

    def _flatten(self, at: Box, voxels: BoolVolume) -> None:
        """Set voxels of a box to the maximum of their smoothed intensities; those of the nose stay 0."""
        voxels = voxels & ~self._is_zeroed(at)
        if not voxels.any():
            return
        weight = ndimage.gaussian_filter(voxels.astype(np.float32), NEIGHBOURHOOD_MM / self.spacing_mm)
        total = ndimage.gaussian_filter(np.where(voxels, self.values[at], 0), NEIGHBOURHOOD_MM / self.spacing_mm)
        level = float((total[voxels] / np.maximum(weight[voxels], 1e-6)).max())
        self.values[at][voxels] = level
        self.mask[at] |= voxels


def _dilated_box(at: Box, room_vox: NDArray[np.float64], shape: tuple[int, ...]) -> Box:
    """A box with room on every side, clipped to the grid."""
    room = np.ceil(room_vox).astype(int)
    x, y, z = (slice(max(0, s.start - int(r)), min(n, s.stop + int(r))) for s, r, n in zip(at, room, shape, strict=True))
    return x, y, z


def _relative_box(at: Box, wide: Box) -> Box:
    """A box in the indices of a larger box around it."""
    x, y, z = (slice(a.start - w.start, a.stop - w.start) for a, w in zip(at, wide, strict=True))
    return x, y, z


METHOD = DefacingMethod(
    name="defacer",
    title="Defacer",
    summary="a network finds eyes, nose, ears and mouth and replaces their voxels",
    citation="jeong2020",
    reference="Jeong et al. 2020, doi 10.2196/22739",
    colour="#CC79A7",
    params=Params,
    plan=plan,
    external_note="needs TensorFlow 1.14, which no supported Python has",
)
