"""Random damage to every file of weights, arrays and labels that a user can give; what the loaders make of it."""

import functools
import gzip
import json
import random
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

import phantom
import state_dicts
from efface.errors import InputError
from efface.io.label_images import load_labels, load_mask
from efface.io.scan import load_scan
from efface.segmentation.slant.checkpoints import (
    ModelCard,
    PublishedWeights,
    load_compact,
    read_card,
    save_compact,
    write_card,
)
from efface.segmentation.slant.label_prior import build_label_prior, load_label_prior
from efface.segmentation.slant.millimetre_unet import MillimetreUNet
from efface.segmentation.slant.unet import CLASSES, Architecture, TileNet
from efface.segmentation.slant.whole_weights import load_whole_brain, read_whole_card, save_whole_brain
from slant_weights import SMALL, TINY_COMPACT, official_state

KINDS = (
    "published network, zip", "published network, stream", "our network", "network for the whole brain", "label prior",
    "card", "card of the network for the whole brain", "labels, NIfTI", "labels, MGH", "brain mask",
)  # fmt: skip
LEAST = Architecture((1, 2, 2, 2, 2, 2, 2, 2), (2, 2, 2, 2, CLASSES, 2, 2, 2, CLASSES), published=True)
"""The published layers, as narrow as can be: damage hits names, shapes and directories more often than numbers."""

NARROW = (2, 2, 2, 2, 2)
"""Channels of the network for the whole brain, as few as can be."""


@dataclass
class Found:
    """What happened to the files.

    Attributes
    ----------
    read, refused
        How many of each kind were read, and refused in one line.
    broken
        Kind, number, and what was raised or returned instead.
    slowest_s
        Of one file.
    """

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, int, str]] = field(default_factory=list)
    slowest_s: float = 0.0


def fuzz(count: int, seed: int, folder: Path) -> Found:
    """Damage good files at random, and load each; the seed decides the damage."""
    rng, found, kinds = random.Random(seed), Found(), targets(folder)
    for number in range(count):
        name = list(kinds)[number % len(kinds)]
        path, raw, load = kinds[name]
        changed = state_dicts.damaged(raw, rng)
        path.write_bytes(gzip.compress(changed, 1) if path.suffix in (".gz", ".mgz") and rng.random() < 0.9 else changed)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                load(path)
        except InputError as error:
            found.refused[name] += 1
            if not str(error).isprintable() and "\\" not in str(error):
                found.broken.append((name, number, repr(str(error))))
        except BaseException:  # noqa: BLE001 - this is what is looked for
            found.broken.append((name, number, traceback.format_exc()))
        else:
            found.read[name] += 1
        found.slowest_s = max(found.slowest_s, time.perf_counter() - start)
    return found


def targets(folder: Path) -> dict[str, tuple[Path, bytes, Callable[[Path], None]]]:
    """By kind: the path of a file, its good bytes, and what loads it and checks what was loaded."""
    torch.manual_seed(3)
    state = official_state(LEAST)
    counts = np.zeros((CLASSES, *(n // 2 for n in SMALL.grid.shape)))
    counts[0], counts[7, 2:5, 2:5, 2:5] = 1, 4
    save_compact(folder / "good.pt", TileNet(TINY_COMPACT).state_dict())
    (folder / "card").mkdir(exist_ok=True)
    for name in ("whole", "whole card"):
        (folder / name).mkdir(exist_ok=True)
    save_whole_brain(folder / "whole", MillimetreUNet(NARROW).state_dict(), {"fold": 3})
    quantiles = tuple(np.linspace(-2.5, 4.5, 501))
    write_card(folder, ModelCard(TINY_COMPACT, quantiles, stripped=False, training={"heads": 0}))
    scan_path = phantom.write(folder / "scan.nii.gz", "LPS").path
    scan = load_scan(scan_path)
    labels = np.where(phantom.head().brain, 44, 0).astype(np.uint8)
    scan.save_like(labels, folder / "labels.nii.gz")
    image = nib.load(folder / "labels.nii.gz")
    mgh = nib.MGHImage(np.asarray(image.dataobj).astype(np.int16), image.affine)
    made = {
        "published network, zip": (folder / "1.pth", state_dicts.saved(state), _published),
        "published network, stream": (folder / "2.pth", state_dicts.saved(state, legacy=True), _published),
        "our network": (folder / "3.pt", (folder / "good.pt").read_bytes(), _compact),
        "network for the whole brain": (folder / "8.pt", (folder / "whole" / "whole_brain.pt").read_bytes(), _whole),
        "label prior": (folder / "4.npz", build_label_prior(counts, SMALL).to_bytes(), _prior),
        "card": (folder / "card" / "card.json", (folder / "card.json").read_bytes(), _card),
        "card of the network for the whole brain": (
            folder / "whole card" / "card.json",
            (folder / "whole" / "card.json").read_bytes(),
            _whole_card,
        ),
        "labels, NIfTI": (folder / "5.nii.gz", image.to_bytes(), _labels),
        "labels, MGH": (folder / "6.mgz", mgh.to_bytes(), _labels),
        "brain mask": (folder / "7.nii.gz", image.to_bytes(), functools.partial(_mask, scan)),
    }
    assert tuple(made) == KINDS
    return made


def _published(path: Path) -> None:
    weights = PublishedWeights.__new__(PublishedWeights)
    weights.files, weights.architecture = {"1_1_1": path}, LEAST
    _check(weights.network("1_1_1"))


def _compact(path: Path) -> None:
    _check(load_compact(path, TINY_COMPACT))


def _whole(path: Path) -> None:
    network = load_whole_brain(path, NARROW)
    for name, tensor in network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.isfinite(tensor).all()


def _whole_card(path: Path) -> None:
    widths, training = read_whole_card(path.parent)
    with torch.device("meta"):
        MillimetreUNet(widths)
    json.dumps(training)


def _prior(path: Path) -> None:
    prior = load_label_prior(path, SMALL)
    assert prior.levels.shape == (CLASSES, *(n // 2 for n in SMALL.grid.shape))
    assert all(torch.isfinite(block.log_prior).all() for _, block in prior.blocks)


def _card(path: Path) -> None:
    card = read_card(path.parent)
    with torch.device("meta"):
        TileNet(card.architecture)
    assert len(card.quantiles) in (0, 501)
    json.dumps(card.training)


def _labels(path: Path) -> None:
    labels, affine = load_labels(path)
    assert labels.dtype == np.int32
    assert labels.min() >= 0
    assert np.isfinite(affine).all()


def _mask(scan, path: Path) -> None:
    assert load_mask(path, scan).any()


def _check(network: torch.nn.Module) -> None:
    for tensor in network.state_dict().values():
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()
