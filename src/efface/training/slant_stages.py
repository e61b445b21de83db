"""The stages of the SLANT training: one network for all tiles, a network for each tile, and their accuracy."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from efface.errors import InputError
from efface.io.array_files import read_array
from efface.io.atomic import write_atomically
from efface.io.label_images import load_labels
from efface.metrics.dice import compare_labels
from efface.segmentation.labels import ids_of
from efface.segmentation.slant.checkpoints import (
    CompactWeights,
    ModelCard,
    load_compact,
    predict_compact,
    read_card,
    save_compact,
    write_card,
)
from efface.segmentation.slant.label_prior import LabelPrior, load_label_prior
from efface.segmentation.slant.label_probabilities import LabelProbability, most_probable, to_scan_grid
from efface.segmentation.slant.pipeline import predict, segment_standard
from efface.segmentation.slant.tiling import EMBEDDED
from efface.segmentation.slant.unet import CLASSES, COMPACT_ARCHITECTURE, TileNet
from efface.segmentation.slant.weights_folder import LABEL_PRIOR, POOLED
from efface.spatial.types import FloatVolume, Grid, LabelVolume
from efface.training import slant_data as data
from efface.training.augment import Draw, apply
from efface.training.slant_fit import CHECKPOINT, Schedule, fit
from efface.training.slant_sampler import Sampler, network_image
from efface.training.slant_split import Split, read_split, write_split

log = logging.getLogger(__name__)

WEIGHTS, TILES = "weights", "tiles"
"""Folders of a training: its networks; the logs of the networks of single tiles."""
POOLED_STAGE = "pooled"


@dataclass(frozen=True, eq=False)
class Loaded:
    """Heads and settings of a stage.

    Attributes
    ----------
    split
        Of the training.
    heads, held
        Heads to train on, and heads held out.
    target
        Mean quantiles of the training heads.
    prior
        Label prior of the training heads.
    face
        Probability of each voxel of the networks' grid to belong to the face.
    """

    split: Split
    heads: list[data.TrainingHead]
    held: list[data.TrainingHead]
    target: NDArray[np.float64]
    prior: LabelPrior
    face: torch.Tensor


class _OneNetwork:
    """The same network for every tile, with the interface of `TileModel`."""

    geometry = EMBEDDED

    def __init__(self, network: TileNet, loaded: Loaded) -> None:
        self.network, self.prior = network, loaded.prior
        self.target: NDArray[np.float64] | None = loaded.target
        self.stripped = loaded.split.stripped

    def predict(self, name: str, tile: FloatVolume) -> NDArray[np.uint8]:
        return predict_compact(self.network, self.prior.tile(name), tile)


def pretrain(
    cache: Path, out: Path, split: Split, schedule: Schedule, start: Path | None = None, validation_heads: int = 2
) -> None:
    """Train one network on all tiles.

    Parameters
    ----------
    cache
        Folder that `efface.training.slant_data.prepare` filled.
    out
        Folder of this training.
    split
        Heads and settings.
    schedule
        Length and learning rate.
    start
        Folder of a finished training whose pooled network is the initial one.
    validation_heads
        Number of the heads held out that the network is validated on, once an epoch.

    Raises
    ------
    InputError
        If the initial network is missing, or was trained on a head that is held out here.
    """
    write_split(out, split)
    torch.manual_seed(split.seed)  # before the initial weights are drawn
    network = TileNet() if start is None else _initial_network(start, split)
    loaded = _load(cache, out)
    weights = out / WEIGHTS
    if (weights / POOLED).exists():
        log.info("pretraining is done")
        return
    watched = loaded.held[:validation_heads]
    truth = [data.halved(head.labels) for head in watched]
    images = [_standard_image(head, loaded) for head in watched]

    def validate(network: TileNet) -> float:
        model = _OneNetwork(network, loaded)
        found = [segment_standard(image, model) for image in images]
        return float(np.mean([mean_dice(a, b) for a, b in zip(found, truth, strict=True)])) if found else np.nan

    sampler = _sampler(loaded, EMBEDDED.names)
    folder = out / POOLED_STAGE
    network = fit(network, sampler, schedule, folder, stage=POOLED_STAGE, seed=split.seed, validate=validate)
    training = {**asdict(split), "pretraining": asdict(schedule), "augmentation": asdict(split.amounts)}
    if start is not None:
        training["start"] = read_card(start / WEIGHTS).training
    weights.mkdir(exist_ok=True)
    write_card(weights, ModelCard(COMPACT_ARCHITECTURE, tuple(loaded.target.tolist()), split.stripped, training))
    write_atomically(weights / LABEL_PRIOR, loaded.prior.to_bytes(), force=True)
    save_compact(weights / POOLED, network.state_dict())


def _initial_network(folder: Path, split: Split) -> TileNet:
    """Pooled network of an earlier training, if it saw no head that is held out now."""
    leaked = sorted(set(read_split(folder).train) & set(split.held))
    if leaked:
        msg = f"{folder} was trained on {', '.join(leaked)}, held out in fold {split.fold}: start from another training"
        raise InputError(msg)
    return load_compact(folder / WEIGHTS / POOLED, COMPACT_ARCHITECTURE)


def specialise(cache: Path, out: Path, schedule: Schedule, tiles: Sequence[str] = EMBEDDED.names) -> None:
    """Train a network for each tile, starting from the pooled one; finished networks are kept.

    Parameters
    ----------
    cache, out
        As for `pretrain`.
    schedule
        Length and learning rate.
    tiles
        Names of the tiles.

    Raises
    ------
    InputError
        If there is no pooled network.
    """
    weights = out / WEIGHTS
    if not (weights / POOLED).exists():
        msg = f"no pooled network in {weights}: run `efface train slant pretrain` to its end first"
        raise InputError(msg)
    loaded = _load(cache, out)
    sampler = _sampler(loaded, ())
    images = [_standard_image(head, loaded) for head in loaded.held]
    truth = [data.halved(head.labels) for head in loaded.held]
    for name in tiles:
        if (weights / f"{name}.pt").exists():
            continue
        box = EMBEDDED.box(name)

        def validate(network: TileNet, name: str = name, box: Any = box) -> float:
            model = _OneNetwork(network, loaded)
            pairs = [(model.predict(name, i[box]), t[box]) for i, t in zip(images, truth, strict=True)]
            return float(np.mean([mean_dice(a, b) for a, b in pairs])) if pairs else np.nan

        sampler.tiles = (name,)
        start = load_compact(weights / POOLED, COMPACT_ARCHITECTURE)
        log.info("%s: pooled network has Dice %.3f", name, validate(start))
        folder = out / TILES / name
        seed = loaded.split.seed + 1 + EMBEDDED.names.index(name)
        network = fit(start, sampler, schedule, folder, stage=name, seed=seed, validate=validate)
        save_compact(weights / f"{name}.pt", network.state_dict())
        (folder / CHECKPOINT).unlink(missing_ok=True)
    card = read_card(weights)
    write_card(weights, replace(card, training={**card.training, "tiles": asdict(schedule)}))


def evaluate(cache: Path, out: Path, bids_dir: Path | None = None, derivative: str = "dlmuse") -> Path:
    """Write ``dice.tsv``: Dice of every held-out head and region, on the standard grid and on the scan grid.

    Parameters
    ----------
    cache, out
        As for `pretrain`.
    bids_dir
        Data set with the reference labels on the scan grids; None compares on the standard grid only.
    derivative
        As for `efface.training.slant_data.prepare`.

    Returns
    -------
    Path
        Of the table.
    """
    loaded = _load(cache, out)
    model = CompactWeights(out / WEIGHTS)
    rows = []
    for head in loaded.held:
        probabilities = list(predict(_standard_image(head, loaded), model))
        reference = _reference(bids_dir / "derivatives" / derivative / head.name) if bids_dir else None
        for grid, found, truth in _comparisons(head, probabilities, reference):
            overlaps = compare_labels(found, truth)
            rows += [(head.name, grid, o.level, o.region, f"{o.dice:.4f}") for o in overlaps]
            mean = np.nanmean([o.dice for o in overlaps if o.level == "label"])
            log.info("%s, %s grid: mean Dice %.3f over 132 labels", head.name, grid, mean)
    lines = ["subject\tgrid\tlevel\tregion\tdice", *("\t".join(map(str, row)) for row in rows)]
    path = out / "dice.tsv"
    write_atomically(path, ("\n".join(lines) + "\n").encode(), force=True)
    return path


def _reference(folder: Path) -> tuple[LabelVolume, Grid] | None:
    """BrainCOLOR ids of a head on its scan grid (RAS+), and that grid; None if the folder has none."""
    paths = sorted(folder.rglob("*_dseg.nii.gz"))
    if not paths:
        return None
    stored, affine = load_labels(paths[0])
    image = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
    labels = np.asarray(image.dataobj, dtype=np.int32)
    x, y, z = labels.shape
    return labels, Grid((x, y, z), np.asarray(image.affine, dtype=np.float64))


def _comparisons(
    head: data.TrainingHead, probabilities: list[LabelProbability], reference: tuple[LabelVolume, Grid] | None
) -> Iterator[tuple[str, LabelVolume, LabelVolume]]:
    """Name of a grid, predicted and reference BrainCOLOR ids on it."""
    yield "standard", ids_of(most_probable(probabilities, EMBEDDED.grid.shape)), ids_of(data.halved(head.labels))
    if reference is not None:
        truth, grid = reference
        yield "scan", ids_of(to_scan_grid(probabilities, EMBEDDED.grid, head.to_scan, grid)), truth


def mean_dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean Dice over the labels that occur in at least one of two segmentations, without background.

    Parameters
    ----------
    a, b
        Label indices, same shape.

    Returns
    -------
    float
        NaN if no label occurs.
    """
    joint = np.bincount(a.ravel().astype(np.intp) * CLASSES + b.ravel(), minlength=CLASSES**2).reshape(CLASSES, -1)
    sizes = joint.sum(axis=0) + joint.sum(axis=1)
    there = sizes > 0
    there[0] = False
    return float(np.mean(2 * np.diag(joint)[there] / sizes[there])) if there.any() else np.nan


def _standard_image(head: data.TrainingHead, loaded: Loaded) -> FloatVolume:
    """Intensities of a head on the networks' grid, without augmentation."""
    image = torch.from_numpy(network_image(head, loaded.target, stripped=loaded.split.stripped))
    whole = (slice(0, EMBEDDED.grid.shape[0]), slice(0, EMBEDDED.grid.shape[1]), slice(0, EMBEDDED.grid.shape[2]))
    values, _ = apply(Draw(), image, torch.from_numpy(head.labels), loaded.face, whole)
    result: FloatVolume = values.numpy()
    return result


def _sampler(loaded: Loaded, tiles: tuple[str, ...]) -> Sampler:
    split = loaded.split
    return Sampler(loaded.heads, loaded.target, loaded.prior, loaded.face, tiles, split.amounts, stripped=split.stripped)


def _load(cache: Path, out: Path) -> Loaded:
    split = read_split(out)
    heads = [data.load_head(cache, name) for name in split.train]
    held = [data.load_head(cache, name) for name in split.held]
    prior_path = out / WEIGHTS / LABEL_PRIOR
    prior = load_label_prior(prior_path, EMBEDDED) if prior_path.exists() else data.count_labels(heads)
    face = read_array(cache / "face.npy", what="face probability", expected=data.EXPECTED).astype(np.float32)
    return Loaded(split, heads, held, data.mean_quantiles(heads), prior, torch.from_numpy(face))
