"""Labelled heads on the standard grid, cached as arrays, and the label prior made from them.

The arrays have half the spacing of the networks' grid, so that an augmented head is resampled once, at full detail.
Intensities are z-scores; they are fitted to the mean of the training heads later, because that depends on the fold.
"""

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.templates import prior as average_prior
from efface.bids.query import find_scans
from efface.errors import EffaceError, InputError
from efface.io.array_files import read_arrays
from efface.io.atomic import as_private_as, write_atomically
from efface.io.label_images import load_labels
from efface.io.scan import load_scan
from efface.segmentation.atlas.atlas_prior import CORTEX, GROUPS, load_prior
from efface.segmentation.brain_alignment import AVERAGE_TO_TEMPLATE
from efface.segmentation.labels import MIRRORED, index_lookup
from efface.segmentation.slant.label_prior import LabelPrior, build_label_prior
from efface.segmentation.slant.preprocessing import PreprocessedHead, normalise, scan_to_template, standardise
from efface.segmentation.slant.tiling import EMBEDDED, Geometry
from efface.segmentation.slant.unet import CLASSES
from efface.spatial.affine import apply_affine, invert
from efface.spatial.point_sampling import sample_labels
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, LabelVolume, Volume

log = logging.getLogger(__name__)

EXPECTED = "a file of `efface train slant prepare`: remove it, and run that again"
ATLAS = "atlas"
"""Name of the head made from the BrainCOLOR atlas."""
UNPROVEN = "_unproven"
"""Suffix of the names of heads that a segmenter labelled: they are trained on and never held out."""


def fine_grid(geometry: Geometry) -> Grid:
    """Grid with the field of view of a geometry and half its spacing: two voxels for one along every axis."""
    spacing = geometry.grid.spacing_mm
    affine = geometry.grid.affine.copy()
    affine[:3, :3] = np.diag(spacing / 2)
    affine[:3, 3] -= spacing / 4
    x, y, z = (2 * n for n in geometry.grid.shape)
    return Grid((x, y, z), affine)


FINE = fine_grid(EMBEDDED)


@dataclass(frozen=True, eq=False)
class TrainingHead:
    """One labelled head on `FINE`.

    Attributes
    ----------
    name
        BIDS subject, or `ATLAS`.
    image
        Z-scored intensities, float16.
    brain
        Brain mask.
    labels
        Label indices 0 to 132, uint8.
    quantiles
        Of the intensities in the brain, see `efface.segmentation.slant.preprocessing.QUANTILES`.
    to_scan
        Standard mm to scan mm, shape (4, 4).
    """

    name: str
    image: NDArray[np.float16]
    brain: BoolVolume
    labels: NDArray[np.uint8]
    quantiles: NDArray[np.float64]
    to_scan: Affine

    def standard(self) -> PreprocessedHead:
        """The same head with float32 intensities and without labels."""
        return PreprocessedHead(self.image.astype(np.float32), self.brain, self.quantiles, self.to_scan)


def prepare(
    bids_dir: Path, cache: Path, *, derivative: str = "dlmuse", bias: bool = True, unproven: bool = False
) -> list[str]:
    """Make the arrays of every labelled head of a data set, and of the atlas; existing ones are kept.

    Parameters
    ----------
    bids_dir
        BIDS data set; labels (BrainCOLOR ids) are in ``derivatives/<derivative>``.
    cache
        Folder for the arrays; it is made if missing.
    derivative
        Name of the derivative with the labels.
    bias
        Whether to correct intensity non-uniformity (N4).
    unproven
        Whether the labels are no reference, for example those of the atlas segmenter. Such heads are trained on and
        never held out.

    Returns
    -------
    list of str
        Names of all heads in the cache.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for source in find_scans(bids_dir):
        found = sorted((bids_dir / "derivatives" / derivative / f"sub-{source.subject}").rglob("*_dseg.nii.gz"))
        name = f"sub-{source.subject}{UNPROVEN if unproven else ''}"
        target = cache / f"{name}.npz"
        if not found or target.exists():
            continue
        try:
            with as_private_as([source.path]):  # the cache holds the head itself
                save_head(target, prepare_head(source.path, found[0], name, bias=bias))
        except EffaceError as error:
            log.warning("%s left out: %s", source.stem, error)
    if not (cache / f"{ATLAS}.npz").exists():
        save_head(cache / f"{ATLAS}.npz", prepare_atlas())
    face = cache / "face.npy"
    if not face.exists():
        probability = resample(average_prior("face"), EMBEDDED.grid, invert(AVERAGE_TO_TEMPLATE) @ EMBEDDED.to_template)
        buffer = io.BytesIO()
        np.save(buffer, probability.astype(np.float16))
        write_atomically(face, buffer.getvalue(), force=True)
    return cached_heads(cache)


def prepare_head(path: Path, labels_path: Path, name: str, *, bias: bool = True) -> TrainingHead:
    """Resample a scan and its labels to `FINE`.

    Parameters
    ----------
    path, labels_path
        The scan, and its labels (BrainCOLOR ids).
    name
        Of the head in the cache.
    bias
        Whether to correct intensity non-uniformity (N4).

    Raises
    ------
    InputError, AnatomyError, RegistrationError
        If the scan cannot be used.
    """
    anatomy = HeadAnatomy(load_scan(path))
    stored, affine = load_labels(labels_path)
    image = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
    to_scan = invert(scan_to_template(anatomy, [])) @ EMBEDDED.to_template
    head = standardise(
        anatomy.scan.volume, anatomy.brain, to_scan, FINE, bias=bias, resolution_mm=float(EMBEDDED.grid.spacing_mm[0])
    )
    labels = _labels_on_fine(np.asarray(image.dataobj, dtype=np.int32), np.asarray(image.affine), to_scan)
    log.info("%s: %d labels", name, len(np.unique(labels)) - 1)
    return TrainingHead(name, head.image.astype(np.float16), head.brain, labels, head.quantiles, to_scan)


def prepare_atlas() -> TrainingHead:
    """Make a head without skull from the BrainCOLOR atlas: the composed template, with labels without sulcal fluid.

    The labels of the atlas fill gyri from the white matter out into the sulci. As in the atlas segmenter, the tissue
    template decides which voxels are cortex.
    """
    prior = load_prior()
    group = np.array(GROUPS)[prior.groups.argmax(axis=0)]
    index = np.argwhere(np.ones(group.shape, dtype=np.bool_))
    points = apply_affine(prior.grid.affine, index)
    labels = group.astype(np.int32)
    for side, number in CORTEX.items():
        cortex = group == number
        labels[cortex] = sample_labels(prior.gyri[side], prior.labels_affine, points[cortex.ravel()])
    brain = prior.template.data > 0
    labels[~brain] = 0
    to_scan = EMBEDDED.to_template
    head = standardise(prior.template, brain, to_scan, FINE, bias=False)
    on_fine = _labels_on_fine(labels, prior.grid.affine, to_scan)
    return TrainingHead(ATLAS, head.image.astype(np.float16), head.brain, on_fine, head.quantiles, to_scan)


def _labels_on_fine(ids: LabelVolume, affine: Affine, to_scan: Affine) -> NDArray[np.uint8]:
    """Label indices on `FINE` from BrainCOLOR ids with a voxel to scan mm affine; unknown ids become background."""
    table = index_lookup()
    known = np.where((ids >= 0) & (ids < len(table)), ids, 0)
    indices = table[known]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in FINE.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    near = resample(Volume((indices > 0).astype(np.float32), affine), FINE, to_scan) > 0
    points = apply_affine(to_scan @ FINE.affine, index[near.ravel()])
    labels = np.zeros(FINE.shape, dtype=np.uint8)
    labels[near] = sample_labels(indices, affine, points)
    return labels


def save_head(path: Path, head: TrainingHead) -> None:
    """Write one head of the cache."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        image=head.image,
        brain=head.brain,
        labels=head.labels,
        quantiles=head.quantiles,
        to_scan=head.to_scan,
    )
    write_atomically(path, buffer.getvalue(), force=True)


def cached_heads(cache: Path) -> list[str]:
    """Names of the heads in a cache, the atlas last."""
    names = sorted(path.stem for path in cache.glob("*.npz"))
    return [n for n in names if n != ATLAS] + [n for n in names if n == ATLAS]


def load_head(cache: Path, name: str) -> TrainingHead:
    """Read one head of the cache.

    Raises
    ------
    InputError
        If it is not there, or cannot be read.
    """
    path = cache / f"{name}.npz"
    if not path.is_file():
        msg = f"no head {name} in {cache}: run `efface train slant prepare` first"
        raise InputError(msg)
    names = ("image", "brain", "labels", "quantiles", "to_scan")
    return TrainingHead(name, *read_arrays(path, names, what="head", expected=EXPECTED).values())


def folds(names: list[str], count: int = 5) -> list[tuple[list[str], list[str]]]:
    """Divide heads into folds for cross-validation.

    Parameters
    ----------
    names
        Of the heads. Those without a reference are trained on in every fold.
    count
        Number of folds.

    Returns
    -------
    list of tuple
        For each fold, names of the heads to train on and of those held out.
    """
    labelled = [n for n in names if not without_reference(n)]
    held = [labelled[k::count] for k in range(count)]
    return [([n for n in names if n not in out], out) for out in held]


def without_reference(name: str) -> bool:
    """Whether the labels of a head are those of the atlas or of a segmenter, and so no reference."""
    return name == ATLAS or name.endswith(UNPROVEN)


def count_labels(heads: list[TrainingHead]) -> LabelPrior:
    """Make the label prior of heads and of their mirror images."""
    shape = tuple(n // 4 for n in FINE.shape)
    size = int(np.prod(shape))
    x, y, z = np.ix_(*[np.minimum(np.arange(n) // 4, k - 1) for n, k in zip(FINE.shape, shape, strict=True)])
    where = (x * shape[1] + y) * shape[2] + z
    counts = np.zeros((CLASSES, *shape))
    for head in heads:
        flat = head.labels.astype(np.intp) * size + where
        counts += np.bincount(flat.ravel(), minlength=CLASSES * size).reshape(CLASSES, *shape)
    counts += counts[MIRRORED][:, ::-1]
    return build_label_prior(counts, EMBEDDED)


def mean_quantiles(heads: list[TrainingHead]) -> NDArray[np.float64]:
    """Mean quantiles of the heads, without the atlas if there are others: it has few different intensities."""
    real = [head for head in heads if head.name != ATLAS] or heads
    mean: NDArray[np.float64] = np.mean([head.quantiles for head in real], axis=0)
    return mean


def halved(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce labels to the networks' grid: the most frequent label of each block of eight voxels.

    Of equally frequent labels, the largest index wins.
    """
    x, y, z = (n // 2 for n in labels.shape)
    blocks = labels.reshape(x, 2, y, 2, z, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8).astype(np.int16)
    agree = (blocks[:, :, None] == blocks[:, None, :]).sum(axis=2)
    best = (agree * 256 + blocks).argmax(axis=1)
    chosen: NDArray[np.uint8] = blocks[np.arange(len(blocks)), best].astype(np.uint8).reshape(x, y, z)
    return chosen


def image_of(head: TrainingHead, target: NDArray[np.float64] | None) -> FloatVolume:
    """Normalised intensities of a head on `FINE`."""
    return normalise(head.standard(), target)
