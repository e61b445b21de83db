"""Train the network that finds facial features, and say how well it does on heads it has never seen.

Pre-training on the average head; five-fold cross-validation over heads; and the network that ships,
trained on all. Every step is a function of the seed and its number, and checkpoints are written, so that a run that
was stopped goes on as if it had not been.
"""

import argparse
import csv
import functools
import io
import json
import logging
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from efface.anatomy.landmark_network import CLASSES, LandmarkNet, feature_probabilities
from efface.anatomy.landmarks import find_landmarks
from efface.anatomy.templates import FEATURE_LABELS
from efface.io.atomic import write_atomically
from efface.io.untrusted import refusing
from efface.spatial.resampling import resample
from efface.spatial.types import FloatVolume, Volume
from efface.training.feature_examples import AVERAGE, SIDE, SMALL_SIDE, Head, example, label_centres, prepare

log = logging.getLogger(__name__)

SEED = 20211
WARM_UP = 30
BATCH = 2
"""Examples a step. With one alone, torch takes another convolution that is half as fast."""
POOL = 640
"""Different examples of all heads together; the next time round they come mirrored. One takes a quarter of a step."""
FEATURE_WEIGHT = 3.0
"""Weight of a feature's voxel in the cross-entropy; with 10, a network marked twice the volume of the labels."""
FOLDS = 5
EVERY = 20
"""Steps between checkpoints."""
NEAR_MM = 8.0


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, from when on with examples of full difficulty, and for what share of it with small ones."""

    steps: int
    rate: float
    ramp: int = 1
    small: float = 0.0


PRETRAINING = Schedule(500, 1.5e-3, 300, small=1.0)
"""On the average head alone, whose features are known."""
TRAINING = Schedule(1500, 1e-3, small=0.85)


@dataclass
class Score:
    """What became of the features of one held-out head.

    Attributes
    ----------
    head, fold
        Which head, and the fold that had not seen it.
    wanted
        By feature: how many parts the head has; less than usual where the field of view ends before.
    found
        By feature: how many of its parts have a component whose centre is within `NEAR_MM`.
    count
        By feature: how many components there are.
    worst_mm
        By feature: largest distance from a part to the nearest component's centre.
    confusion
        Voxels on the network's grid, rows reference, columns predicted; background first.
    """

    head: str
    fold: int
    wanted: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    worst_mm: dict[str, float] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)

    def right(self, feature: str) -> bool:
        """All parts near, and no others."""
        return self.found[feature] == self.count[feature] == self.wanted[feature]


def train(
    heads: Sequence[Head], folder: Path, schedule: Schedule, start: LandmarkNet | None = None, seed: int = SEED
) -> LandmarkNet:
    """Train a network, going on from the checkpoint in `folder` if there is one.

    Parameters
    ----------
    heads
        Labelled heads.
    folder
        Where ``checkpoint.pt`` and ``log.csv`` (step, loss, Dice of each feature) go.
    schedule
        Steps, of `BATCH` examples each, and rates.
    start
        The network to start from; None for random weights.
    seed
        Decides the weights it starts from, and every example.

    Raises
    ------
    InputError
        If there is a checkpoint that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    torch.manual_seed(seed)
    network = LandmarkNet()
    if start is not None:
        network.load_state_dict(start.state_dict())
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # a third faster
    optimiser = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=1e-4)
    first, steps = _resumed(checkpoint, network, optimiser), schedule.steps
    network.train()
    started, sums = time.perf_counter(), np.zeros(CLASSES)
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, schedule)
        image, target = _batch(heads, seed, step, schedule)
        with torch.autocast("cpu", torch.bfloat16, enabled=quick_bfloat16()):
            logits = network(image)
        loss, dice = _loss(logits.float(), target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        sums += [float(loss.detach()), *dice.tolist()]
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            _save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, checkpoint)
            with (folder / "log.csv").open("a") as table:
                csv.writer(table).writerow([step + 1, *np.round(sums / (step % EVERY + 1), 4)])
            seconds = (time.perf_counter() - started) / (step + 1 - first)
            log.info("%s step %d loss %.3f, %.2f s a step", folder.name, step + 1, sums[0] / (step % EVERY + 1), seconds)
            sums[:] = 0
    network.eval()
    return network


def _batch(heads: Sequence[Head], seed: int, step: int, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Intensities (n, 1, x, y, z) and labels (n, x, y, z) of a step; every head has its turn before one comes again."""
    difficulty = round(min(1.0, 0.25 + 0.75 * step / schedule.ramp), 2)
    side = SMALL_SIDE if step < schedule.small * schedule.steps else SIDE
    variations = max(1, POOL // len(heads))
    made = []
    for number in range(BATCH * step, BATCH * (step + 1)):
        turn, place = divmod(number, len(heads))
        head = heads[np.random.default_rng((seed, turn)).permutation(len(heads))[place]]
        image, target = _variation(head, (seed, zlib.crc32(head.name.encode()), turn % variations), difficulty, side)
        made.append((image[::-1], target[::-1]) if turn // variations % 2 else (image, target))
    intensities = torch.from_numpy(np.stack([image for image, _ in made]))[:, None]
    labels = torch.from_numpy(np.stack([target for _, target in made]).astype(np.int64))
    return intensities.to(memory_format=torch.channels_last_3d), labels


@functools.lru_cache(maxsize=1200)
def _variation(head: Head, seed: tuple[int, ...], difficulty: float, side: int) -> tuple[FloatVolume, NDArray[np.uint8]]:
    """An example, kept: folds share heads, and with them their examples."""
    image, target = example(head, seed, difficulty, side)
    return image, target.astype(np.uint8)


def quick_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself: without, a step took twenty times as long as in float32."""
    able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not tell: float32
    return any(able.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def _rate(step: int, schedule: Schedule) -> float:
    """Learning rate: a short warm-up, then a cosine to almost nothing."""
    if step < WARM_UP:
        return schedule.rate * (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, schedule.steps - WARM_UP)
    return schedule.rate * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * done))))


def _loss(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Soft Dice of the features plus weighted cross-entropy, and the Dice of each feature.

    Dice alone has no gradient left for a feature that is nowhere predicted.
    """
    probabilities = torch.softmax(logits, dim=1)[:, 1:]
    truth = torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1)[:, 1:].float()
    both = (probabilities * truth).sum(dim=(0, 2, 3, 4))
    total = probabilities.sum(dim=(0, 2, 3, 4)) + truth.sum(dim=(0, 2, 3, 4))
    dice = (2 * both + 1) / (total + 1)
    weights = torch.tensor([1.0, *[FEATURE_WEIGHT] * (CLASSES - 1)])
    entropy = torch.nn.functional.cross_entropy(logits, target, weight=weights)
    return 1 - dice.mean() + entropy, dice.detach()


def evaluate(network: LandmarkNet, head: Head, fold: int) -> Score:
    """Look for the features of a head as it is, and compare with its labels."""
    volume, labels = Volume(head.data, head.affine), head.features
    found = find_landmarks(volume, network)
    score = Score(head.name, fold)
    for feature in FEATURE_LABELS:
        centres = np.array([f.centre_mm for f in found if f.name == feature]).reshape(-1, 3)
        wanted = label_centres(head, feature)
        distances = [float(np.linalg.norm(centres - at, axis=1).min()) if len(centres) else np.inf for at in wanted]
        score.wanted[feature] = len(wanted)
        score.found[feature] = sum(d <= NEAR_MM for d in distances)
        score.count[feature] = len(centres)
        score.worst_mm[feature] = round(max(distances, default=0.0), 1)
    probabilities, grid = feature_probabilities(volume, network)
    reference = np.stack(
        [resample(Volume((labels == n).astype(np.float32), volume.affine), grid) for n in range(1, CLASSES)]
    )
    truth = np.where(reference.max(axis=0) > 0.5, 1 + reference.argmax(axis=0), 0)
    pairs = truth.ravel() * CLASSES + probabilities.argmax(axis=0).ravel()
    score.confusion = np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES).tolist()
    return score


def folds(heads: Sequence[Head], count: int = FOLDS) -> list[list[Head]]:
    """Heads held out by each fold; the average head is always trained on."""
    people = [head for head in heads if head.name != AVERAGE]
    order = np.random.default_rng(SEED).permutation(len(people))
    return [[people[i] for i in sorted(order[fold::count])] for fold in range(count)]


def cross_validate(
    heads: Sequence[Head], folder: Path, start: LandmarkNet, schedule: Schedule = TRAINING, count: int = FOLDS
) -> list[Score]:
    """Train without each fold's heads, and score those."""
    scores: list[Score] = []
    for fold, held_out in enumerate(folds(heads, count)):
        network = train([h for h in heads if h not in held_out], folder / f"fold-{fold}", schedule, start)
        scores += [evaluate(network, head, fold) for head in held_out]
        (folder / "scores.json").write_text(json.dumps([asdict(s) for s in scores], indent=1))
        log.info("%s", table(scores))
    return scores


def table(scores: Sequence[Score]) -> str:
    """The share of heads whose feature was found, and the voxel confusion, in words for people."""
    lines = ["feature  heads right  worst centre (mm)"]
    for feature in FEATURE_LABELS:
        right = sum(s.right(feature) for s in scores)
        lines.append(
            f"{feature:8} {right}/{len(scores)} = {right / len(scores):.1%}  {max(s.worst_mm[feature] for s in scores)}"
        )
    every = sum(all(s.right(f) for f in FEATURE_LABELS) for s in scores)
    lines.append(f"all      {every}/{len(scores)} = {every / len(scores):.1%}")
    confusion = np.sum([s.confusion for s in scores], axis=0)
    names = ["none", *FEATURE_LABELS]
    lines.append("rows reference, columns predicted, 5 mm voxels: " + " ".join(names))
    lines += [f"{name:6} " + " ".join(f"{n:8d}" for n in row) for name, row in zip(names, confusion, strict=True)]
    return "\n".join(lines)


def _resumed(checkpoint: Path, network: LandmarkNet, optimiser: torch.optim.Optimizer) -> int:
    """Take up the state of a checkpoint, and return its step; 0 where there is none."""
    if not checkpoint.is_file():
        return 0
    with refusing(f"checkpoint {checkpoint}", "one of `efface train defacer`: remove it to begin again"):
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])


def _save(state: dict[str, object], path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue(), force=True)


def save_weights(network: LandmarkNet, path: Path) -> None:
    """Write the weights in half precision."""
    _save({name: tensor.half() for name, tensor in network.state_dict().items()}, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="efface train defacer", description=__doc__)
    parser.add_argument("bids_dir", type=Path, help="whole heads with faces, T1w, BIDS")
    parser.add_argument("work_dir", type=Path, help="labelled heads, checkpoints, logs and scores; a run goes on here")
    parser.add_argument("--weights", type=Path, help="write the network trained on all heads here")
    parser.add_argument("--folds", type=int, default=FOLDS, help="0 leaves the cross-validation out")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    heads = prepare(options.bids_dir, options.work_dir / "heads")
    average = [head for head in heads if head.name == AVERAGE]
    start = train(average, options.work_dir / "average", PRETRAINING)
    if options.weights:
        save_weights(train(heads, options.work_dir / "all", TRAINING, start), options.weights)
    if options.folds:
        cross_validate(heads, options.work_dir, start, count=options.folds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
