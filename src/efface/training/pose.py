"""Train the network that finds the pose of a head, on synthetic heads only.

Three label maps are kept out, to say how well it does on heads that it has never seen. Real heads are for
``validation/cut_heads.py``. The run goes by the wall clock; a GPU does 8 to 18 steps a second.
"""

import argparse
import copy
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from efface.anatomy.pose_network import SCALE_MM, PoseNet
from efface.training.pose_heads import prepare
from efface.training.pose_synthesis import Examples, LabelledHeads, synthesise

log = logging.getLogger(__name__)

SEED = 2024
HELD_OUT = (4, 12, 15)
"""Of the twenty label maps; the second shows no lower face."""
RATE, WEIGHT_DECAY = 2e-3, 1e-4
BATCH = 16
WARM_UP = 200
"""Steps."""
EVERY_S = 20.0
"""Between results that are written."""
AVERAGING = 0.999
"""Of the weights that are kept, the share of the past a step."""
SMOOTHEST, COARSEST = -5.0, 1.0
"""Limits of the logarithm of the uncertainty."""


def loss_of(output: Tensor, target: Examples) -> Tensor:
    """Laplace likelihood of the coordinates in the head, and cross-entropy of the two masks in the field of view."""
    head, view = target.head.float(), target.image[:, 1]
    spread = output[:, 3].clamp(SMOOTHEST, COARSEST)
    away = (output[:, :3] - target.coordinates).abs().sum(dim=1)
    likelihood = (away * torch.exp(-spread) + 3 * spread) * head
    total = likelihood.sum() / head.sum().clamp(min=1) + 4 * (away * head).sum() / head.sum().clamp(min=1)
    for channel, mask in ((4, target.head), (5, target.brain)):
        wanted = mask.float()
        each = functional.binary_cross_entropy_with_logits(output[:, channel], wanted, reduction="none")
        total = total + (each * view).sum() / view.sum().clamp(min=1)
    return total


def train(
    heads: LabelledHeads,
    held_out: LabelledHeads,
    seconds: float,
    folder: Path,
    batch: int = BATCH,
    start: Path | None = None,
) -> PoseNet:
    """Train for a time, and write ``pose.pt`` and ``pose.json`` (losses, errors on the held-out heads) to a folder.

    Parameters
    ----------
    heads, held_out
        Label maps to learn from, and to say how well it does.
    seconds
        The learning rate falls to 0 within this time.
    folder
        Of the results, which are written every `EVERY_S`.
    batch
        Examples a step.
    start
        Weights to go on from; None for random ones.
    """
    device = heads.tissues.device
    seed = SEED + (start is not None)
    torch.manual_seed(seed)
    network = PoseNet().to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if start is not None:
        network.load_state_dict(torch.load(start, map_location=device, weights_only=True))
    average: PoseNet = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    rng, generator = np.random.default_rng(seed), torch.Generator(device).manual_seed(seed)
    curve: list[dict[str, float]] = []
    recent: list[Tensor] = []
    step, started = 0, time.monotonic()
    written = started
    while (passed := time.monotonic() - started) < seconds:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * passed / seconds))
        recent.append(_step(network, optimiser, synthesise(heads, rng, generator, batch)))
        step += 1
        _follow(average, network, min(AVERAGING, step / (step + 9)))
        if time.monotonic() - written > EVERY_S:
            written = time.monotonic()
            curve.append({"step": step, "loss": float(torch.stack(recent).mean())} | errors(average, held_out, 4))
            recent = []
            log.info("%d s: %s", round(passed), curve[-1])
            save(average, folder / "pose.pt")
    save(average, folder / "pose.pt")
    final = errors(average, held_out, 24)
    log.info("%d steps, held out: %s", step, final)
    (folder / "pose.json").write_text(json.dumps({"steps": step, "batch": batch, "curve": curve, "held_out": final}))
    return average


def _step(network: PoseNet, optimiser: torch.optim.Optimizer, target: Examples) -> Tensor:
    """One step of gradient descent; gives the loss."""
    image = target.image.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(image.device.type, torch.bfloat16):
        output = network(image)
    loss = loss_of(output.float(), target)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return loss.detach()


@torch.no_grad()
def _follow(average: PoseNet, network: PoseNet, past: float) -> None:
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new.to(kept.dtype), 1 - past)
        else:
            kept.copy_(new)


@torch.no_grad()
def errors(network: PoseNet, heads: LabelledHeads, batches: int) -> dict[str, float]:
    """Errors on synthetic examples of held-out heads: of the coordinates, mm, and of the masks, Dice."""
    device = heads.tissues.device
    network.eval()
    rng, generator = np.random.default_rng(7), torch.Generator(device).manual_seed(7)
    medians, dices = [], []
    for _ in range(batches):
        target = synthesise(heads, rng, generator, 8)
        output = network(target.image).float()
        away = (output[:, :3] - target.coordinates).norm(dim=1) * SCALE_MM
        medians += [float(a[h].median()) for a, h in zip(away, target.head, strict=True) if h.any()]
        view = target.image[:, 1] > 0
        dices.append([_dice((output[:, 4 + i] > 0) & view, m) for i, m in enumerate((target.head, target.brain))])
    network.train()
    ordered = np.array(medians)
    head, brain = np.nanmean(dices, axis=0)
    return {
        "median_mm": float(np.median(ordered)),
        "p95_mm": float(np.quantile(ordered, 0.95)),
        "above_20_mm": float((ordered > 20).mean()),
        "dice_head": float(head),
        "dice_brain": float(brain),
    }


def _dice(a: Tensor, b: Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1))


def save(network: PoseNet, path: Path) -> None:
    """Write the weights, half precision."""
    kept = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save({name: tensor.cpu().contiguous() for name, tensor in kept.items()}, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="efface train pose", description=__doc__)
    parser.add_argument("label_maps", type=Path, nargs="+", help="label maps of whole heads, at least four, 1 mm")
    parser.add_argument("--out", type=Path, required=True, help="folder for pose.pt, pose.json and the prepared heads")
    parser.add_argument("--seconds", type=float, default=300, help="how long to train")
    parser.add_argument("--batch", type=int, default=BATCH, help="examples a step")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "heads.npz"
    if not file.is_file():
        prepare(sorted(options.label_maps), file)
    count = len(options.label_maps)
    held_out = [number for number in HELD_OUT if number < count] or [count - 1]
    heads = LabelledHeads.load(file, device, [number for number in range(count) if number not in held_out])
    train(heads, LabelledHeads.load(file, device, held_out), options.seconds, options.out, options.batch, options.start)
    return 0
