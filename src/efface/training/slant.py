"""Train the compact networks of SLANT: prepare the data, one network on all tiles, 27 from it, and their accuracy.

Run, in this order, each as often as it takes; what is done is kept, and what was killed goes on::

    efface train slant prepare BIDS_DIR CACHE
    efface train slant prepare OTHER_HEADS CACHE --derivative atlas --unproven
    efface train slant pretrain CACHE START --fold start
    efface train slant pretrain CACHE OUT --fold 0 --start START
    efface train slant specialise CACHE OUT
    efface train slant evaluate CACHE OUT --bids BIDS_DIR

``START`` is a network trained on heads that no fold holds out: those whose labels are no reference (the atlas, and
heads that the atlas segmenter labelled), so that every fold and the final training can go on from it. With
``--fold all`` nothing is held out: those are the weights to ship. ``OUT/weights`` is what
`efface.segmentation.slant.pipeline.segment_slant` takes as `compact`.
"""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from efface.errors import InputError
from efface.io.atomic import write_atomically
from efface.io.scan import load_labels
from efface.metrics.dice import compare_labels
from efface.segmentation.labels import LABEL_IDS
from efface.segmentation.slant.checkpoints import (
    POOLED,
    CompactWeights,
    ModelCard,
    load_compact,
    predict_compact,
    read_card,
    save_compact,
    write_card,
)
from efface.segmentation.slant.label_prior import LabelPrior, load_label_prior
from efface.segmentation.slant.label_probabilities import most_probable, to_scan_grid
from efface.segmentation.slant.pipeline import predict, segment_standard
from efface.segmentation.slant.tiling import EMBEDDED
from efface.segmentation.slant.unet import CLASSES, COMPACT_ARCHITECTURE, TileNet
from efface.spatial.types import FloatVolume, Grid
from efface.training import slant_data as data
from efface.training.augment import Amounts, Draw, apply
from efface.training.slant_fit import Sampler, Schedule, fit, seen

log = logging.getLogger(__name__)

PRETRAIN_STEPS, SPECIALISE_STEPS = 450, 12
SPECIALISE_RATE = 4e-4
START = "start"
LEARNING_AUGMENTATION = Amounts()


@dataclass(frozen=True)
class Split:
    """Which heads are for what, and how; kept in ``split.json`` so that later stages agree.

    Attributes
    ----------
    fold
        0 to 4; ``all``; or ``start``, the heads without a reference only.
    train, held
        Names of heads.
    stripped
        Whether the networks see the brain only.
    seed
        Of everything random.
    faceless
        Share of examples whose face is taken away.
    """

    fold: str
    train: tuple[str, ...]
    held: tuple[str, ...]
    stripped: bool
    seed: int
    faceless: float = LEARNING_AUGMENTATION.face

    @property
    def amounts(self) -> Amounts:
        """How much the heads are changed."""
        return replace(LEARNING_AUGMENTATION, face=self.faceless)


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a stage works with."""

    split: Split
    heads: list[data.TrainingHead]
    held: list[data.TrainingHead]
    target: NDArray[np.float64]
    prior: LabelPrior
    face: torch.Tensor


class _OneNetwork:
    """A network in memory for every tile, behind the interface of weights on disk."""

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
    """Train one network on all tiles; what is held out, the first few heads of it, is validated on once an epoch.

    Parameters
    ----------
    cache
        As `efface.training.slant_data.prepare` filled it.
    out
        Folder of this training.
    split
        Which heads, and how.
    schedule
        How long and how fast.
    start
        Folder of a finished training whose pooled network this one goes on from.
    validation_heads
        How many of the heads held out are validated on.

    Raises
    ------
    InputError
        If what it should start from is missing, or was trained on a head that is held out here.
    """
    _write_split(out, split)
    network = TileNet() if start is None else _started(start, split)
    loaded = _load(cache, out)
    weights = out / "weights"
    if (weights / f"{POOLED}.pt").exists():
        log.info("pretraining is done")
        return
    torch.manual_seed(split.seed)
    watched = loaded.held[:validation_heads]
    truth = [data.halved(head.labels) for head in watched]
    images = [_standard_image(head, loaded) for head in watched]

    def validate(network: TileNet) -> float:
        model = _OneNetwork(network, loaded)
        found = [segment_standard(image, model) for image in images]
        return float(np.mean([mean_dice(a, b) for a, b in zip(found, truth, strict=True)])) if found else np.nan

    sampler = _sampler(loaded, EMBEDDED.names)
    network = fit(network, sampler, schedule, out / POOLED, stage=POOLED, seed=split.seed, validate=validate)
    training = {**asdict(split), "pretraining": asdict(schedule), "augmentation": asdict(split.amounts)}
    if start is not None:
        training["start"] = read_card(start / "weights").training
    weights.mkdir(exist_ok=True)
    write_card(weights, ModelCard(COMPACT_ARCHITECTURE, tuple(loaded.target.tolist()), split.stripped, training))
    write_atomically(weights / "label_prior.npz", loaded.prior.to_bytes(), force=True)
    save_compact(weights / f"{POOLED}.pt", network.state_dict())


def _started(folder: Path, split: Split) -> TileNet:
    """The pooled network of an earlier training."""
    earlier = _read_split(folder)
    leaked = sorted(set(earlier.train) & set(split.held))
    if leaked:
        msg = f"{folder} was trained on {', '.join(leaked)}, held out in fold {split.fold}: start from another training"
        raise InputError(msg)
    return load_compact(folder / "weights" / f"{POOLED}.pt", COMPACT_ARCHITECTURE)


def specialise(cache: Path, out: Path, schedule: Schedule, tiles: Sequence[str] = EMBEDDED.names) -> None:
    """Train a network for each tile, from the pooled one; tiles that have theirs are left alone.

    Raises
    ------
    InputError
        If the pooled network is not there.
    """
    weights = out / "weights"
    if not (weights / f"{POOLED}.pt").exists():
        msg = f"no pooled network in {weights}: run `python -m efface.training.slant pretrain` to its end first"
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
        start = load_compact(weights / f"{POOLED}.pt", COMPACT_ARCHITECTURE)
        log.info("%s: pooled network has Dice %.3f", name, validate(start))
        folder = out / "tiles" / name
        seed = loaded.split.seed + 1 + EMBEDDED.names.index(name)
        network = fit(start, sampler, schedule, folder, stage=name, seed=seed, validate=validate)
        save_compact(weights / f"{name}.pt", network.state_dict())
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    card = read_card(weights)
    write_card(
        weights, ModelCard(card.architecture, card.quantiles, card.stripped, {**card.training, "tiles": asdict(schedule)})
    )


def evaluate(cache: Path, out: Path, bids_dir: Path | None = None, derivative: str = "dlmuse") -> Path:
    """Write ``dice.tsv``: Dice of every held-out head and region, on the standard grid and on the scan's own.

    Parameters
    ----------
    cache, out
        As in training.
    bids_dir
        Where the labels on the scans' own grids are; None compares on the standard grid only.
    derivative
        As for `efface.training.slant_data.prepare`.
    """
    loaded = _load(cache, out)
    model = CompactWeights(out / "weights")
    ids = np.array([0, *LABEL_IDS], dtype=np.int32)
    rows = []
    for head in loaded.held:
        image = _standard_image(head, loaded)
        probabilities = list(predict(image, model))
        pairs = {"standard": (ids[most_probable(probabilities, EMBEDDED.grid.shape)], ids[data.halved(head.labels)])}
        paths = sorted((bids_dir / "derivatives" / derivative / head.name).rglob("*_dseg.nii.gz")) if bids_dir else []
        for path in paths[:1]:
            stored, affine = load_labels(path)
            reference = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
            truth = np.asarray(reference.dataobj, dtype=np.int32)
            x, y, z = truth.shape
            scan = Grid((x, y, z), np.asarray(reference.affine, dtype=np.float64))
            pairs["scan"] = (ids[to_scan_grid(probabilities, EMBEDDED.grid, head.to_scan, scan)], truth)
        for grid, (a, b) in pairs.items():
            overlaps = compare_labels(a, b)
            rows += [(head.name, grid, o.level, o.region, o.dice) for o in overlaps]
            mean = np.nanmean([o.dice for o in overlaps if o.level == "label"])
            log.info("%s, %s grid: mean Dice %.3f over 132 labels", head.name, grid, mean)
    lines = ["subject\tgrid\tlevel\tregion\tdice", *("\t".join(map(str, (*r[:4], f"{r[4]:.4f}"))) for r in rows)]
    path = out / "dice.tsv"
    write_atomically(path, ("\n".join(lines) + "\n").encode(), force=True)
    return path


def mean_dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean Dice over the labels that occur in either of two arrays of label indices; background does not count."""
    joint = np.bincount(a.ravel().astype(np.intp) * CLASSES + b.ravel(), minlength=CLASSES**2).reshape(CLASSES, -1)
    sizes = joint.sum(axis=0) + joint.sum(axis=1)
    there = sizes > 0
    there[0] = False
    return float(np.mean(2 * np.diag(joint)[there] / sizes[there])) if there.any() else np.nan


def _standard_image(head: data.TrainingHead, loaded: Loaded) -> FloatVolume:
    """A head on the networks' grid, nothing changed."""
    image = torch.from_numpy(seen(head, loaded.target, stripped=loaded.split.stripped))
    whole = (slice(0, EMBEDDED.grid.shape[0]), slice(0, EMBEDDED.grid.shape[1]), slice(0, EMBEDDED.grid.shape[2]))
    values, _ = apply(Draw(), image, torch.from_numpy(head.labels), loaded.face, whole)
    result: FloatVolume = values.numpy()
    return result


def _sampler(loaded: Loaded, tiles: tuple[str, ...]) -> Sampler:
    return Sampler(
        loaded.heads,
        loaded.target,
        loaded.prior,
        loaded.face,
        tiles,
        loaded.split.amounts,
        stripped=loaded.split.stripped,
    )


def _load(cache: Path, out: Path) -> Loaded:
    split = _read_split(out)
    heads = [data.load_head(cache, name) for name in split.train]
    held = [data.load_head(cache, name) for name in split.held]
    prior_path = out / "weights" / "label_prior.npz"
    prior = load_label_prior(prior_path, EMBEDDED) if prior_path.exists() else data.count_labels(heads)
    face = torch.from_numpy(np.load(cache / "face.npy").astype(np.float32))
    return Loaded(split, heads, held, data.mean_quantiles(heads), prior, face)


def make_split(
    cache: Path, fold: str, *, stripped: bool, seed: int, faceless: float = LEARNING_AUGMENTATION.face
) -> Split:
    """Say which heads of a cache are for what.

    Raises
    ------
    InputError
        If the cache is empty or there is no such fold.
    """
    names = data.cached_heads(cache)
    if not names:
        msg = f"no heads in {cache}: run `python -m efface.training.slant prepare` first"
        raise InputError(msg)
    splits = {str(k): pair for k, pair in enumerate(data.folds(names))} | {"all": (names, [])}
    splits[START] = ([name for name in names if data.without_reference(name)], [])
    if fold not in splits:
        msg = f"there is no fold {fold!r}: expected one of {', '.join(splits)}"
        raise InputError(msg)
    train, held = splits[fold]
    return Split(fold, tuple(train), tuple(held), stripped, seed, faceless)


def _write_split(out: Path, split: Split) -> None:
    out.mkdir(parents=True, exist_ok=True)
    path = out / "split.json"
    if path.exists() and _read_split(out) != split:
        msg = f"{out} holds a training run with another split: choose another folder, or the settings in {path}"
        raise InputError(msg)
    write_atomically(path, json.dumps(asdict(split), indent=1).encode(), force=True)


def _read_split(out: Path) -> Split:
    path = out / "split.json"
    if not path.is_file():
        msg = f"{out} holds no training run (no split.json): run `python -m efface.training.slant pretrain` first"
        raise InputError(msg)
    raw: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Split(raw["fold"], tuple(raw["train"]), tuple(raw["held"]), raw["stripped"], raw["seed"], raw["faceless"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage from the command line."""
    parser = argparse.ArgumentParser(prog="efface train slant", description="Train the compact networks of SLANT.")
    stages = parser.add_subparsers(dest="stage", required=True)
    made = {name: stages.add_parser(name) for name in ("prepare", "pretrain", "specialise", "evaluate")}
    made["prepare"].add_argument("bids_dir", type=Path)
    made["prepare"].add_argument("--derivative", default="dlmuse")
    made["prepare"].add_argument("--no-bias-correction", dest="bias", action="store_false")
    for name, stage in made.items():
        stage.add_argument("cache", type=Path)
        if name != "prepare":
            stage.add_argument("out", type=Path)
    made["prepare"].add_argument("--unproven", action="store_true", help="the labels are no reference: never hold out")
    made["pretrain"].add_argument("--fold", default="all", help="0 to 4, start, or all (default)")
    made["pretrain"].add_argument("--start", type=Path, metavar="OUT", help="go on from this training's network")
    made["pretrain"].add_argument("--no-face-removal", action="store_true", help="never take a face away in training")
    made["pretrain"].add_argument("--stripped", action="store_true", help="show the networks the brain only")
    made["pretrain"].add_argument("--seed", type=int, default=1)
    made["pretrain"].add_argument("--steps", type=int, default=PRETRAIN_STEPS)
    made["specialise"].add_argument("--steps", type=int, default=SPECIALISE_STEPS)
    made["specialise"].add_argument("--tiles", nargs="+", default=EMBEDDED.names, choices=EMBEDDED.names)
    made["evaluate"].add_argument("--bids", type=Path)
    made["evaluate"].add_argument("--derivative", default="dlmuse")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.stage == "prepare":
        what = {"derivative": options.derivative, "bias": options.bias, "unproven": options.unproven}
        data.prepare(options.bids_dir, options.cache, **what)
    elif options.stage == "pretrain":
        faceless = 0.0 if options.no_face_removal else LEARNING_AUGMENTATION.face
        split = make_split(options.cache, options.fold, stripped=options.stripped, seed=options.seed, faceless=faceless)
        pretrain(options.cache, options.out, split, Schedule(options.steps), options.start)
    elif options.stage == "specialise":
        steps = options.steps
        schedule = Schedule(steps, rate=SPECIALISE_RATE, warmup=10, epoch=steps, memory=0.99)
        specialise(options.cache, options.out, schedule, tuple(options.tiles))
    else:
        evaluate(options.cache, options.out, options.bids, options.derivative)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
