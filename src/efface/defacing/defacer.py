"""Defacer: a network finds eyes, nose, ears and mouth, and the method replaces their voxels.

References
----------
Jeong et al. "De-identification of facial features in magnetic resonance images: software development using deep
learning technology." Journal of Medical Internet Research 22 (2020) e22739.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.landmarks import EXPECTED, FacialLandmark, missing
from efface.defacing.edit import Edit
from efface.errors import LandmarkError
from efface.parameters import param
from efface.spatial.masks import distance_mm
from efface.spatial.types import BoolVolume, FloatVolume

INCOMPLETE = ("refuse", "edit")
NOSE_BOX, EYE_BOX = 1.33, 1.5
SKIN_MM = 3.0
"""Eyes are hidden within this distance of the outer contour of the head, at least one voxel on either side."""
NEIGHBOURHOOD_MM = 3.0
"""Standard deviation of the Gaussian neighbourhood whose maximum hides eyes and mouth."""
NOISE_SHARE = 0.8


@dataclass(frozen=True)
class Params:
    """Parameters of Defacer.

    Attributes
    ----------
    incomplete
        ``refuse`` (as the published program) when not exactly two eyes, one nose, two ears and one mouth are found;
        ``edit`` changes those that are found, with a warning.
    margin_mm
        Ears are changed this far beyond their predicted voxels (the published labels were generous).
    mouth_margin_mm
        The same for the mouth: our network finds the upper lip, and both lips must be hidden.
    """

    incomplete: str = param("refuse", "what to do when not all facial features are found", choices=INCOMPLETE)
    margin_mm: float = param(2.0, "ears are changed this far beyond what is found", unit="mm", minimum=0, maximum=50)
    mouth_margin_mm: float = param(
        10.0, "the mouth is changed this far beyond what is found", unit="mm", minimum=0, maximum=50
    )


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what Defacer changes, and to what.

    Parameters
    ----------
    anatomy
        Of the scan; the head mask and the facial features are used, no registration.
    params
        See `Params`.

    Raises
    ------
    LandmarkError
        If features are missing, or none is found.
    AnatomyError
        If no head stands out from the background.

    Notes
    -----
    As in the published program: the nose's box, 1.33 times as large, becomes 0. The skin of the eyes (the head's outer
    contour +-3 mm inside the eye's box, 1.5 times as large) becomes the maximum of its smoothed intensities. Ears
    become noise, uniform up to 0.8 times the triangle threshold. The mouth becomes the maximum of its smoothed
    intensities. The network is our own.
    """
    found = anatomy.landmarks
    warnings = _check_complete(found, params.incomplete)
    canvas = _Canvas(anatomy, {"ears": params.margin_mm, "mouth": params.mouth_margin_mm})
    steps = {
        "nose": canvas.zero_nose,
        "eyes": canvas.flatten_eyelids,
        "ears": canvas.noise_ears,
        "mouth": canvas.flatten_mouth,
    }
    for name, hide in steps.items():
        for feature in found:
            if feature.name == name:
                hide(feature)
    counts = {name: sum(f.name == name for f in found) for name in EXPECTED}
    record = {**asdict(params), "found": counts}
    return Edit(canvas.mask, canvas.values[canvas.mask], "defacer", params=record, warnings=warnings)


def _check_complete(found: Iterable[FacialLandmark], incomplete: str) -> tuple[str, ...]:
    wrong = missing(found)
    if not wrong:
        return ()
    words = ", ".join(f"{count} of {EXPECTED[name]} {name}" for name, count in wrong.items())
    if incomplete == "refuse" or not list(found):
        msg = (
            f"Defacer found {words}: the face is incomplete, cut by the field of view, or gone already; "
            "look at the scan, use incomplete=edit, or another method"
        )
        raise LandmarkError(msg)
    return (f"defacer: found {words}; what was not found was left as it is",)


class _Canvas:
    """New values and where they are; one method hides one kind of feature."""

    def __init__(self, anatomy: HeadAnatomy, margins_mm: Mapping[str, float]) -> None:
        scan = anatomy.scan
        self.anatomy, self.margins_mm, self.grid = anatomy, margins_mm, scan.grid
        self.spacing_mm = scan.spacing_mm
        self.values: FloatVolume = scan.data.copy()
        self.mask: BoolVolume = np.zeros(scan.shape, dtype=np.bool_)
        self.noise = np.random.default_rng(scan.seed)

    def zero_nose(self, feature: FacialLandmark) -> None:
        """The box of the nose becomes 0."""
        at = feature.box(self.grid, NOSE_BOX)
        self.values[at], self.mask[at] = 0.0, True

    def flatten_eyelids(self, feature: FacialLandmark) -> None:
        """The skin in the box of an eye becomes one bright value."""
        at = feature.box(self.grid, EYE_BOX)
        wide = _grown(at, np.ceil(2 * SKIN_MM / self.spacing_mm).astype(int), self.grid.shape)
        head = self.anatomy.head[wide] & ~self._is_cut(wide)
        if head.all() or not head.any():
            return
        inside, outside = (distance_mm(m, self.spacing_mm) for m in (head, ~head))
        skin = np.where(head, inside, outside) <= SKIN_MM
        skin |= ndimage.binary_dilation(head) & ndimage.binary_dilation(~head)
        self._level(at, np.asarray(skin[_within(at, wide)]))

    def noise_ears(self, feature: FacialLandmark) -> None:
        """An ear becomes noise as in the air around it."""
        at, voxels = self._voxels(feature)
        count = int(voxels.sum())
        level = NOISE_SHARE * self._triangle
        self.values[at][voxels] = (level * self.noise.random(count)).astype(np.float32)
        self.mask[at] |= voxels

    def flatten_mouth(self, feature: FacialLandmark) -> None:
        """The mouth becomes one bright value."""
        self._level(*self._voxels(feature))

    @functools.cached_property
    def _triangle(self) -> float:
        threshold = SimpleITK.TriangleThresholdImageFilter()
        threshold.Execute(SimpleITK.GetImageFromArray(self.anatomy.scan.data))
        return float(threshold.GetThreshold())

    def _is_cut(self, at: tuple[slice, ...]) -> BoolVolume:
        return np.asarray(self.mask[at] & (self.values[at] == 0))

    def _voxels(self, feature: FacialLandmark) -> tuple[tuple[slice, ...], BoolVolume]:
        at, voxels = feature.voxels(self.grid)
        margin_mm = self.margins_mm[feature.name]
        wide = _grown(at, np.ceil(margin_mm / self.spacing_mm).astype(int), self.grid.shape)
        grown = np.zeros([s.stop - s.start for s in wide], dtype=np.bool_)
        grown[_within(at, wide)] = voxels
        if margin_mm > 0 and voxels.any():
            grown = distance_mm(~grown, self.spacing_mm) <= margin_mm
        return wide, grown

    def _level(self, at: tuple[slice, ...], voxels: BoolVolume) -> None:
        voxels = voxels & ~self._is_cut(at)
        if not voxels.any():
            return
        weight = ndimage.gaussian_filter(voxels.astype(np.float32), NEIGHBOURHOOD_MM / self.spacing_mm)
        total = ndimage.gaussian_filter(np.where(voxels, self.values[at], 0), NEIGHBOURHOOD_MM / self.spacing_mm)
        level = float((total[voxels] / np.maximum(weight[voxels], 1e-6)).max())
        self.values[at][voxels] = level
        self.mask[at] |= voxels


def _grown(at: tuple[slice, ...], voxels: NDArray[np.int_], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, s.start - int(v)), min(n, s.stop + int(v))) for s, v, n in zip(at, voxels, shape, strict=True)
    )


def _within(at: tuple[slice, ...], wide: tuple[slice, ...]) -> tuple[slice, ...]:
    return tuple(slice(a.start - w.start, a.stop - w.start) for a, w in zip(at, wide, strict=True))
