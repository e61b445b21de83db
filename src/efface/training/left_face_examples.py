"""Reliefs of heads of which known parts of the face were removed, to train and to judge the network for left faces.

Each head is defaced by every method; what the quality check, which has the original, says of each part is the truth.
Parts of the original are then put back, or taken out alone, and the head is cut by planes. The same with noise over the
whole range in the air (MP2RAGE), and with the contrast turned round.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.background import find_background
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import skin_threshold
from efface.defacing import apply_edit, plan
from efface.errors import EffaceError
from efface.io.scan import Scan, load_scan
from efface.quality import Judge, QualityClass, Verdict
from efface.quality.face_parts import PARTS
from efface.quality.relief import Relief, find_relief
from efface.quality.scan_pose import pose_of
from efface.simulation.mp2rage import simulate
from efface.spatial.affine import apply_affine, invert
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Volume

BASES = ("pydeface", "fsl_deface", "quickshear", "mri_deface")
"""Methods on whose results parts of the original are put back."""
SIDE_MM, AHEAD_MM = 6.0, 40.0
"""So far around a feature, and in front of it, it is put back or taken out."""
PLANES = 3
SNR = (25.0, 60.0)
DARKEST, BRIGHTEST, HEAD = 0.15, 1.15, 0.08
"""Of the brightest intensity: least and most of the turned contrast, and where the head begins."""

Truth = Mapping[str, float | None]
"""Share of each part that is left; None where the original does not show it."""


@dataclass(frozen=True, eq=False)
class Example:
    """One relief, and what is left on it.

    Attributes
    ----------
    state
        How the head was changed, in words.
    kind
        ``whole``, ``defaced``, ``refaced``, ``half``, ``single``, ``without``, ``plane``; ``uni`` or ``turned`` before.
    relief
        In the pose that was found on this image, or on the defaced one that it was made of.
    truth
        See `Truth`.
    success
        Whether the quality check calls it well defaced; None of what it was not asked about.
    """

    state: str
    kind: str
    relief: Relief
    truth: Truth
    success: bool | None = None


@dataclass(frozen=True, eq=False)
class _State:
    """A changed image with its truth, and the pose found on it."""

    name: str
    kind: str
    data: FloatVolume
    pose: Affine
    truth: Truth
    success: bool | None = None


@functools.cache
def regions() -> Mapping[str, BoolVolume]:
    """Parts of the face with what is in front of them, and both halves of the head, on the grid of the priors."""
    labels = templates.prior("features")
    places = _places(labels)
    x, y = places[..., 0], places[..., 1]
    found = {}
    for name, number in templates.FEATURE_LABELS.items():
        if name == "ears":
            continue
        mask = ndimage.binary_dilation(labels.data == number, iterations=round(SIDE_MM / 2))
        mask = functools.reduce(np.logical_or, (_forward(mask, step) for step in range(round(AHEAD_MM / 2) + 1)))
        sides = {"right eye": mask & (x > 0), "left eye": mask & (x < 0)} if name == "eyes" else {}
        found.update({name: mask, **sides})
    return {**found, "right half": (x > 2) & (y > 35), "left half": (x < 2) & (y > 35)}


def _forward(mask: BoolVolume, voxels: int) -> BoolVolume:
    out = np.zeros_like(mask)
    out[:, voxels:] = mask[:, : mask.shape[1] - voxels]
    return out


def _places(volume: Volume) -> NDArray[np.float64]:
    return apply_affine(volume.affine, np.moveaxis(np.indices(volume.data.shape), 0, -1))


def examples(
    scan: Scan, methods: Sequence[str], rng: np.random.Generator, brain: BoolVolume | None = None
) -> list[Example]:
    """Make all reliefs of one head.

    Parameters
    ----------
    scan
        With its whole face.
    methods
        Names of defacing methods.
    rng
        Source of planes and noise.
    brain
        Its brain mask, where it is known.

    Raises
    ------
    RegistrationError, AnatomyError
        If head or brain are not found in the scan.
    """
    anatomy = HeadAnatomy(scan, brain)
    air = find_background(scan).air
    states = list(_defaced(anatomy, methods))
    states += _put_back(scan, {s.name: s for s in states}, anatomy.average_to_scan)
    states += _taken_out(scan, anatomy.average_to_scan, air, states, rng)
    states += [*_as_uni(scan, states, air, rng), *_turned(scan, states, air)]
    return [Example(s.name, s.kind, relief_of(scan, s.data, s.pose), s.truth, s.success) for s in states]


def relief_of(scan: Scan, data: FloatVolume, pose: Affine) -> Relief:
    """The relief of other intensities on a scan's grid, what wraps around put in its place."""
    anatomy = HeadAnatomy(load_scan(nib.Nifti1Image(data.astype(np.float32), scan.affine))).whole
    return find_relief(anatomy.image, pose, skin_threshold(anatomy.image))


def _defaced(anatomy: HeadAnatomy, methods: Sequence[str]) -> Iterator[_State]:
    """The original, and what the methods that find their way make of it."""
    scan, judge = anatomy.scan, Judge(anatomy)
    yield _State("original", "whole", scan.data, anatomy.average_to_scan, dict.fromkeys(PARTS, 1.0))
    for method in methods:
        try:
            defaced = apply_edit(scan, plan(anatomy, method, {}))
            verdict = judge.verdict(defaced)
        except EffaceError:  # a method that gives up leaves no image to judge
            continue
        kind = "refaced" if method == "mri_reface" else "defaced"
        pose = pose_of(HeadAnatomy(defaced)).average_to_scan
        success = verdict.verdict is QualityClass.SUCCESS
        yield _State(method, kind, defaced.data, pose, _left(verdict), success)


def _left(verdict: Verdict) -> Truth:
    changed = {part: verdict.face.features[part].changed for part in PARTS}
    return {part: None if share is None else 1 - share for part, share in changed.items()}


def _put_back(scan: Scan, states: Mapping[str, _State], pose: Affine) -> Iterator[_State]:
    """One part, or one half, of the original on defaced images."""
    bases = [states[name] for name in BASES if name in states]
    for number, (part, mask) in enumerate(_on(scan, pose).items()):
        truth = _shares(scan, pose, mask)
        for base in {bases[(number + step) % len(bases)].name: None for step in (0, 2)} if bases else ():
            data = np.where(mask, scan.data, states[base].data)
            yield _State(
                f"only {part} on {base}", "half" if "half" in part else "single", data, states[base].pose, truth
            )


def _on(scan: Scan, pose: Affine) -> dict[str, BoolVolume]:
    """`regions` on a scan's grid."""
    affine = templates.prior("features").affine
    return {
        part: resample(Volume(mask.astype(np.float32), affine), scan.grid, invert(pose)) > 0.5
        for part, mask in regions().items()
    }


def _shares(scan: Scan, pose: Affine, mask: BoolVolume) -> Truth:
    """Share of each part's region that a mask covers."""
    on = _on(scan, pose)
    return {part: float((on[part] & mask).sum() / max(1, on[part].sum())) for part in PARTS}


def _taken_out(
    scan: Scan, pose: Affine, air: float, states: Sequence[_State], rng: np.random.Generator
) -> Iterator[_State]:
    """Whole faces without one part, without the back of the head, and heads cut by planes before the face."""
    whole: dict[str, float] = dict.fromkeys(PARTS, 1.0)
    for part, mask in _on(scan, pose).items():
        if part in PARTS:
            yield _State(f"without {part}", "without", _cut(scan, mask, air), pose, {**whole, part: 0.0})
    x, y, z = np.moveaxis(apply_affine(invert(pose), _places(scan.volume)), -1, 0)
    yield _State("without the back", "whole", _cut(scan, (y < -40) & (z < 0), air), pose, whole)
    found = next((s.pose for s in states if s.kind == "defaced"), pose)
    for number in range(PLANES):
        front, slope, skew = rng.uniform(58, 78), rng.uniform(0.2, 0.8), rng.uniform(-0.15, 0.15)
        cut = (y - slope * (z + 20) - skew * x > front) & (z < 20)
        yield _State(f"plane {number}", "plane", _cut(scan, cut, air), found, dict.fromkeys(PARTS, 0.0), True)


def _cut(scan: Scan, mask: BoolVolume, air: float) -> FloatVolume:
    return np.where(mask, np.float32(air), scan.data)


def _as_uni(scan: Scan, states: Sequence[_State], air: float, rng: np.random.Generator) -> Iterator[_State]:
    """The same heads as an MP2RAGE shows them, where it stands for T1-weighted heads: noise in the air, cuts at 0."""
    signal = (scan.data - np.float32(air)).clip(0)
    white = float(np.percentile(signal[signal > np.percentile(signal, 60)], 85))
    uni = simulate(signal, white, rng.uniform(*SNR), rng).uni.astype(np.float32)
    yield from _recoloured(scan, uni, float(uni.min()), "uni", [s for s in states if s.kind != "refaced"])


def _turned(scan: Scan, states: Sequence[_State], air: float) -> Iterator[_State]:
    """Whole and defaced heads with bright and dark exchanged, as a T2-weighted image has them, roughly."""
    top = float(np.percentile(scan.data, 99.5))
    head = ndimage.gaussian_filter((scan.data - np.float32(air)).clip(0), 1) > HEAD * (top - air)
    turned = np.where(head, (BRIGHTEST * top - scan.data).clip(DARKEST * top), scan.data).astype(np.float32)
    kept = [s for s in states if s.kind in ("whole", "defaced")]
    yield from _recoloured(scan, turned, air, "turned", kept)


def _recoloured(scan: Scan, data: FloatVolume, air: float, name: str, states: Sequence[_State]) -> Iterator[_State]:
    """Other intensities, with the cuts of the given states."""
    for s in states:
        changed = np.where(s.data != scan.data, np.float32(air), data)
        yield _State(f"{name} {s.name}", f"{name} {s.kind}", changed, s.pose, s.truth, s.success)
