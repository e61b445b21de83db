"""Which heads a training uses and which it holds out, stored in its folder so that later stages agree."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.io.atomic import write_atomically
from efface.io.json_files import parse_json
from efface.training import slant_data as data
from efface.training.augment import Amounts

ALL, START = "all", "start"
"""Folds that hold nothing out: all heads; heads without a reference only."""
AUGMENTATION = Amounts()


@dataclass(frozen=True)
class Split:
    """Heads and settings of a training, stored in ``split.json``.

    Attributes
    ----------
    fold
        0 to 4, `ALL` or `START`.
    train, held
        Names of the heads to train on, and of those held out.
    stripped
        Whether the networks see the brain only.
    seed
        Of all random draws.
    faceless
        Probability of removing the face of an example.
    """

    fold: str
    train: tuple[str, ...]
    held: tuple[str, ...]
    stripped: bool
    seed: int
    faceless: float = AUGMENTATION.face

    @property
    def amounts(self) -> Amounts:
        """Strength of the augmentation."""
        return replace(AUGMENTATION, face=self.faceless)


def make_split(cache: Path, fold: str, *, stripped: bool, seed: int, faceless: float = AUGMENTATION.face) -> Split:
    """Divide the heads of a cache into those to train on and those held out.

    Parameters
    ----------
    cache
        Folder that `efface.training.slant_data.prepare` filled.
    fold, stripped, seed, faceless
        See `Split`.

    Raises
    ------
    InputError
        If the cache is empty, or there is no such fold.
    """
    names = data.cached_heads(cache)
    if not names:
        msg = f"no heads in {cache}: run `efface train slant prepare` first"
        raise InputError(msg)
    splits = {str(number): pair for number, pair in enumerate(data.folds(names))} | {ALL: (names, [])}
    splits[START] = ([name for name in names if data.without_reference(name)], [])
    if fold not in splits:
        msg = f"there is no fold {fold!r}: expected one of {', '.join(splits)}"
        raise InputError(msg)
    train, held = splits[fold]
    return Split(fold, tuple(train), tuple(held), stripped, seed, faceless)


def write_split(out: Path, split: Split) -> None:
    """Store the split of a training in its folder.

    Raises
    ------
    InputError
        If the folder holds a training with another split.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "split.json"
    if path.exists() and read_split(out) != split:
        msg = f"{out} holds a training run with another split: choose another folder, or the settings in {path}"
        raise InputError(msg)
    write_atomically(path, json.dumps(asdict(split), indent=1).encode(), force=True)


def read_split(out: Path) -> Split:
    """Read the split of a training.

    Raises
    ------
    InputError
        If the folder holds no training, or the file cannot be read.
    """
    path = out / "split.json"
    if not path.is_file():
        msg = f"{out} holds no training run (no split.json): run `efface train slant pretrain` first"
        raise InputError(msg)
    try:
        raw: Mapping[str, Any] = parse_json(path.read_bytes())
        heads = tuple(raw["train"]), tuple(raw["held"])
        return Split(raw["fold"], *heads, raw["stripped"], raw["seed"], raw["faceless"])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read ({error!r}): expected a file of `efface train slant`; choose another folder"
        raise InputError(msg) from error
