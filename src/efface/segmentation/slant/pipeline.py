"""The SLANT segmenter: one network for the whole brain (`whole_brain`), or one for each of 27 overlapping tiles.

For the tile networks, one affine maps the scan to the standard grid, and its inverse maps the labels back. The
probability of each label (our networks: the mean over the tiles; the published networks: 1 for the majority vote) is
interpolated on the scan grid, and the largest wins. The published pipeline registers a second time at this point, which
by itself lowers Dice. Each step of the preprocessing can be switched off.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
"""

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from efface._gpu import gpu_memory
from efface._threads import cores, use_one_core
from efface._version import __version__
from efface.segmentation.labels import Labels, Provenance, ids_of, missing_labels
from efface.segmentation.slant.alignment import aligned
from efface.segmentation.slant.checkpoints import CompactWeights, PublishedWeights, TileModel, TileProbabilities
from efface.segmentation.slant.label_probabilities import BlockAccumulator, LabelProbability, one_hot, to_scan_grid
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.preprocessing import CLIP, PreprocessedHead, normalise, standardise
from efface.segmentation.slant.tiling import fuse
from efface.segmentation.slant.weights_folder import FileState, files_state, folder_in_use, is_whole_brain
from efface.segmentation.slant.whole_brain import segment_whole
from efface.segmentation.slant.whole_weights import WholeBrainWeights
from efface.spatial.affine import invert
from efface.spatial.types import FloatVolume, LabelVolume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy


def segment_slant(anatomy: "HeadAnatomy", params: SlantParams) -> Labels:
    """Segment a head into the 132 BrainCOLOR labels.

    Parameters
    ----------
    anatomy
        Anatomy of the scan; its brain mask and the registration of the average head are used (by the whole head, its
        head mask too).
    params
        Networks and preprocessing steps.

    Raises
    ------
    InputError
        If weights are missing or wrong.
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template does not fit the brain.
    GpuMemoryError
        If the networks do not fit into the memory of the GPU.
    """
    model = open_weights(params)
    if isinstance(model, WholeBrainWeights):
        return segment_whole(anatomy, params, model)
    warnings: list[str] = []
    alignment, geometry = aligned(anatomy, params, warnings), model.geometry
    to_scan = invert(alignment.to_template) @ geometry.to_template
    scored = alignment.scored_on(geometry.grid, geometry.to_template)
    head = standardise(
        anatomy.image, anatomy.brain, to_scan, geometry.grid, bias=params.bias, field=alignment.field, scored=scored
    )
    image = _network_input(head, model, fitted=params.normalise)
    probabilities = predict(image, model)
    indices = to_scan_grid(probabilities, geometry.grid, to_scan, anatomy.scan.grid, threads=torch.get_num_threads())
    values = ids_of(indices)
    used = asdict(replace(params, networks="tiles"))
    return Labels(values, (*warnings, *missing_labels(values)), Provenance("slant", __version__, used))


def _network_input(head: PreprocessedHead, model: TileModel, *, fitted: bool) -> FloatVolume:
    """Intensities as the networks take them."""
    image = normalise(head, model.target if fitted else None)
    return np.where(head.brain, image, np.float32(CLIP[0])) if model.stripped else image


def open_weights(params: SlantParams) -> TileModel | WholeBrainWeights:
    """Open the weights that these parameters select; they are read again only when a file of the folder has changed.

    Raises
    ------
    InputError
        If they are missing or wrong.
    """
    folder = folder_in_use(params)
    return _opened(folder, files_state(folder), published=bool(params.weights), whole=is_whole_brain(params))


@functools.lru_cache(maxsize=2)
def _opened(
    folder: Path, _state: tuple[FileState, ...], *, published: bool, whole: bool
) -> TileModel | WholeBrainWeights:
    if published:
        return PublishedWeights(folder)
    return WholeBrainWeights(folder) if whole else CompactWeights(folder)


def predict(image: FloatVolume, model: TileModel) -> Iterable[LabelProbability]:
    """Predict the probability of each label on the standard grid.

    Our networks see every other tile mirrored. Most voxels lie in several tiles, so the mean is over both views, and
    errors average out.

    Parameters
    ----------
    image
        Normalised intensities on the standard grid.
    model
        The networks.

    Returns
    -------
    iterable of LabelProbability
        Of our networks, the mean over the tiles; of the published ones, 1 where the majority vote has the label.

    Raises
    ------
    GpuMemoryError
        If the networks do not fit into the memory of the GPU.
    """
    if not isinstance(model, CompactWeights):
        return one_hot(segment_standard(image, model))
    accumulator = BlockAccumulator(model.prior)

    def predicted(name: str) -> TileProbabilities:
        mirrored = model.prior.symmetric and sum(map(int, name.split("_"))) % 2 == 1
        return model.probabilities(name, image[model.geometry.box(name)], mirrored=mirrored)

    # Several tiles at the same time, each on one core: faster than all cores on one tile, and the result does not depend
    # on the number of cores.
    count = cores()
    with gpu_memory("segmenting"), ThreadPoolExecutor(count, initializer=use_one_core, initargs=(count,)) as pool:
        for tile in pool.map(predicted, model.geometry.names):
            accumulator.add(tile)
    return accumulator.probabilities()


def segment_standard(image: FloatVolume, model: TileModel) -> LabelVolume:
    """Predict the labels of all tiles, and fuse them by majority vote.

    Parameters
    ----------
    image
        Normalised intensities on the standard grid.
    model
        The networks.

    Returns
    -------
    numpy.ndarray
        Label indices, int32, same shape.

    Raises
    ------
    GpuMemoryError
        If the networks do not fit into the memory of the GPU.
    """
    geometry = model.geometry
    with gpu_memory("segmenting"):
        return fuse({name: model.predict(name, image[geometry.box(name)]) for name in geometry.names}, geometry)
