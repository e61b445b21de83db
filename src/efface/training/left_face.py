"""Train the network for left faces: ``efface train left_face EXAMPLES WEIGHTS``.

EXAMPLES is a folder of what ``validation/left_faces.py`` makes of heads. Reliefs are turned, moved, tilted, mirrored and
roughened; half of them are made anew from a whole face and a defaced one of the same head, with a random mask between.
"""

import argparse
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from efface.quality.face_parts import IN_VIEW, PARTS, in_view
from efface.quality.relief import Relief, x_mm, z_mm
from efface.quality.relief_network import MIRRORED, ReliefNet, pictures

STEPS, BATCH, RATE, DECAY = 700, 48, 4e-3, 2e-2
UNKNOWN = -1
GONE, LEFT = {"defaced": 0.5, "": 0.2}, {"defaced": 0.8, "": 0.75}
"""Shares of a part up to which it is gone, and from which it is left: after a method, where the quality check asks the
same, and after what was put back or taken out by a mask."""
COVERED, BARE = 0.85, 0.25
"""The same for a random mask, of the middle of a part."""
MIDDLE = {
    "right eye": (16.0, 46.0, -46.0, -18.0), "left eye": (-46.0, -16.0, -46.0, -18.0),
    "nose": (-16.0, 16.0, -82.0, -40.0), "mouth": (-24.0, 24.0, -106.0, -84.0),
}  # fmt: skip
AS_IT_IS, COMPOSED = 0.55, 0.35
"""Shares of examples that are taken as they are, and that are made of two; the rest shows no part of a face."""
HARD, TIMES = "defacer", 3
"""What is hard to tell is shown more often: this method leaves swollen eyes."""
SMOOTHED_LABEL = 0.02
BLURRED = 0.05
Depths = NDArray[np.float32]


@dataclass
class Head:
    """Reliefs of one image of one head, as row numbers: all, whole faces, and those without any part."""

    rows: list[int] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Reliefs:
    """Examples of many heads as arrays.

    Attributes
    ----------
    depths
        Shape (n, x, z), mm.
    labels
        Shape (n, parts): 1 left, 0 gone, `UNKNOWN`.
    people, images, states, kinds, successes
        Of each row: who, of which image, and as in `efface.training.left_face_examples.Example`.
    """

    depths: Depths
    labels: NDArray[np.int64]
    people: list[str]
    images: list[str]
    states: list[str]
    kinds: list[str]
    successes: list[bool | None]


def load_examples(folder: Path) -> Reliefs:
    """Read the examples of all heads in a folder of our own making (pickles: do not open those of others)."""
    columns: list[tuple[Any, ...]] = []
    for path in sorted(folder.glob("*.pkl")):
        image = path.stem
        for row in pickle.loads(path.read_bytes()):
            relief = Relief(row["depth"].astype(np.float64), row["first_seen"].astype(np.float64))
            labels = [label_of(row["kind"], row["truth"][p], in_view(relief, p)) for p in PARTS]
            columns.append((row["depth"], labels, row["person"], image, row["state"], row["kind"], row["success"]))
    depths, labels, people, images, states, kinds, successes = (list(column) for column in zip(*columns, strict=True))
    return Reliefs(np.array(depths, np.float32), np.array(labels), people, images, states, kinds, successes)


def label_of(kind: str, left: float | None, seen: float) -> int:
    """Whether a part is left (1), gone (0) or neither (`UNKNOWN`), by the share that is left of it."""
    if left is None or seen < IN_VIEW or kind.endswith("refaced"):
        return UNKNOWN
    by = "defaced" if kind.endswith("defaced") else ""
    return 1 if left >= LEFT[by] else 0 if left <= GONE[by] else UNKNOWN


def heads_of(reliefs: Reliefs, rows: Sequence[int]) -> dict[str, Head]:
    """Rows by image and contrast, those that can be learnt from."""
    heads: dict[str, Head] = {}
    for row in rows:
        labels, kind = reliefs.labels[row], reliefs.kinds[row]
        if (labels == UNKNOWN).all():
            continue
        head = heads.setdefault(f"{reliefs.images[row]} {kind.split()[0] if ' ' in kind else ''}", Head())
        head.rows.append(row)
        if kind.endswith("whole"):
            head.whole.append(row)
        if (labels <= 0).all():
            head.empty += [row] * (TIMES if HARD in reliefs.states[row] else 1)
    return heads


def train(reliefs: Reliefs, rows: Sequence[int], *, steps: int = STEPS, seed: int = 0) -> ReliefNet:
    """Train a network on some rows."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = ReliefNet()
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    heads = heads_of(reliefs, rows)
    for _ in range(steps):
        depths, labels = _batch(reliefs, heads, rng)
        wanted = torch.from_numpy(labels)
        known = wanted != UNKNOWN
        soft = wanted.clamp(min=0).float() * (1 - 2 * SMOOTHED_LABEL) + SMOOTHED_LABEL
        logits = network(torch.from_numpy(pictures(depths)))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")[known].mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval()


def _batch(
    reliefs: Reliefs, heads: Mapping[str, Head], rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    names = list(heads)
    drawn = [_drawn(reliefs, heads[names[rng.integers(len(names))]], rng) for _ in range(BATCH)]
    return np.array([d for d, _ in drawn]), np.array([label for _, label in drawn])


def _drawn(reliefs: Reliefs, head: Head, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One example of a head, changed at random."""
    which = rng.random()
    if which < AS_IT_IS or not head.empty:
        row = head.rows[rng.integers(len(head.rows))]
        depth, labels = reliefs.depths[row], reliefs.labels[row]
    elif which < AS_IT_IS + COMPOSED and head.whole:
        depth, labels = _composed(reliefs, head, rng)
    else:
        row = head.empty[rng.integers(len(head.empty))]
        depth, labels = reliefs.depths[row], reliefs.labels[row]
    if rng.random() < BLURRED:  # faces that are smoothed until nothing is left of them
        depth = ndimage.gaussian_filter(np.nan_to_num(depth, nan=float(np.nanmin(depth))), rng.uniform(6, 12))
        labels = np.where(labels == UNKNOWN, UNKNOWN, 0)
    if rng.random() < 0.5:
        depth, labels = depth[::-1], labels[MIRRORED]
    return _jittered(depth.astype(np.float64), rng), labels


def _composed(reliefs: Reliefs, head: Head, rng: np.random.Generator) -> tuple[Depths, NDArray[np.int64]]:
    """A whole face where a random mask is, a defaced one elsewhere."""
    whole, empty = (rows[rng.integers(len(rows))] for rows in (head.whole, head.empty))
    depth = reliefs.depths[whole]
    mask = _random_mask(depth.shape, rng)
    x, z = x_mm()[:, None], z_mm()
    places = [(x >= a) & (x <= b) & (z >= c) & (z <= d) for a, b, c, d in (MIDDLE[part] for part in PARTS)]
    share = np.array([mask[place].mean() for place in places])
    gone = np.where(reliefs.labels[empty] == 0, 0, UNKNOWN)
    labels = np.where(share >= COVERED, 1, np.where(share <= BARE, gone, UNKNOWN))
    return np.where(mask, depth, reliefs.depths[empty]), np.where(reliefs.labels[whole] == UNKNOWN, UNKNOWN, labels)


def _random_mask(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A half plane, an ellipse, a box or blobs."""
    x, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    kind = rng.integers(4)
    if kind == 0:
        angle = rng.uniform(0, 2 * np.pi)
        return np.asarray(np.cos(angle) * x + np.sin(angle) * z > rng.uniform(-0.5, 0.5))
    if kind == 3:
        blobs = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(4, 12))
        return np.asarray(blobs > np.quantile(blobs, rng.uniform(0.2, 0.8)))
    x, z = (x - rng.uniform(-0.6, 0.6)) / rng.uniform(0.15, 0.7), (z - rng.uniform(-0.8, 0.6)) / rng.uniform(0.15, 0.6)
    return np.asarray(x**2 + z**2 < 1 if kind == 1 else np.maximum(abs(x), abs(z)) < 1)


def _jittered(depth: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Moved, tilted, stretched and roughened, as another pose, another person or another scanner would."""
    depth = np.roll(depth, (int(rng.integers(-1, 2)), int(rng.integers(-2, 3))), (0, 1))
    x, z = (np.linspace(-1, 1, n) for n in depth.shape)
    depth = depth + rng.normal(0, 1) + rng.normal(0, 2) * x[:, None] + rng.normal(0, 3) * z
    if rng.random() < 0.3:
        depth = depth + ndimage.gaussian_filter(rng.standard_normal(depth.shape), rng.uniform(0.6, 2)) * rng.uniform(
            0, 1.2
        )
    if rng.random() < 0.2:
        middle = np.nanmean(depth)
        depth = middle + (depth - middle) * rng.uniform(0.9, 1.1)
    return depth


def save(network: ReliefNet, path: Path) -> None:
    """Write weights, half precision but for the counts of batch norm."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    torch.save({k: v.cpu().contiguous() for k, v in state.items()}, path)


def main(arguments: Sequence[str]) -> int:
    """Train on all examples, and write the weights."""
    parser = argparse.ArgumentParser(prog="efface train left_face", description=__doc__)
    parser.add_argument("examples", type=Path, help="folder made by validation/left_faces.py")
    parser.add_argument("weights", type=Path, help="where the weights are written")
    options = parser.parse_args(arguments)
    reliefs = load_examples(options.examples)
    save(train(reliefs, range(len(reliefs.depths))), options.weights)
    return 0
