"""Examples for the network that finds facial features: labelled heads on disk, and their random variations.

Every example is a function of the head and one seed, so that a training run can be taken up anywhere.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.anatomy import templates
from efface.anatomy.head_mask import head_mask
from efface.anatomy.head_networks import normalised
from efface.anatomy.landmark_network import GRID_MM
from efface.anatomy.landmarks import EXPECTED
from efface.anatomy.templates import FEATURE_LABELS
from efface.spatial.masks import largest_component
from efface.spatial.resampling import block_mean
from efface.spatial.types import Affine, FloatVolume, Volume
from efface.training.landmarks import FEATURES
from efface.training.priors import LEAST_ML, WORKING_MM, LabelledHead, Located, label_head, label_heads

SIDE, SMALL_SIDE = 48, 40
"""Voxels of an example's side: 240 and 200 mm."""
AVERAGE = "average"
MISSING = {"nothing": 0.68, "features": 0.1, "face": 0.14, "hole": 0.08}
"""How often what is missing."""
HOLE_MM = (16.0, 36.0)
"""Radius of a hole without signal."""
ROTATION_DEG, SCALE, SHIFT_MM, NOISE = 40.0, 0.12, 15.0, 0.08


@dataclass(frozen=True, eq=False)
class Head:
    """A head and the labels carried to it.

    Attributes
    ----------
    name
        BIDS name, or `AVERAGE`.
    data
        Intensities, about 2 mm, shape (x, y, z).
    features
        `FEATURE_LABELS`, same shape.
    face
        The whole face, same shape: what is taken away to show the network a defaced head.
    affine
        Voxel to RAS+ mm.
    """

    name: str
    data: FloatVolume
    features: NDArray[np.uint8]
    face: NDArray[np.bool_]
    affine: Affine


def prepare(bids_dir: Path, cache: Path) -> list[Head]:
    """Label the average head and the heads of a data set; where they were located before is read from the cache."""
    average = average_example()
    mouth = mouth_of(average)
    people = [
        Head(h.name, h.volume.data, with_mouth(h, mouth), h.face, h.volume.affine) for h in label_heads(bids_dir, cache)
    ]
    return [average, *people]


def average_example() -> Head:
    """The average head with the shapes that were drawn on it."""
    volume = block_mean(templates.average_head(), WORKING_MM)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.data.shape], indexing="ij"), axis=-1)
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    head = head_mask(volume)
    found = label_head(Located(volume, head, np.zeros_like(head), points, np.eye(4)), AVERAGE)
    return Head(AVERAGE, volume.data, with_mouth(found), found.face, volume.affine)


def mouth_of(average: Head) -> Volume:
    """1 in the average head's mouth, else 0."""
    return Volume((average.features == FEATURE_LABELS["mouth"]).astype(np.float32), average.affine)


def with_mouth(head: LabelledHead, average_mouth: Volume | None = None) -> NDArray[np.uint8]:
    """Features of a head, its mouth where the average head's upper lip comes to lie.

    Parameters
    ----------
    head
        Carries the features to start from.
    average_mouth
        Not 0 in the average head's mouth; None for the average head itself.

    Notes
    -----
    Whether it is tissue does not matter: lips are noise in some scans and a hole without signal in others, and what
    stands out there is moustache, chin or cheek; where the mouth is can still be told from the face around it. The lower
    lip is left out: carried from the average head it is chin in some heads, and apart where the mouth is open.
    """
    features = np.where(head.features == FEATURE_LABELS["mouth"], np.uint8(0), head.features)
    if average_mouth is None:
        shapes = np.any([shape.contains(head.points) for shape in FEATURES["mouth"]], axis=0)
        mouth = largest_component(head.head & (features == 0) & shapes)
    else:
        back = np.linalg.inv(average_mouth.affine)
        index = np.moveaxis(head.points @ back[:3, :3].T + back[:3, 3], -1, 0)
        carried = ndimage.map_coordinates(average_mouth.data.astype(np.uint8), index, order=0) > 0
        mouth = largest_component(carried & (features == 0)) if carried.any() else carried
    if mouth.sum() * np.prod(head.volume.grid.spacing_mm) >= 1000 * LEAST_ML:
        features[mouth] = FEATURE_LABELS["mouth"]
    return features


def example(
    head: Head, seed: tuple[int, ...], difficulty: float = 1.0, side: int = SIDE
) -> tuple[FloatVolume, NDArray[np.int64]]:
    """One random variation of a head: intensities in [0, 1] and labels, cubes of 5 mm voxels.

    Parameters
    ----------
    head
        To be varied.
    seed
        Decides everything.
    difficulty
        Between 0 and 1: how far turned, how often mirrored, how noisy; a network learns the simple cases first.
    side
        Voxels of a side; `SMALL_SIDE` is half the work for the network.

    Notes
    -----
    Pose (up to 40 degrees about any axis, scale, shear, shift, mirrored axes), field of view (cropped, wrapped
    around), what is missing (features, or the face), contrast, bias field, resolution and noise.
    """
    rng = np.random.default_rng(seed)
    data, labels = _with_something_missing(head, rng)
    data = _blurred(data, np.abs(head.affine[:3, :3]).sum(axis=0), rng)
    matrix, offset = _pose(head, rng, difficulty, side)
    shape = (side, side, side)
    image = ndimage.affine_transform(data, matrix, offset, shape, order=1, mode="grid-constant")
    # Negative outside the head's own field of view: nothing was measured there.
    inside = ndimage.affine_transform(
        np.ones(data.shape, np.uint8), matrix, offset, shape, order=0, mode="grid-constant"
    ).astype(bool)
    target = ndimage.affine_transform(labels, matrix, offset, shape, order=0, mode="grid-constant")
    image, target, inside = _field_of_view(image, target, inside, rng)
    image = normalised(_noisy(_contrast(normalised(image), inside, rng), inside, difficulty, rng))
    flips = tuple(
        axis for axis, chance in enumerate((0.5, 0.1, 0.1)) if rng.random() < chance * (difficulty if axis else 1)
    )
    return np.ascontiguousarray(np.flip(image, flips)), np.ascontiguousarray(np.flip(target, flips)).astype(np.int64)


def _pose(
    head: Head, rng: np.random.Generator, difficulty: float, side: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Voxels of an example to voxels of the head; its middle is between those of the scan and of the features."""
    axis = rng.normal(size=3)
    angle = np.deg2rad(ROTATION_DEG) * difficulty * rng.beta(1.0, 1.2)
    turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    stretch = np.eye(3) * np.exp(rng.uniform(-SCALE, SCALE, 3)) + rng.normal(0, 0.03, (3, 3))
    to_mm = turn @ stretch * GRID_MM
    of_scan = (np.array(head.data.shape) - 1) / 2
    centre = of_scan + rng.random() * (np.array(ndimage.center_of_mass(head.features > 0)) - of_scan)
    centre_mm = head.affine[:3, :3] @ centre + head.affine[:3, 3]
    centre_mm = centre_mm + rng.uniform(-SHIFT_MM, SHIFT_MM, 3)
    to_voxel = np.linalg.inv(head.affine)
    matrix = to_voxel[:3, :3] @ to_mm
    offset = to_voxel[:3, :3] @ centre_mm + to_voxel[:3, 3] - matrix @ np.full(3, (side - 1) / 2)
    return matrix, offset


def _with_something_missing(head: Head, rng: np.random.Generator) -> tuple[FloatVolume, NDArray[np.uint8]]:
    """The head as it is, or without a feature or two, without its face, or with a hole."""
    kind = rng.choice(len(MISSING), p=list(MISSING.values()))
    name = list(MISSING)[int(kind)]
    if name == "nothing":
        return head.data, head.features
    if name == "hole":
        return _with_a_hole(head, rng)
    gone: NDArray[np.bool_]
    if name == "features":
        chosen = rng.choice(list(FEATURE_LABELS.values()), rng.integers(1, 3), replace=False)
        gone = np.isin(head.features, chosen)
    else:
        kept = [FEATURE_LABELS["ears"]] if rng.random() < 0.5 else []
        gone = (head.face | (head.features > 0)) & ~np.isin(head.features, kept)
    gone = ndimage.binary_dilation(gone, iterations=int(rng.integers(1, 4)))
    fill = 0.0 if rng.random() < 0.7 else float(np.percentile(head.data, rng.uniform(0, 30)))
    return np.where(gone, np.float32(fill), head.data), np.where(gone, np.uint8(0), head.features)


def _with_a_hole(head: Head, rng: np.random.Generator) -> tuple[FloatVolume, NDArray[np.uint8]]:
    """Without signal around a nose or a mouth, as metal in the teeth makes it.

    A mouth stays where it is, as in the labels of heads (`with_mouth`); of another feature, less than half is none.
    """
    present = [n for f in ("nose", "mouth") if (head.features == (n := FEATURE_LABELS[f])).any()]
    if not present:
        return head.data, head.features
    centre = ndimage.center_of_mass(head.features == rng.choice(present))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in head.data.shape], indexing="ij"), axis=-1) - np.array(centre)
    distance = np.linalg.norm(index @ head.affine[:3, :3].T + rng.normal(0, 5, 3), axis=-1)
    radius = rng.uniform(*HOLE_MM)
    kept = (distance >= radius) | (head.features == FEATURE_LABELS["mouth"])
    labels = np.where(kept, head.features, np.uint8(0))
    for number in FEATURE_LABELS.values():
        if (labels == number).sum() < 0.5 * (head.features == number).sum():
            labels[labels == number] = 0
    return (head.data / (1 + np.exp((radius - distance) / 2))).astype(np.float32), labels


def _blurred(data: FloatVolume, spacing_mm: NDArray[np.float64], rng: np.random.Generator) -> FloatVolume:
    """As if measured at 0.7 to 3 mm an axis (the 4 mm grid itself asks for some smoothing)."""
    width_mm = np.where(rng.random(3) < 0.6, 1.2, rng.uniform(0.7, 3.0, 3))
    return np.asarray(ndimage.gaussian_filter(data, 0.6 * width_mm / spacing_mm, truncate=2), dtype=np.float32)


def _field_of_view(
    image: FloatVolume, target: NDArray[np.uint8], inside: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[FloatVolume, NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut a side off, or let it come in again on the other side."""
    if rng.random() < 0.3:
        axis, end, voxels = int(rng.integers(3)), bool(rng.integers(2)), int(rng.integers(2, 14))
        where = np.argwhere(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = int(where[0, 0]), int(where[-1, 0]) + 1
        cut = slice(last - voxels, last) if end else slice(first, first + voxels)
        at = tuple(cut if a == axis else slice(None) for a in range(3))
        if rng.random() < 0.4:
            back = slice(first, first + voxels) if end else slice(last - voxels, last)
            other = tuple(back if a == axis else slice(None) for a in range(3))
            image, target = image.copy(), target.copy()
            image[other] += image[at]
            target[other] = np.maximum(target[other], target[at])
        image, target, inside = image.copy(), target.copy(), inside.copy()
        image[at], target[at], inside[at] = 0, 0, False
    return image, target, inside


def _contrast(image: FloatVolume, inside: NDArray[np.bool_], rng: np.random.Generator) -> FloatVolume:
    """Gamma, or now and then another contrast altogether; then a bias field."""
    if rng.random() < 0.75:
        image = image ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    else:
        knots = np.concatenate([[0.0], rng.uniform(0, 1, 5)])
        image = np.interp(image, np.linspace(0, 1, 6), knots).astype(np.float32)
    coarse = rng.normal(0, rng.uniform(0, 0.4), (4, 4, 4)).astype(np.float32)
    field = ndimage.zoom(coarse, image.shape[0] / 4, order=1, mode="nearest", grid_mode=True)
    return np.asarray(np.where(inside, image * np.exp(field), 0), dtype=np.float32)


def _noisy(image: FloatVolume, inside: NDArray[np.bool_], difficulty: float, rng: np.random.Generator) -> FloatVolume:
    level = difficulty * rng.uniform(0, NOISE)
    real, imaginary = (rng.normal(0, level, image.shape).astype(np.float32) for _ in range(2))
    return np.asarray(np.where(inside, np.hypot(image + real, imaginary), 0), dtype=np.float32)


def label_centres(head: Head, feature: str) -> list[NDArray[np.float64]]:
    """Centre of mass of each part of a feature, RAS+ mm: of eyes and ears the left and the right one."""
    there = head.features == FEATURE_LABELS[feature]
    # There is one nose and one mouth, also where noise tears them apart.
    labels, count = ndimage.label(there) if EXPECTED[feature] > 1 else (there.astype(int), int(there.any()))
    if count == 0:
        return []
    sizes = np.bincount(labels.ravel())[1:]
    return [
        head.affine[:3, :3] @ np.array(ndimage.center_of_mass(labels == i + 1)) + head.affine[:3, 3]
        for i in np.flatnonzero(sizes > 0.3 * sizes.max())
    ]
