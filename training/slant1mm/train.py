"""Train the 1 mm network (`millimetre_unet.py`) on the scans that `prepare.py` packed, within a given time.

One fold of the people is held out; both scans of a person are in the same fold. Weights are a running average, saved in
half precision every minute. `curve.json` has the loss and the Dice of the scans held out, `final.json` the Dice of every
label of each of them.

    PYTHONPATH=src/efface/segmentation/slant python training/slant1mm/train.py DATA OUT --seconds 420
"""

import argparse
import copy
import io
import json
import lzma
import math
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from augment import IGNORED, Brain, Example, draw
from millimetre_input import cell_centres, index_grid, network_input, positions
from millimetre_unet import CLASSES, MULTIPLE, SCORES, WIDTHS, MillimetreUNet, cell_voxels, cells_near, from_cells
from torch import Tensor
from torch.nn import functional

STEP, LOWEST = 1 / 16, -4.0
"""See `prepare.py`."""
FOLDS = 5
EMA = 0.998


def person(name: str) -> str:
    """Data set and subject of a scan."""
    return re.sub(r"_ses-.*", "", name)


def split(names: list[str], fold: int) -> tuple[list[str], list[str]]:
    """Divide scans into those to train on and those of the people held out."""
    held: set[str] = set()
    for group in ("manual", "dlmuse"):
        people = sorted({person(n) for n in names if n.startswith(group)})
        held |= set(people[fold::FOLDS])
    return [n for n in names if person(n) not in held], [n for n in names if person(n) in held]


def load(path: Path, device: torch.device) -> Brain:
    """Read one packed scan."""
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as file:
        codes, labels, factor = file["image"], file["labels"], int(file["factor"])
        to_template = torch.from_numpy(file["to_template"]).float()
    code = torch.from_numpy(codes).to(device).float()[None, None]
    mask = (code > 0).float()
    image = torch.cat([((code - 1) * STEP + LOWEST) * mask, mask], dim=1)
    if factor > 1:
        image = functional.interpolate(image, scale_factor=factor, mode="trilinear")
        inside = (image[:, 1:] > 0.5).float()
        image = torch.cat([image[:, :1] / image[:, 1:].clamp(min=0.1) * inside, inside], dim=1)
        fine = torch.eye(4)
        fine[:3] /= factor
        fine[:3, 3] = (1 / factor - 1) / 2
        to_template = to_template @ fine
    name = path.name.removesuffix(".npz.xz")
    return Brain(name, image, torch.from_numpy(labels).to(device).float()[None, None], to_template.to(device))


def batch_of(examples: list[Example]) -> Example:
    """Join examples."""
    return Example(*[torch.cat([getattr(e, part) for e in examples]) for part in ("image", "position", "labels")])


def loss_of(model: MillimetreUNet, batch: Example) -> Tensor:
    """Cross-entropy and soft Dice near the brain, and cross-entropy at 4 mm."""
    chosen = cells_near(batch.image[:, 1:])
    truth = cell_voxels(batch.labels[:, None]).index_select(0, chosen).flatten()
    cells, voxels, coarse = model.features(batch.image, batch.position)
    scores = model.scores(cells, voxels, chosen).view(-1, SCORES).float()
    log_probability = functional.log_softmax(scores, dim=1)
    known = truth != IGNORED
    safe = torch.where(known, truth, 0)
    of_truth = log_probability.gather(1, safe[:, None])[:, 0]
    cross_entropy = -(of_truth * known).sum() / known.sum().clamp(min=1)
    probability = log_probability.exp() * known[:, None]
    present = torch.zeros(SCORES, device=safe.device).index_add_(0, safe, known.float())
    overlap = torch.zeros(SCORES, device=safe.device).index_add_(0, safe, of_truth.exp() * known)
    dice = (2 * overlap + 1) / (present + probability.sum(dim=0) + 1)
    seen = (present > 0).float()
    soft_dice = 1 - (dice * seen)[1:].sum() / seen[1:].sum().clamp(min=1)
    at4 = batch.labels[:, 1::4, 1::4, 1::4]
    auxiliary = functional.cross_entropy(model.coarse_scores(coarse).float(), at4, ignore_index=IGNORED)
    return cross_entropy + soft_dice + 0.3 * auxiliary


def padded(brain: Brain) -> tuple[Tensor, Tensor]:
    """Image and positions of a whole scan, its sides made multiples of `MULTIPLE` at the far ends."""
    size = brain.image.shape[2:]
    target = [math.ceil(n / MULTIPLE) * MULTIPLE for n in size]
    pad = [p for n, t in zip(reversed(size), reversed(target), strict=True) for p in (0, t - n)]
    both = functional.pad(brain.image, pad)
    points = index_grid(tuple(target), both.device)
    image = network_input(both[:, :1], both[:, 1:] > 0.5)
    return image, positions(cell_centres(points), brain.to_template)[None]


def probabilities(model: MillimetreUNet, image: Tensor, position: Tensor, chosen: Tensor) -> Tensor:
    """Probabilities of the classes in the voxels of some cells, shape (n, 8, `CLASSES`)."""
    cells, voxels, _ = model.features(image, position)
    return model.scores(cells, voxels, chosen)[..., :CLASSES].float().softmax(dim=-1)


@torch.no_grad()
def segment(model: MillimetreUNet, brain: Brain, mirror: Tensor | None = None) -> Tensor:
    """Label indices of a whole scan, shape (x, y, z); with `mirror`, from the scan and its mirror image."""
    image, position = padded(brain)
    chosen = cells_near(image[:, 1:])
    share = probabilities(model, image, position, chosen)
    if mirror is not None:
        x, y, z = position.shape[2:]
        across = (x - 1 - chosen // (y * z)) * (y * z) + chosen % (y * z)
        flip = torch.tensor([-1.0, 1.0, 1.0], device=image.device)[:, None, None, None]
        other = probabilities(model, image.flip(2), position.flip(2) * flip, across)
        share = share + other.view(-1, 2, 4, CLASSES).flip(1).view(-1, 8, CLASSES)[..., mirror[:CLASSES]]
    labels = torch.zeros(position[0, 0].numel(), 8, dtype=torch.long, device=image.device)
    labels[chosen] = share.argmax(dim=-1)
    x, y, z = brain.image.shape[2:]
    return (from_cells(labels, (1, *image.shape[2:])) * (image[:, 1] > 0.5))[0, :x, :y, :z]


def dice_of_labels(found: Tensor, brain: Brain) -> list[float]:
    """Dice of labels 1 to 132; nan where a label is in neither."""
    truth = brain.labels[0, 0].long()
    known = truth != IGNORED
    truth, found = truth[known], found[known]
    both = torch.bincount(truth[truth == found], minlength=CLASSES).double()
    sizes = torch.bincount(truth, minlength=CLASSES) + torch.bincount(found, minlength=CLASSES)
    return (2 * both / sizes)[1:].tolist()


def validate(model: MillimetreUNet, brains: list[Brain], mirror: Tensor | None = None) -> dict[str, list[float]]:
    """Dice of every label of every scan."""
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False  # each scan has another shape
    model.eval()
    with torch.autocast(brains[0].image.device.type, torch.bfloat16):
        dice = {brain.name: dice_of_labels(segment(model, brain, mirror), brain) for brain in brains}
    torch.backends.cudnn.benchmark = benchmark
    return dice


def means(dice: dict[str, list[float]]) -> dict[str, float]:
    """Mean Dice over labels and scans of each data set."""
    groups = sorted({name.split("_")[0] for name in dice})
    return {g: float(np.nanmean([np.nanmean(v) for n, v in dice.items() if n.startswith(g)])) for g in groups}


@torch.no_grad()
def average(mean: MillimetreUNet, model: MillimetreUNet, step: int) -> None:
    """Move the running average towards the model."""
    keep = min(EMA, (1 + step) / (10 + step))
    pairs = [*zip(mean.parameters(), model.parameters(), strict=True)]
    torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - keep)
    for a, b in zip(mean.buffers(), model.buffers(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - keep)


class Training:
    """State of one training.

    Parameters
    ----------
    options
        Of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.began = time.monotonic()
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(options.seed)
        self.rng = random.Random(options.seed)
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        names = sorted(p.name.removesuffix(".npz.xz") for p in options.data.glob("*.npz.xz"))
        train, held = split(names, options.fold)
        if options.few:
            train, held = [*train[:1], *train[-1:]], [*held[:1], *held[-1:]]
        torch.zeros(1, device=self.device)  # the threads below must not be the first to use it
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            brains = list(pool.map(lambda n: load(options.data / f"{n}.npz.xz", self.device), [*train, *held]))
        self.train, self.held = brains[: len(train)], brains[len(train) :]
        self.groups = [[b for b in self.train if b.name.startswith(g)] for g in ("dlmuse", "manual")]
        table = json.loads((options.data / "mirror.json").read_text())
        self.mirror = torch.tensor(table + list(range(len(table), 256)), device=self.device)
        model = MillimetreUNet(options.widths)
        if options.start:
            stored = torch.load(options.start, map_location="cpu", weights_only=True)["state"]
            model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
        layout = torch.channels_last_3d if options.layout == "last" else torch.contiguous_format
        self.model = model.to(self.device).to(memory_format=layout)
        self.mean = copy.deepcopy(self.model)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        kept = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": kept, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=options.rate, fused=self.device.type == "cuda")
        self.step, self.curve, self.losses = 0, [], []
        self.say(f"{len(self.train)} scans to train on, held out: {', '.join(b.name for b in self.held)}")

    def say(self, text: str) -> None:
        """Print with the time since the start."""
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)  # noqa: T201

    def batch(self) -> Example:
        """Draw a batch."""
        patch = tuple(self.options.patch)
        chosen = []
        for _ in range(self.options.batch):
            heads, brains = self.groups
            source = heads if heads and (not brains or self.rng.random() < self.options.heads) else brains
            chosen.append(draw(self.rng.choice(source), patch, self.mirror, self.rng))
        return batch_of(chosen)

    def rate_at(self, done: float) -> float:
        """Learning rate after a share of the time: short rise, cosine fall."""
        rise = min(1.0, (self.step + 1) / self.options.rise)
        return self.options.rate * rise * (0.5 + 0.5 * math.cos(math.pi * min(done, 1.0)))

    def advance(self, done: float) -> None:
        """Take one step."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate_at(done)
        self.model.train()
        with torch.no_grad():
            batch = self.batch()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = loss_of(self.model, batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for parameter in self.model.parameters():  # one broken kernel must not end a training
            torch.nan_to_num_(parameter.grad, nan=0.0, posinf=0.0, neginf=0.0)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimiser.step()
        average(self.mean, self.model, self.step)
        self.losses.append(loss.detach())
        self.step += 1

    def report(self) -> None:
        """Validate, and write the curve and the weights."""
        loss = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        self.losses = []
        now = means(validate(self.mean, self.held))
        row = {"seconds": round(time.monotonic() - self.began, 1), "step": self.step, "loss": round(loss, 4), **now}
        self.curve.append(row)
        self.say(f"step {self.step} loss {loss:.4f} " + " ".join(f"{k} {v:.4f}" for k, v in now.items()))
        write(self.options.out / "curve.json", json.dumps(self.curve, indent=1).encode())
        state = {k: v.cpu().half() if v.is_floating_point() else v.cpu() for k, v in self.mean.state_dict().items()}
        buffer = io.BytesIO()
        settings = {k: str(v) for k, v in vars(self.options).items()} | {"step": self.step}
        torch.save({"state": state, "settings": settings, "held": [b.name for b in self.held]}, buffer)
        write(self.options.out / "weights.pt", buffer.getvalue())

    def run(self) -> None:
        """Train until the time is over."""
        begin = time.monotonic()
        end = self.began + self.options.seconds
        mark = begin
        while (now := time.monotonic()) < end:
            if now - mark > self.options.every:
                self.report()
                mark = time.monotonic()
            self.advance((now - begin) / (end - begin))
            if self.step == 20:
                self.synchronise()
                begun, counted = time.monotonic(), self.step
        self.synchronise()
        if self.step > 20:
            self.say(f"{(self.step - counted) / (time.monotonic() - begun):.2f} steps/s, validation included")
        self.report()

    def synchronise(self) -> None:
        """Wait for the device, and say how much memory was used."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            self.say(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most, {torch.cuda.get_device_name()}")

    def finish(self) -> None:
        """Dice of every label of the scans held out, plain and with the mirror image."""
        plain = validate(self.mean, self.held)
        mirrored = validate(self.mean, self.held, self.mirror)
        for name in plain:
            self.say(f"{name}: {np.nanmean(plain[name]):.4f}, with its mirror image {np.nanmean(mirrored[name]):.4f}")
        self.say(f"means {means(plain)}, with mirror images {means(mirrored)}")
        rounded = {
            kind: {n: [None if math.isnan(v) else round(v, 4) for v in values] for n, values in dice.items()}
            for kind, dice in (("plain", plain), ("mirrored", mirrored))
        }
        write(self.options.out / "final.json", json.dumps(rounded).encode())


def write(path: Path, content: bytes) -> None:
    """Replace a file at once, so that a stop never leaves half of it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def smoke(training: Training) -> None:
    """Time of a step, memory, what the time goes into, and everything that a full training does at its end."""
    for _ in range(4):
        training.advance(0.0)
    training.synchronise()
    for what, action in (("draw a batch", training.batch), ("step", lambda: training.advance(0.0))):
        began, count = time.monotonic(), 0
        while time.monotonic() - began < training.options.seconds / 3:
            action()
            count += 1
        training.synchronise()
        training.say(f"{what}: {(time.monotonic() - began) / count * 1000:.1f} ms")
    activities = [torch.profiler.ProfilerActivity.CPU]
    if training.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, record_shapes=True) as profile:
        for _ in range(2):
            training.advance(0.0)
        training.synchronise()
    order = f"self_{training.device.type}_time_total"
    print(  # noqa: T201
        profile.key_averages(group_by_input_shape=True).table(
            sort_by=order, row_limit=18, max_name_column_width=36, max_shapes_column_width=70
        )
    )


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=420, help="from the start to the last step")
    parser.add_argument("--every", type=float, default=60, help="seconds between validations")
    parser.add_argument("--fold", type=int, default=3, help="fold of the people held out, 0 to 4; 5 holds nobody out")
    parser.add_argument("--patch", type=int, nargs=3, default=(128, 144, 128))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--rise", type=int, default=100, help="steps in which the rate rises")
    parser.add_argument("--heads", type=float, default=0.15, help="share of examples from heads with automatic labels")
    parser.add_argument("--layout", choices=("last", "first"), default="last", help="place of the channels in memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--smoke", action="store_true", help="measure speed and memory only")
    parser.add_argument("--few", action="store_true", help="four scans only, to try the program")
    parser.add_argument("--widths", type=int, nargs=5, default=WIDTHS, help="channels at 1, 2, 4, 8 and 16 mm")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    training = Training(options)
    if options.smoke:
        smoke(training)
        training.report()
    else:
        training.run()
    training.finish()


if __name__ == "__main__":
    main()
