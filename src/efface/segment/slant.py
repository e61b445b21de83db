"""Segmentation by SLANT: a network for each of 27 overlapping tiles, and a vote where they overlap.

The head goes to the standard grid by one affine, and the labels come back by its inverse: every voxel of the scan
takes the label that has the largest weight among the eight voxels of the standard grid around it, as if the labels'
one-hot volumes had been interpolated. (The published pipeline registers a second time here, which by itself costs
some Dice.) Nothing is resampled twice.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from efface._version import __version__
from efface.arrays import Affine, FloatVolume, Grid, LabelVolume
from efface.errors import InputError
from efface.segment.labels import LABEL_IDS, Labels, Provenance
from efface.segment.sampling import sample_labels
from efface.segment.standard import CLIP, normalise, scan_to_template, standardise
from efface.segment.tiles import EMBEDDED, PUBLISHED, Geometry, fuse
from efface.segment.weights import CompactWeights, PublishedWeights, TileModel

if TYPE_CHECKING:
    from efface.anatomy import Anatomy

__all__ = ["EMBEDDED", "PUBLISHED", "Geometry", "fuse", "segment_slant", "segment_standard"]


def segment_slant(anatomy: "Anatomy", weights: str | Path | None = None, compact: str | Path | None = None) -> Labels:
    """Segment a head into the 132 BrainCOLOR labels.

    Parameters
    ----------
    anatomy
        The scan with its brain mask and its affine from the average head.
    weights
        Folder with the published state dicts.
    compact
        Folder with weights made by `efface.training.slant`; the embedded ones by default.

    Raises
    ------
    InputError
        If weights are missing or wrong.
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template was not found in the brain.
    """
    model = open_weights(weights, compact)
    warnings: list[str] = []
    affine = scan_to_template(anatomy, warnings)
    to_scan = np.asarray(np.linalg.inv(affine) @ model.geometry.to_template, dtype=np.float64)
    head = standardise(anatomy.scan.volume, anatomy.brain, to_scan, model.geometry.grid)
    image = normalise(head, model.target)
    if model.stripped:
        image = np.where(head.brain, image, np.float32(CLIP[0]))
    found = segment_standard(image, model)
    ids = np.array([0, *LABEL_IDS], dtype=np.int32)
    values = ids[to_scan_grid(found, model.geometry.grid, to_scan, Grid(anatomy.scan.shape, anatomy.scan.affine))]
    missing = sorted(set(LABEL_IDS) - set(np.unique(values).tolist()))
    if missing:
        warnings.append(f"{len(missing)} of 132 labels have no voxel: {', '.join(map(str, missing))}")
    params = {"weights": str(weights) if weights else "", "compact": str(compact) if compact else ""}
    return Labels(values, tuple(warnings), Provenance("slant", __version__, params))


def open_weights(weights: str | Path | None, compact: str | Path | None) -> TileModel:
    """Open the published weights where a folder of them is given, else ours.

    Raises
    ------
    InputError
        If they are missing or wrong.
    """
    if weights is not None:
        return PublishedWeights(Path(weights))
    folder = Path(compact) if compact is not None else Path(__file__).parents[1] / "data" / "slant"
    if not folder.is_dir():
        msg = f"SLANT weights {folder} do not exist: give --slant-weights DIR with the 27 published state dicts"
        raise InputError(msg)
    return CompactWeights(folder)


def segment_standard(image: FloatVolume, model: TileModel) -> LabelVolume:
    """Label indices of a normalised head on the standard grid, same shape: predict every tile and fuse."""
    geometry = model.geometry
    return fuse({name: model.predict(name, image[geometry.box(name)]) for name in geometry.names}, geometry)


def to_scan_grid(labels: LabelVolume, grid: Grid, to_scan: Affine, scan: Grid) -> LabelVolume:
    """Labels of a standard grid on the scan's own.

    Parameters
    ----------
    labels
        On `grid`.
    grid
        The standard grid.
    to_scan
        Standard mm to scan mm.
    scan
        Where the labels go.

    Returns
    -------
    numpy.ndarray
        Same numbers, shape ``scan.shape``, 0 outside the standard grid.
    """
    to_voxel = np.linalg.inv(to_scan @ grid.affine) @ scan.affine
    near = ndimage.binary_dilation(labels > 0, structure=np.ones((3, 3, 3))).astype(np.uint8)
    candidates = ndimage.affine_transform(
        near, to_voxel[:3, :3], to_voxel[:3, 3], scan.shape, order=0, mode="constant", output=np.uint8
    )
    values = np.zeros(scan.shape, dtype=np.int32)
    index = np.argwhere(candidates)
    if len(index):
        standard = np.linalg.inv(to_scan) @ scan.affine
        points = index @ standard[:3, :3].T + standard[:3, 3]
        values[tuple(index.T)] = sample_labels(labels, grid.affine, points)
    return values
