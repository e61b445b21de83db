"""The loop that trains a network of SLANT: deterministic, and resumable after being killed at any moment.

What a step sees depends on the seed and the step's number only, so a run that goes on from its checkpoint ends with
the same weights as one that was never interrupted (with the same number of threads).

References
----------
Milletari et al. "V-Net: fully convolutional neural networks for volumetric medical image segmentation." 3DV 2016
(soft Dice). Loshchilov, Hutter "Decoupled weight decay regularization." ICLR 2019.
"""

import io
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from efface.errors import InputError
from efface.io.atomic import write_atomically
from efface.segmentation.slant.label_prior import BlockPrior, LabelPrior
from efface.segmentation.slant.preprocessing import CLIP
from efface.segmentation.slant.unet import CLASSES, TileNet
from efface.training.augment import Amounts, apply, draw
from efface.training.slant_data import ATLAS, TrainingHead, image_of

log = logging.getLogger(__name__)

COLUMNS = ("stage", "step", "loss", "dice", "rate", "seconds")


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes
    ----------
    steps
        Of one tile each.
    rate
        Largest learning rate; it rises over the first `warmup` steps and falls to zero as a cosine.
    warmup
        Steps.
    epoch
        Steps between lines of the log, and validations.
    voxels
        How many of a tile's voxels the loss looks at.
    decay
        Weight decay.
    memory
        Of the running mean of weights, which is what is kept in the end.
    checkpoint_s
        Seconds between checkpoints.
    """

    steps: int
    rate: float = 2e-3
    warmup: int = 100
    epoch: int = 250
    voxels: int = 20_000
    decay: float = 1e-4
    memory: float = 0.998
    checkpoint_s: float = 45.0

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        return self.rate * up * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class Sampler:
    """Augmented tiles of training heads.

    Parameters
    ----------
    heads
        To draw from.
    target
        Quantiles their intensities are fitted to.
    prior
        Label frequencies of the same heads.
    face
        Probability of being face, on the networks' grid.
    tiles
        Names to draw from.
    amounts
        Of augmentation.
    stripped
        Whether only the brain is seen.
    atlas_share
        How often the atlas is drawn, where it is among the heads.
    """

    def __init__(
        self,
        heads: list[TrainingHead],
        target: Any,
        prior: LabelPrior,
        face: torch.Tensor,
        tiles: tuple[str, ...],
        amounts: Amounts,
        *,
        stripped: bool = False,
        atlas_share: float = 0.04,
    ) -> None:
        self.prior, self.face, self.tiles, self.amounts = prior, face, tiles, amounts
        self.images = [torch.from_numpy(seen(head, target, stripped=stripped)) for head in heads]
        self.labels = [torch.from_numpy(head.labels) for head in heads]
        weight = np.array([atlas_share * len(heads) if head.name == ATLAS else 1.0 for head in heads])
        self.odds = weight / weight.sum()
        self._places: dict[str, BlockPrior] = {}

    def tile_prior(self, name: str) -> BlockPrior:
        """Label frequencies of a tile, its logarithms in half precision while they wait."""
        if name not in self._places:
            made = self.prior.tile(name)
            self._places[name] = BlockPrior(made.voxels, made.channels, made.log_prior.half())
        return self._places[name]

    def sample(self, seed: int, step: int, voxels: int) -> tuple[torch.Tensor, BlockPrior, torch.Tensor]:
        """Tile (1, 1, x, y, z), the prior of at most so many of its voxels, and their labels (n,), of one step."""
        rng = np.random.default_rng((seed, step))
        head = int(rng.choice(len(self.images), p=self.odds))
        name = self.tiles[int(rng.integers(len(self.tiles)))]
        what = draw(rng, self.amounts)
        image, labels = apply(what, self.images[head], self.labels[head], self.face, self.prior.geometry.box(name))
        prior = self.tile_prior(name)
        chosen = np.sort(rng.permutation(len(prior.voxels))[:voxels])
        part = torch.from_numpy(chosen)
        at = prior.voxels[part]
        return image[None, None], BlockPrior(at, prior.channels, prior.log_prior[part].float()), labels.flatten()[at]


def seen(head: TrainingHead, target: Any, *, stripped: bool) -> Any:
    """What a network sees of a head on the fine grid, float32."""
    image = image_of(head, target)
    return np.where(head.brain, image, np.float32(CLIP[0])) if stripped else image


def loss_of(scores: torch.Tensor, labels: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, plus one minus the mean soft Dice of the labels that are there.

    Parameters
    ----------
    scores
        Shape (n, k).
    labels
        Label indices, shape (n,); those that are not in `channels` count as background.
    channels
        Label indices of the columns, the first is background.
    """
    row = torch.zeros(CLASSES, dtype=torch.int64)
    row[channels] = torch.arange(len(channels))
    wanted = row[labels]
    log_share = torch.log_softmax(scores, dim=1)
    entropy = torch.nn.functional.nll_loss(log_share, wanted)
    share = log_share.exp()
    correct = share.gather(1, wanted[:, None])[:, 0]
    size = torch.zeros(len(channels)).index_add(0, wanted, torch.ones(len(wanted)))
    both = torch.zeros(len(channels)).index_add(0, wanted, correct)
    present = size > 0
    present[0] = False
    if not bool(present.any()):
        return entropy
    dice = 2 * both[present] / (share.sum(dim=0)[present] + size[present])
    return entropy + 1 - dice.mean()


def fit(
    network: TileNet,
    sampler: Sampler,
    schedule: Schedule,
    folder: Path,
    *,
    stage: str,
    seed: int,
    validate: Callable[[TileNet], float] | None = None,
    stop_after: int | None = None,
) -> TileNet:
    """Train a network, from its checkpoint where there is one.

    Parameters
    ----------
    network
        Where to start.
    sampler
        Gives the tiles.
    schedule
        How long and how fast.
    folder
        For ``checkpoint.pt`` and ``log.tsv``.
    stage
        Name for the log, and part of what a checkpoint must agree on.
    seed
        Of everything random.
    validate
        Gives the Dice of the averaged network; called once an epoch.
    stop_after
        Return, as if killed after a checkpoint, when so many steps are done.

    Returns
    -------
    TileNet
        With the running mean of the weights.

    Raises
    ------
    InputError
        If the checkpoint is of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "checkpoint.pt"
    recipe = {"stage": stage, "seed": seed, "schedule": asdict(schedule), "amounts": asdict(sampler.amounts)}
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    step, losses, rows, spent = 0, [], [], 0.0
    if path.exists():
        saved = _resume(path, recipe)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, losses, rows, spent = (saved[k] for k in ("average", "step", "losses", "rows", "seconds"))
        log.info("%s: goes on after step %d of %d", stage, step, schedule.steps)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network.train()
    started = last = time.monotonic()
    while step < min(schedule.steps, stop_after if stop_after is not None else schedule.steps):
        losses.append(_step(network, optimizer, sampler, schedule, seed, step))
        _average(average, network.state_dict(), min(schedule.memory, (1 + step) / (10 + step)))
        step += 1
        if step % schedule.epoch == 0 or step == schedule.steps:
            dice = validate(averaged(network, average)) if validate else math.nan
            now = spent + time.monotonic() - started
            rows.append([stage, step, float(np.mean(losses)), dice, schedule.rate_at(step - 1), now])
            losses = []
            _write_log(folder / "log.tsv", rows)
            log.info("%s: step %d, loss %.3f, Dice %.3f, %.0f s", *rows[-1][:4], now)
            last = -math.inf
        if time.monotonic() - last > schedule.checkpoint_s or step == stop_after:
            state: Mapping[str, Any] = {
                "recipe": recipe,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step,
                "losses": losses,
                "rows": rows,
                "seconds": spent + time.monotonic() - started,
            }
            buffer = io.BytesIO()
            torch.save(state, buffer)
            write_atomically(path, buffer.getvalue(), force=True)
            last = time.monotonic()
    return averaged(network, average)


def _step(
    network: TileNet, optimizer: torch.optim.Optimizer, sampler: Sampler, schedule: Schedule, seed: int, step: int
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate_at(step)
    tile, prior, labels = sampler.sample(seed, step, schedule.voxels)
    if not prior.voxels.numel():
        return 0.0
    loss = loss_of(network(tile, prior.voxels, prior.channels, prior.log_prior), labels, prior.channels)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def _average(average: dict[str, torch.Tensor], state: Mapping[str, torch.Tensor], memory: float) -> None:
    with torch.no_grad():
        for key, value in state.items():
            average[key].lerp_(value, 1 - memory)


def averaged(network: TileNet, average: Mapping[str, torch.Tensor]) -> TileNet:
    """Make a network of the same plan with other weights, ready to predict."""
    made = TileNet(network.unet.plan)
    made.load_state_dict(dict(average))
    return made.eval()


def _resume(path: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if saved["recipe"] != recipe:
        different = sorted(key for key in recipe if saved["recipe"].get(key) != recipe[key])
        msg = (
            f"checkpoint {path} is of a run with another {', '.join(different)}: expected the same settings; "
            "choose another folder, or remove the checkpoint"
        )
        raise InputError(msg)
    return saved


def _write_log(path: Path, rows: list[list[Any]]) -> None:
    lines = ["\t".join(COLUMNS), *("\t".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in r) for r in rows)]
    write_atomically(path, ("\n".join(lines) + "\n").encode(), force=True)
