"""The training loop of a SLANT network: deterministic, and resumable after it was killed at any moment.

The tile of a step depends only on the seed and the number of the step. A run that is resumed from its checkpoint
therefore ends with the same weights as one that was never interrupted (with the same number of threads).

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
from efface.io.untrusted import refusing
from efface.segmentation.slant.unet import CLASSES, TileNet
from efface.training.slant_sampler import Sampler

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
COLUMNS = ("stage", "step", "loss", "dice", "rate", "seconds")
"""Of ``log.tsv``."""
LARGEST_GRADIENT = 5.0
"""Norm that gradients are clipped to."""


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a training.

    Attributes
    ----------
    steps
        Number of steps; each sees one tile.
    rate
        Largest learning rate. It rises over the first `warmup` steps and falls to zero as a cosine.
    warmup
        Steps.
    epoch
        Steps between lines of the log, and between validations.
    voxels
        Maximum number of voxels of a tile that enter the loss.
    decay
        Weight decay.
    memory
        Of the running mean of the weights, which is the result; nearer to 1 for a longer mean.
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


def loss_of(scores: torch.Tensor, labels: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, plus one minus the mean soft Dice of the labels that occur.

    Parameters
    ----------
    scores
        Shape (n, k).
    labels
        Label indices, shape (n,); labels that are not in `channels` count as background.
    channels
        Label indices of the columns, shape (k,); the first is background.
    """
    column = torch.zeros(CLASSES, dtype=torch.int64)
    column[channels] = torch.arange(len(channels))
    wanted = column[labels]
    log_probability = torch.log_softmax(scores, dim=1)
    entropy = torch.nn.functional.nll_loss(log_probability, wanted)
    probability = log_probability.exp()
    correct = probability.gather(1, wanted[:, None])[:, 0]
    size = torch.zeros(len(channels)).index_add(0, wanted, torch.ones(len(wanted)))
    both = torch.zeros(len(channels)).index_add(0, wanted, correct)
    present = size > 0
    present[0] = False
    if not bool(present.any()):
        return entropy
    dice = 2 * both[present] / (probability.sum(dim=0)[present] + size[present])
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
    """Train a network, from its checkpoint if there is one.

    Parameters
    ----------
    network
        Initial weights.
    sampler
        Draws the tiles.
    schedule
        Length and learning rate.
    folder
        For ``checkpoint.pt`` and ``log.tsv``.
    stage, seed
        Name for the log, and seed of all random draws; a checkpoint with another stage or seed is refused.
    validate
        Returns the Dice of the averaged network; called once an epoch.
    stop_after
        Number of steps after which to write a checkpoint and return.

    Returns
    -------
    TileNet
        With the running mean of the weights.

    Raises
    ------
    InputError
        If the checkpoint has other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    recipe = {"stage": stage, "seed": seed, "schedule": asdict(schedule), "amounts": asdict(sampler.amounts)}
    run = _Run(stage, network, schedule)
    if path.exists():
        with refusing(f"checkpoint {path}", "one of `efface train slant`: remove it to begin again"):
            run.resume(_load_checkpoint(path, recipe))
    run.begin()
    saved_at = time.monotonic()
    while run.step < min(schedule.steps, stop_after if stop_after is not None else schedule.steps):
        run.advance(sampler, seed)
        epoch_ends = run.step % schedule.epoch == 0 or run.step == schedule.steps
        if epoch_ends:
            run.end_epoch(validate)
            _write_log(folder / "log.tsv", run.rows)
        if epoch_ends or run.step == stop_after or time.monotonic() - saved_at > schedule.checkpoint_s:
            _write_checkpoint(path, {"recipe": recipe, **run.state()})
            saved_at = time.monotonic()
    return run.averaged()


class _Run:
    """Weights, optimizer and log of a training run."""

    def __init__(self, stage: str, network: TileNet, schedule: Schedule) -> None:
        self.stage, self.network, self.schedule = stage, network, schedule
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
        self.average = {key: value.detach().clone() for key, value in network.state_dict().items()}
        self.step = 0
        self.losses: list[float] = []
        """Of the steps since the last line of the log."""
        self.rows: list[list[Any]] = []
        """Of the log, see `COLUMNS`."""
        self._earlier_s = 0.0
        self._started = time.monotonic()

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average, self.step, self.losses = saved["average"], saved["step"], saved["losses"]
        self.rows, self._earlier_s = saved["rows"], saved["seconds"]
        log.info("%s: resumed after step %d of %d", self.stage, self.step, self.schedule.steps)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "losses": self.losses,
            "rows": self.rows,
            "seconds": self.seconds,
        }

    @property
    def seconds(self) -> float:
        """Duration of the run, without the time between a kill and the resumption."""
        return self._earlier_s + time.monotonic() - self._started

    def begin(self) -> None:
        """Set the network to training, and start the clock."""
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.network.train()
        self._started = time.monotonic()

    def advance(self, sampler: Sampler, seed: int) -> None:
        """Make one step, and include its weights in the running mean."""
        self.losses.append(self._optimise(sampler, seed))
        memory = min(self.schedule.memory, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.network.state_dict().items():
                self.average[key].lerp_(value, 1 - memory)
        self.step += 1

    def _optimise(self, sampler: Sampler, seed: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(self.step)
        tile, prior, labels = sampler.sample(seed, self.step, self.schedule.voxels)
        if not prior.voxels.numel():
            return 0.0
        loss = loss_of(self.network(tile, prior.voxels, prior.channels, prior.log_prior), labels, prior.channels)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        return float(loss.detach())

    def end_epoch(self, validate: Callable[[TileNet], float] | None) -> None:
        """Validate the averaged network, and add a row to the log."""
        dice = validate(self.averaged()) if validate else math.nan
        rate = self.schedule.rate_at(self.step - 1)
        self.rows.append([self.stage, self.step, float(np.mean(self.losses)), dice, rate, self.seconds])
        self.losses = []
        log.info("%s: step %d, loss %.3f, Dice %.3f, %.0f s", *self.rows[-1][:4], self.seconds)

    def averaged(self) -> TileNet:
        """Network with the running mean of the weights, in evaluation mode."""
        made = TileNet(self.network.unet.architecture)
        made.load_state_dict(self.average)
        return made.eval()


def _load_checkpoint(path: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if saved["recipe"] != recipe:
        different = sorted(key for key in recipe if saved["recipe"].get(key) != recipe[key])
        msg = (
            f"checkpoint {path} is of a run with another {', '.join(different)}: expected the same settings; "
            "choose another folder, or remove the checkpoint"
        )
        raise InputError(msg)
    return saved


def _write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue(), force=True)


def _write_log(path: Path, rows: list[list[Any]]) -> None:
    lines = ["\t".join(COLUMNS), *("\t".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in r) for r in rows)]
    write_atomically(path, ("\n".join(lines) + "\n").encode(), force=True)
