"""Labelled heads on the standard grid, cached as arrays: what training reads, and the label frequencies from them.

Arrays are at half the spacing of the networks' grid, so that a deformed head is sampled once, at full detail.
Intensities are z-scores, not yet fitted to other heads: which heads those are is for the fold to say.
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
from efface.io.atomic import write_atomically
from efface.io.label_images import load_labels
from efface.io.scan import load_scan
from efface.segmentation.atlas.atlas_prior import CORTEX, GROUPS, load_prior
from efface.segmentation.brain_alignment import AVERAGE_TO_TEMPLATE
from efface.segmentation.labels import MIRRORED, index_lookup
from efface.segmentation.slant.label_prior import LabelPrior, build_label_prior
from efface.segmentation.slant.preprocessing import PreprocessedHead, normalise, scan_to_template, standardise
from efface.segmentation.slant.tiling import EMBEDDED, Geometry
from efface.segmentation.slant.unet import CLASSES
from efface.spatial.point_sampling import sample_labels
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, LabelVolume, Volume

log = logging.getLogger(__name__)

ATLAS = "atlas"
"""Name of the BrainCOLOR atlas among the heads."""
UNPROVEN = "_unproven"
"""Ends the names of heads whose labels are a segmenter's own: they are trained on, and never held out."""


def fine_grid(geometry: Geometry) -> Grid:
    """The geometry's field of view at half its spacing: two voxels for one along every axis."""
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
        Of the brain's intensities, see `efface.segmentation.slant.preprocessing.QUANTILES`.
    to_scan
        Standard mm to scan mm.
    """

    name: str
    image: NDArray[np.float16]
    brain: BoolVolume
    labels: NDArray[np.uint8]
    quantiles: NDArray[np.float64]
    to_scan: Affine

    def standard(self) -> PreprocessedHead:
        """The record that intensities are fitted with."""
        return PreprocessedHead(self.image.astype(np.float32), self.brain, self.quantiles, self.to_scan)


def prepare(
    bids_dir: Path, cache: Path, *, derivative: str = "dlmuse", bias: bool = True, unproven: bool = False
) -> list[str]:
    """Make the arrays of every labelled head of a data set, and of the atlas; what is there already is kept.

    Parameters
    ----------
    bids_dir
        BIDS data set; labels (BrainCOLOR ids) are in ``derivatives/<derivative>``.
    cache
        Folder for the arrays, made where missing.
    derivative
        Name of the derivative that has the labels.
    bias
        Whether to correct for intensity non-uniformity.
    unproven
        The labels are no reference but the atlas segmenter's, say: such heads are trained on and never held out.

    Returns
    -------
    list of str
        Names of the heads that are in the cache now.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for source in find_scans(bids_dir):
        found = sorted((bids_dir / "derivatives" / derivative / f"sub-{source.subject}").rglob("*_dseg.nii.gz"))
        name = f"sub-{source.subject}{UNPROVEN if unproven else ''}"
        target = cache / f"{name}.npz"
        if not found or target.exists():
            continue
        try:
            save_head(target, prepare_head(source.path, found[0], name, bias=bias))
        except EffaceError as error:
            log.warning("%s left out: %s", source.stem, error)
    if not (cache / f"{ATLAS}.npz").exists():
        save_head(cache / f"{ATLAS}.npz", prepare_atlas())
    face = cache / "face.npy"
    if not face.exists():
        to_average = np.linalg.inv(AVERAGE_TO_TEMPLATE) @ EMBEDDED.to_template
        probability = resample(average_prior("face"), EMBEDDED.grid, np.asarray(to_average, dtype=np.float64))
        with face.open("wb") as file:
            np.save(file, probability.astype(np.float16))
    return cached_heads(cache)


def prepare_head(path: Path, labels_path: Path, name: str, *, bias: bool = True) -> TrainingHead:
    """Put a scan and its labels on `FINE`.

    Raises
    ------
    InputError, AnatomyError, RegistrationError
        If the scan cannot be used.
    """
    anatomy = HeadAnatomy(load_scan(path))
    stored, affine = load_labels(labels_path)
    image = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
    to_scan = np.asarray(np.linalg.inv(scan_to_template(anatomy, [])) @ EMBEDDED.to_template, dtype=np.float64)
    head = standardise(
        anatomy.scan.volume, anatomy.brain, to_scan, FINE, bias=bias, resolution_mm=float(EMBEDDED.grid.spacing_mm[0])
    )
    labels = _carry_labels(np.asarray(image.dataobj, dtype=np.int32), np.asarray(image.affine), to_scan)
    log.info("%s: %d labels", name, len(np.unique(labels)) - 1)
    return TrainingHead(name, head.image.astype(np.float16), head.brain, labels, head.quantiles, to_scan)


def prepare_atlas() -> TrainingHead:
    """Make a head, without skull, of the BrainCOLOR atlas: tissues of the template, their labels without sulcal fluid.

    The atlas's own labels fill gyri from the white matter out into the sulci; here the tissue decides, as it does in
    the segmenter that uses the atlas.
    """
    prior = load_prior()
    group = np.array(GROUPS)[prior.groups.argmax(axis=0)]
    index = np.argwhere(np.ones(group.shape, dtype=np.bool_))
    points = index @ prior.grid.affine[:3, :3].T + prior.grid.affine[:3, 3]
    labels = group.astype(np.int32)
    for side, number in CORTEX.items():
        cortex = group == number
        labels[cortex] = sample_labels(prior.gyri[side], prior.labels_affine, points[cortex.ravel()])
    brain = prior.template.data > 0
    labels[~brain] = 0
    to_scan = EMBEDDED.to_template
    head = standardise(prior.template, brain, to_scan, FINE, bias=False)
    carried = _carry_labels(labels, prior.grid.affine, to_scan)
    return TrainingHead(ATLAS, head.image.astype(np.float16), head.brain, carried, head.quantiles, to_scan)


def _carry_labels(ids: LabelVolume, affine: Affine, to_scan: Affine) -> NDArray[np.uint8]:
    table = index_lookup()
    known = np.where((ids >= 0) & (ids < len(table)), ids, 0)
    indices = table[known]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in FINE.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = to_scan @ FINE.affine
    near = resample(Volume((indices > 0).astype(np.float32), affine), FINE, to_scan) > 0
    points = index[near.ravel()] @ matrix[:3, :3].T + matrix[:3, 3]
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
        If it is not there.
    """
    path = cache / f"{name}.npz"
    if not path.is_file():
        msg = f"no head {name} in {cache}: run `python -m efface.training.slant prepare` first"
        raise InputError(msg)
    with np.load(path) as file:
        return TrainingHead(name, file["image"], file["brain"], file["labels"], file["quantiles"], file["to_scan"])


def folds(names: list[str], count: int = 5) -> list[tuple[list[str], list[str]]]:
    """Names to train on and names held out, for each fold; heads without a reference are trained on in all of them."""
    labelled = [n for n in names if not without_reference(n)]
    held = [labelled[k::count] for k in range(count)]
    return [([n for n in names if n not in out], out) for out in held]


def without_reference(name: str) -> bool:
    """Whether a head's labels are the atlas's own or a segmenter's."""
    return name == ATLAS or name.endswith(UNPROVEN)


def count_labels(heads: list[TrainingHead]) -> LabelPrior:
    """Label frequencies of heads and of their mirror images."""
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
    """Mean distribution of the brains' intensities, the atlas's flat one left out where there are others."""
    real = [head for head in heads if head.name != ATLAS] or heads
    mean: NDArray[np.float64] = np.mean([head.quantiles for head in real], axis=0)
    return mean


def halved(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels on the networks' grid: the label of the largest index among the most frequent of each block of eight."""
    x, y, z = (n // 2 for n in labels.shape)
    blocks = labels.reshape(x, 2, y, 2, z, 2).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8).astype(np.int16)
    agree = (blocks[:, :, None] == blocks[:, None, :]).sum(axis=2)
    best = (agree * 256 + blocks).argmax(axis=1)
    chosen: NDArray[np.uint8] = blocks[np.arange(len(blocks)), best].astype(np.uint8).reshape(x, y, z)
    return chosen


def image_of(head: TrainingHead, target: NDArray[np.float64] | None) -> FloatVolume:
    """Normalised intensities of a head on `FINE`."""
    return normalise(head.standard(), target)
