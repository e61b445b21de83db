"""Segmentation by SLANT: a network for each of 27 overlapping tiles, fused where they overlap.

The head goes to the standard grid by one affine, and labels come back by its inverse: what is interpolated on the
scan's own grid is each label's share (our networks: the mean probability of the tiles; the published ones: their
majority vote), and the largest wins. The published pipeline registers a second time here, which by itself costs
some Dice. Each step of the preprocessing can be left out, and is done once a scan.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
"""

import functools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from efface._version import __version__
from efface.errors import InputError
from efface.segmentation.labels import LABEL_IDS, Labels, Provenance
from efface.segmentation.slant.checkpoints import CompactWeights, PublishedWeights, TileModel, TileShares
from efface.segmentation.slant.label_probabilities import LabelProbability, MeanShares, label_shares, to_scan_grid
from efface.segmentation.slant.preprocessing import CLIP, PreprocessedHead, normalise, scan_to_template, standardise
from efface.segmentation.slant.tiling import EMBEDDED, PUBLISHED, Geometry, fuse
from efface.spatial.types import Affine, FloatVolume, Grid, LabelVolume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

__all__ = ["EMBEDDED", "PUBLISHED", "Geometry", "SlantParams", "fuse", "segment_slant", "segment_standard"]

EMBEDDED_WEIGHTS = Path(__file__).parents[2] / "data" / "slant"


@dataclass(frozen=True)
class SlantParams:
    """Which networks, and which steps before them.

    Attributes
    ----------
    weights
        Folder with the 27 published state dicts; empty for our own networks.
    compact
        Folder with networks made by `efface train slant`; empty for the embedded ones.
    align
        Register the brain to the standard space; without it the scan has to lie there already.
    bias
        Correct for intensity non-uniformity (N4).
    normalise
        Fit the brain's intensities to those of the training heads (ours; the published networks scale each tile).
    """

    weights: str = ""
    compact: str = ""
    align: bool = True
    bias: bool = True
    normalise: bool = True


def segment_slant(anatomy: "HeadAnatomy", **params: Any) -> Labels:
    """Segment a head into the 132 BrainCOLOR labels.

    Parameters
    ----------
    anatomy
        The scan with its brain mask and its affine from the average head.
    **params
        See `SlantParams`.

    Raises
    ------
    InputError
        If a parameter is unknown, or weights are missing or wrong.
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template was not found in the brain.
    """
    chosen = _chosen(params)
    model = open_weights(chosen.weights, chosen.compact)
    warnings: list[str] = []
    affine = anatomy.once(("slant", "align"), lambda: _aligned(anatomy)) if chosen.align else (np.eye(4), ())
    warnings += affine[1]
    to_scan = np.asarray(np.linalg.inv(affine[0]) @ model.geometry.to_template, dtype=np.float64)
    head = anatomy.once(
        ("slant", "head", model.geometry.name, chosen.align, chosen.bias),
        lambda: standardise(anatomy.scan.volume, anatomy.brain, to_scan, model.geometry.grid, bias=chosen.bias),
    )
    scan = Grid(anatomy.scan.shape, anatomy.scan.affine)
    image = _network_input(head, model, fitted=chosen.normalise)
    shares = shares_of(image, model)
    found = to_scan_grid(shares, model.geometry.grid, to_scan, scan, threads=torch.get_num_threads())
    values = np.array([0, *LABEL_IDS], dtype=np.int32)[found]
    missing = sorted(set(LABEL_IDS) - set(np.unique(values).tolist()))
    if missing:
        warnings.append(f"{len(missing)} of 132 labels have no voxel: {', '.join(map(str, missing))}")
    return Labels(values, tuple(warnings), Provenance("slant", __version__, asdict(chosen)))


def _chosen(params: dict[str, Any]) -> SlantParams:
    known = {f.name: f.type for f in fields(SlantParams)}
    if unknown := sorted(set(params) - set(known)):
        msg = f"unknown parameter of the slant segmenter: expected {', '.join(known)}; received {', '.join(unknown)}"
        raise InputError(msg)
    given = SlantParams(**params)
    return SlantParams(
        str(given.weights), str(given.compact), bool(given.align), bool(given.bias), bool(given.normalise)
    )


def _aligned(anatomy: "HeadAnatomy") -> tuple[Affine, tuple[str, ...]]:
    warnings: list[str] = []
    return scan_to_template(anatomy, warnings), tuple(warnings)


def _network_input(head: PreprocessedHead, model: TileModel, *, fitted: bool) -> FloatVolume:
    image = normalise(head, model.target if fitted else None)
    return np.where(head.brain, image, np.float32(CLIP[0])) if model.stripped else image


@functools.lru_cache(maxsize=2)
def open_weights(weights: str | Path = "", compact: str | Path = "") -> TileModel:
    """Open the published weights where a folder of them is given, else ours; once a process.

    Raises
    ------
    InputError
        If they are missing or wrong.
    """
    if weights:
        return PublishedWeights(Path(weights))
    folder = Path(compact) if compact else EMBEDDED_WEIGHTS
    if not folder.is_dir():
        msg = f"SLANT weights {folder} do not exist: give --slant-weights DIR with the 27 published state dicts"
        raise InputError(msg)
    return CompactWeights(folder)


def shares_of(image: FloatVolume, model: TileModel) -> Iterable[LabelProbability]:
    """What speaks for each label on the standard grid: probabilities of our networks, the vote of the published ones.

    Every other tile is shown mirrored to our networks, so that most voxels are seen both ways: errors average out.
    """
    if not isinstance(model, CompactWeights):
        return label_shares(segment_standard(image, model))
    mean = MeanShares(model.place)

    def predicted(name: str) -> TileShares:
        mirrored = model.place.symmetric and sum(map(int, name.split("_"))) % 2 == 1
        return model.probabilities(name, image[model.geometry.box(name)], mirrored=mirrored)

    # Tiles side by side, each on one core: faster than all cores on one tile, and the same on any number of cores.
    with _one_thread() as cores, ThreadPoolExecutor(cores) as pool:
        for found in pool.map(predicted, model.geometry.names):
            mean.add(found)
    return mean.shares()


@contextmanager
def _one_thread() -> Iterator[int]:
    """Let each torch call use one core; gives the number it could use before."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield cores
    finally:
        torch.set_num_threads(cores)


def segment_standard(image: FloatVolume, model: TileModel) -> LabelVolume:
    """Label indices of a normalised head on the standard grid, same shape: predict every tile and fuse."""
    geometry = model.geometry
    return fuse({name: model.predict(name, image[geometry.box(name)]) for name in geometry.names}, geometry)
