"""Make the priors in average-head space that native methods use, from the average head and whole heads with faces.

Run: ``efface train priors HEADS_BIDS_DIR WORK_DIR [--out src/efface/data]``. For every head: its brain mask and
head mask; the deformable registration of the average head, which carries the shapes of `efface.training.landmarks`
to it; the part of them that is tissue there. All of it goes back to the average head by the *affine* alone, as the
methods that use the priors will go, so that the priors hold how heads differ after an affine.
"""

import argparse
import functools
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.templates import FEATURE_LABELS, PRIOR_GRID
from efface.bids.query import find_scans
from efface.errors import EffaceError
from efface.io.array_files import read_arrays
from efface.io.atomic import as_private_as, write_atomically
from efface.io.scan import load_scan
from efface.spatial import registration, resampling
from efface.spatial.masks import largest_component
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume
from efface.training.landmarks import EAR_DEPTH_MM, EARS_REACH, FEATURES, face_zone

log = logging.getLogger(__name__)

WORKING_MM = 2.0
FACE_DEPTH_MM = 28.0
"""Tissue deeper than this below the skin of the face does not identify the person: nasal cavity, tongue, throat."""
MASK_MARGIN_MM, MASK_REACH_MM = 4.0, 25.0
"""How far the removal mask goes beyond the widest face and ears, and out into the air in front of them."""
BRAIN_CLEARANCE_MM = 4.0
SURROUNDINGS_MM = 30.0
"""How far around the removal mask the average of the outside is kept: to match intensities there."""
SPLAT_SIGMA_VOX = 0.5
AIR_CLEARANCE_MM = 8.0
LEAST_ML = 1.0
PINNA_MM = 24.0
"""Ears are what a ball of this diameter, rolled inside the head, does not reach."""


@dataclass(frozen=True, eq=False)
class LabelledHead:
    """One head with what was carried to it.

    Attributes
    ----------
    name
        BIDS name of the scan.
    volume
        The scan, about `WORKING_MM` a voxel.
    head, brain
        Masks on its grid.
    features
        0 background, else `FEATURE_LABELS`, on its grid.
    face
        Tissue of the face near its skin.
    points
        Average head mm of every voxel, by affine and deformable registration, shape (x, y, z, 3).
    average_to_scan
        Average head mm to scan mm, affine.
    """

    name: str
    volume: Volume
    head: BoolVolume
    brain: BoolVolume
    features: NDArray[np.uint8]
    face: BoolVolume
    points: NDArray[np.floating]
    average_to_scan: Affine


def label_heads(bids_dir: Path, cache: Path) -> Iterator[LabelledHead]:
    """Carry the landmarks to every T1w scan of a data set; one that fails is logged and left out.

    Where the average head's points are in each scan is kept in `cache`, and read from there the next time.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for source in find_scans(bids_dir):
        path = cache / f"{source.stem}.npz"
        try:
            if not path.is_file():
                with as_private_as([source.path]):
                    _locate(source.path).save(path)
            yield label_head(Located.load(path), source.stem)
        except EffaceError as error:
            log.warning("%s left out: %s", source.stem, error)


@dataclass(frozen=True, eq=False)
class Located:
    """One head, and where each of its voxels is in the average head.

    Attributes
    ----------
    volume
        The scan, about `WORKING_MM` a voxel.
    head, brain
        Masks on its grid.
    points
        Average head mm by affine and deformable registration, shape (x, y, z, 3).
    average_to_scan
        Average head mm to scan mm, affine.
    """

    volume: Volume
    head: BoolVolume
    brain: BoolVolume
    points: NDArray[np.floating]
    average_to_scan: Affine

    def save(self, path: Path) -> None:
        """Write all of it."""
        buffer = io.BytesIO()
        np.savez(
            buffer, data=self.volume.data, affine=self.volume.affine, head=self.head, brain=self.brain,
            points=self.points, average_to_scan=self.average_to_scan,
        )  # fmt: skip
        write_atomically(path, buffer.getvalue(), force=True)

    @classmethod
    def load(cls, path: Path) -> "Located":
        """Read it back.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        names = ("data", "affine", "head", "brain", "points", "average_to_scan")
        expected = "a file of `efface train priors`: remove it, and run the same command again"
        data, affine, *rest = read_arrays(path, names, what="located head", expected=expected).values()
        return cls(Volume(data, affine), *rest)


def _locate(path: Path) -> Located:
    anatomy = HeadAnatomy(load_scan(path))
    volume = resampling.block_mean(anatomy.scan.volume, WORKING_MM)
    head, brain = (_coarse(mask, anatomy.scan.affine, volume) for mask in (anatomy.head, anatomy.brain))
    points = average_points(volume, head, anatomy.average_to_scan).astype(np.float32)
    return Located(volume, head, brain, points, anatomy.average_to_scan)


def label_head(found: Located, name: str) -> LabelledHead:
    """Label the features of a head that was located."""
    head, spacing_mm = found.head, found.volume.grid.spacing_mm
    features = np.zeros(head.shape, np.uint8)
    depth = ndimage.distance_transform_edt(head, sampling=spacing_mm)
    tissue = {"eyes": np.ones_like(head), "ears": head & (depth <= EAR_DEPTH_MM)}
    for feature, shapes in FEATURES.items():
        for shape in shapes:
            inside = shape.contains(found.points) & tissue.get(feature, head)
            features[largest_component(inside)] = FEATURE_LABELS[feature]
    standing_out = pinnae(found.volume, head)
    for shape, reach in zip(FEATURES["ears"], EARS_REACH, strict=True):
        ear = shape.contains(found.points) & tissue["ears"] | reach.contains(found.points) & standing_out
        features[largest_component(ear)] = FEATURE_LABELS["ears"]
    for number in FEATURE_LABELS.values():  # a sliver at the edge of the field of view is no feature
        if (features == number).sum() * np.prod(spacing_mm) < 1000 * LEAST_ML:
            features[features == number] = 0
    face = face_zone(found.points) & head & (depth < FACE_DEPTH_MM) & ~found.brain
    face |= np.isin(features, [FEATURE_LABELS[f] for f in ("eyes", "nose", "mouth")])
    return LabelledHead(name, found.volume, head, found.brain, features, face, found.points, found.average_to_scan)


def pinnae(volume: Volume, head: BoolVolume) -> BoolVolume:
    """What stands out from a head without being as thick as `PINNA_MM`: ears, the tip of the nose, and the like."""
    spacing = volume.grid.spacing_mm
    smooth = ndimage.gaussian_filter(volume.data, 0.8 / spacing, truncate=2)
    skin = float(np.median(smooth[head & (ndimage.distance_transform_edt(head, sampling=spacing) < 6)]))
    inside = ndimage.distance_transform_edt(head, sampling=spacing) > PINNA_MM / 2
    thick = ndimage.distance_transform_edt(~inside, sampling=spacing) <= PINNA_MM / 2 + 1
    tissue = (head | (smooth > 0.4 * skin)) & ~thick
    return np.asarray(ndimage.binary_closing(tissue, iterations=2) & ~thick, dtype=np.bool_)


def average_points(volume: Volume, head: BoolVolume, average_to_scan: Affine) -> NDArray[np.float64]:
    """Average head mm of every voxel, by affine and deformable registration, shape (x, y, z, 3)."""
    average = resampling.block_mean(templates.average_head(), WORKING_MM)
    near = ndimage.binary_dilation(head, iterations=3)
    back: Affine = np.asarray(np.linalg.inv(average_to_scan), dtype=np.float64)
    warp = registration.register_deformable(
        volume, average, back, mask=near, iterations="100x60x20", radius=3, smoothing_vox=(3.0, 1.0)
    )
    return resampling.warp_points(warp, volume.grid)


def build_priors(heads: list[LabelledHead]) -> dict[str, NDArray[np.uint8]]:
    """Priors on `PRIOR_GRID`: probabilities times 255 (any evidence is at least 1), masks, and feature labels."""
    there = [_in_average(head) for head in heads]
    brain, face = (np.mean([masks[name] for masks in there], axis=0) for name in ("brain", "face"))
    anywhere = np.max([masks["head"] for masks in there], axis=0)
    by_feature = {name: np.mean([masks[name] for masks in there], axis=0) for name in FEATURE_LABELS}
    labels = np.zeros(PRIOR_GRID.shape, np.uint8)
    for name, number in FEATURE_LABELS.items():
        labels[_where_usual(by_feature[name])] = number
    shape, tissue = average_outside(heads)
    replaced = _distance(mask := removal_mask(face, by_feature["ears"], brain)) < SURROUNDINGS_MM
    return {
        "brain": _as_bytes(brain),
        "face": _as_bytes(face),
        "features": labels,
        "face_and_ears": mask.astype(np.uint8),
        "head": _as_bytes(np.where(replaced, shape, 0)),
        "tissue": np.where(replaced & (shape > 0.05), np.clip(np.rint(100 * tissue), 1, 255), 0).astype(np.uint8),
        "air": (_distance(anywhere > 0.02) > AIR_CLEARANCE_MM).astype(np.uint8),
    }


def _where_usual(probability: FloatVolume) -> BoolVolume:
    """More than half as probable as where most probable on that side: ears vary more than noses."""
    usual = np.zeros(probability.shape, dtype=np.bool_)
    for side in (slice(0, probability.shape[0] // 2), slice(probability.shape[0] // 2, None)):
        usual[side] = probability[side] > 0.5 * probability[side].max()
    return usual


def average_outside(heads: list[LabelledHead]) -> tuple[FloatVolume, FloatVolume]:
    """Probability of head and mean intensity of head tissue, of heads brought together by their deformations.

    Sharper than the average head, which was made by affines, and deeper: it goes below the chin. Intensities are
    relative to the median of the brain; air never mixes with them.
    """
    seen, inside, sums = np.sum([_spread(head) for head in heads], axis=0)
    seen, inside, sums = (ndimage.gaussian_filter(total, SPLAT_SIGMA_VOX) for total in (seen, inside, sums))
    enough = seen > 0.1 * len(heads)
    shape = np.where(enough, inside / np.maximum(seen, 1e-6), 0)
    return shape.astype(np.float32), (sums / np.maximum(inside, 1e-6)).astype(np.float32)


@functools.cache
def _spread(head: LabelledHead) -> NDArray[np.float64]:
    """Weight, weight of head tissue, and its intensities, of one head, shape (3, *PRIOR_GRID.shape).

    Kept, as `_in_average` is, for priors of all heads but one.
    """
    brightness = float(np.median(head.volume.data[head.brain]))
    values = np.clip(head.volume.data / brightness, 0, 2.5)
    index = (head.points - PRIOR_GRID.affine[:3, 3]) / PRIOR_GRID.spacing_mm
    weights = (np.ones_like(values), head.head, head.head * values)
    return np.stack([_splat(index, np.asarray(weight, dtype=np.float64)) for weight in weights])


def _splat(index: NDArray[np.floating], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread the weight of every point, voxel coordinates of shape (..., 3), over its eight neighbours."""
    points, shares = index.reshape(-1, 3), weight.ravel()
    low = np.floor(points).astype(np.int64)
    total = np.zeros(int(np.prod(PRIOR_GRID.shape)))
    for corner in np.ndindex(2, 2, 2):
        at = low + corner
        share = shares * np.prod(1 - np.abs(points - at), axis=1)
        valid = np.all((at >= 0) & (at < PRIOR_GRID.shape), axis=1)
        flat = np.ravel_multi_index(tuple(at[valid].T), PRIOR_GRID.shape)
        total += np.bincount(flat, share[valid], total.size)
    return total.reshape(PRIOR_GRID.shape)


def removal_mask(face: FloatVolume, ears: FloatVolume, brain: FloatVolume) -> BoolVolume:
    """Face and ears of the widest head, with a margin, and the air before them; clear of every brain."""
    outwards = _distance(face > 0.05) <= MASK_MARGIN_MM
    in_front = np.maximum.accumulate(outwards, axis=1) & (_distance(face > 0.05) <= MASK_REACH_MM)
    beside = ndimage.binary_closing(_distance(ears > 0.05) <= MASK_MARGIN_MM, iterations=4)
    middle = PRIOR_GRID.shape[0] // 2
    beside[:middle] = np.maximum.accumulate(beside[:middle][::-1], axis=0)[::-1]
    beside[middle:] = np.maximum.accumulate(beside[middle:], axis=0)
    clear: BoolVolume = _distance(brain > 0.02) > BRAIN_CLEARANCE_MM
    mask: BoolVolume = (outwards | in_front | beside) & clear
    return mask


def _distance(mask: BoolVolume) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~mask, sampling=PRIOR_GRID.spacing_mm)
    return distance


def _coarse(mask: BoolVolume, affine: Affine, like: Volume) -> BoolVolume:
    mean = resampling.block_mean(Volume(mask.astype(np.float32), affine), WORKING_MM)
    x, y, z = like.data.shape
    return np.asarray(mean.data[:x, :y, :z] > 0.5, dtype=np.bool_)


@functools.cache
def _in_average(head: LabelledHead) -> dict[str, FloatVolume]:
    """Brain, face, head and features of one head on `PRIOR_GRID`."""
    masks = {"brain": head.brain, "face": head.face, "head": head.head}
    masks |= {name: head.features == number for name, number in FEATURE_LABELS.items()}
    return {name: _to_average(head, mask) for name, mask in masks.items()}


def _to_average(head: LabelledHead, mask: BoolVolume) -> FloatVolume:
    return resampling.resample(Volume(mask.astype(np.float32), head.volume.affine), PRIOR_GRID, head.average_to_scan)


def _as_bytes(probability: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.where(probability > 1e-3, np.clip(np.rint(probability * 255), 1, 255), 0).astype(np.uint8)


def save(priors: dict[str, NDArray[np.uint8]], folder: Path, grid: Grid = PRIOR_GRID) -> None:
    """Write each prior as a small gzipped NIfTI."""
    import gzip

    folder.mkdir(parents=True, exist_ok=True)
    for name, values in priors.items():
        image = nib.Nifti1Image(values, grid.affine)
        image.header.set_xyzt_units("mm")
        data = gzip.compress(image.to_bytes(), 9, mtime=0)
        write_atomically(folder / f"{name}.nii.gz", data, force=True)
        log.info("%s: %d kB", name, len(data) // 1000)


def main(argv: Sequence[str] | None = None) -> int:
    """Build from the command line."""
    parser = argparse.ArgumentParser(prog="efface train priors", description="Make the priors in average-head space.")
    parser.add_argument("bids_dir", type=Path, help="whole heads with faces, T1w, BIDS")
    parser.add_argument("work_dir", type=Path, help="where each head is in the average head; a run goes on here")
    parser.add_argument("--out", type=Path, default=Path(templates.__file__).parents[1] / "data", help="where priors go")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    heads = []
    for head in label_heads(options.bids_dir, options.work_dir):
        log.info("%s", head.name)
        heads.append(head)
    save(build_priors(heads), options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
