"""Segmentation by SLANT: a network for each of 27 overlapping tiles, fused where they overlap.

The head goes to the standard grid by one affine, and labels come back by its inverse. The probability of each label (our
networks: the mean over the tiles; the published networks: their majority vote) is interpolated on the scan's own grid,
and the largest wins. The published pipeline registers a second time here, which by itself costs some Dice. Each step of
the preprocessing can be left out.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
"""

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from efface._gpu import gpu_memory
from efface._switch import SharedSwitch
from efface._version import __version__
from efface.errors import InputError
from efface.segmentation.labels import LABEL_IDS, Labels, Provenance
from efface.segmentation.slant.checkpoints import CompactWeights, PublishedWeights, TileModel, TileProbabilities
from efface.segmentation.slant.label_probabilities import BlockAccumulator, LabelProbability, one_hot, to_scan_grid
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.preprocessing import CLIP, PreprocessedHead, normalise, scan_to_template, standardise
from efface.segmentation.slant.tiling import fuse
from efface.spatial.affine import invert
from efface.spatial.types import FloatVolume, LabelVolume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

EMBEDDED_WEIGHTS = Path(__file__).parents[2] / "data" / "slant"


def segment_slant(anatomy: "HeadAnatomy", params: SlantParams) -> Labels:
    """Segment a head into the 132 BrainCOLOR labels.

    Parameters
    ----------
    anatomy
        Of the scan; its brain mask and the registration of the average head are used.
    params
        See `SlantParams`.

    Raises
    ------
    InputError
        If weights are missing or wrong.
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template was not found in the brain.
    """
    model = open_weights(params.weights, params.compact)
    warnings: list[str] = []
    affine = scan_to_template(anatomy, warnings) if params.align else np.eye(4)
    to_scan = invert(affine) @ model.geometry.to_template
    head = standardise(anatomy.scan.volume, anatomy.brain, to_scan, model.geometry.grid, bias=params.bias)
    image = _network_input(head, model, fitted=params.normalise)
    probabilities = predict(image, model)
    found = to_scan_grid(probabilities, model.geometry.grid, to_scan, anatomy.scan.grid, threads=torch.get_num_threads())
    values = np.array([0, *LABEL_IDS], dtype=np.int32)[found]
    missing = sorted(set(LABEL_IDS) - set(np.unique(values).tolist()))
    if missing:
        warnings.append(f"{len(missing)} of 132 labels have no voxel: {', '.join(map(str, missing))}")
    return Labels(values, tuple(warnings), Provenance("slant", __version__, asdict(params)))


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


def predict(image: FloatVolume, model: TileModel) -> Iterable[LabelProbability]:
    """Probabilities of each label on the standard grid: of our networks, or the vote of the published ones.

    Every other tile is shown mirrored to our networks, so that most voxels are seen both ways and errors average out.
    """
    if not isinstance(model, CompactWeights):
        return one_hot(segment_standard(image, model))
    mean = BlockAccumulator(model.prior)

    def predicted(name: str) -> TileProbabilities:
        mirrored = model.prior.symmetric and sum(map(int, name.split("_"))) % 2 == 1
        return model.probabilities(name, image[model.geometry.box(name)], mirrored=mirrored)

    # Tiles side by side, each on one core: faster than all cores on one tile, and the same on any number of cores.
    with gpu_memory("segmenting"), _ONE_THREAD.on() as cores, ThreadPoolExecutor(cores) as pool:
        for found in pool.map(predicted, model.geometry.names):
            mean.add(found)
    return mean.probabilities()


def _limit_to_one_thread() -> int:
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    return cores


_ONE_THREAD = SharedSwitch(_limit_to_one_thread, torch.set_num_threads)
"""Each torch call uses one core; gives the number it could use before."""


def segment_standard(image: FloatVolume, model: TileModel) -> LabelVolume:
    """Label indices of a normalised head on the standard grid, same shape: predict every tile and fuse."""
    geometry = model.geometry
    with gpu_memory("segmenting"):
        return fuse({name: model.predict(name, image[geometry.box(name)]) for name in geometry.names}, geometry)
