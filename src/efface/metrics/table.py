"""The table of measures: each compares two segmentations on one grid and gives tidy numbers."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.metrics.dice import Overlap, compare_labels
from efface.metrics.distances import compare_surfaces
from efface.metrics.volumes import volume_changes
from efface.spatial.types import LabelVolume


@dataclass(frozen=True)
class Value:
    """One number: its name, ``whole brain``, ``pooled``, ``region`` or ``label``, the region's name, and the number."""

    measure: str
    level: str
    region: str
    value: float


@dataclass(frozen=True)
class Segmentations:
    """Two segmentations of the same grid, before and after; what several measures need is counted once."""

    before: LabelVolume
    after: LabelVolume
    spacing_mm: NDArray[np.float64]

    @functools.cached_property
    def overlaps(self) -> list[Overlap]:
        """Sizes and overlap of every region."""
        return compare_labels(self.before, self.after)


@dataclass(frozen=True)
class MeasureSpec:
    """A row of the table: what it is, the names of its numbers, and the function that gives them."""

    summary: str
    numbers: tuple[str, ...]
    run: Callable[[Segmentations], Iterator[Value]]


def _dice(pair: Segmentations) -> Iterator[Value]:
    for x in pair.overlaps:
        yield Value("dice", x.level, x.region, x.dice)


def _volume(pair: Segmentations) -> Iterator[Value]:
    for x in volume_changes(pair.overlaps, pair.spacing_mm):
        yield Value("volume_ml", x.level, x.region, x.before_ml)
        yield Value("volume_change_ml", x.level, x.region, x.change_ml)
        yield Value("volume_change_percent", x.level, x.region, x.change_percent)


def _distance(pair: Segmentations) -> Iterator[Value]:
    for x in compare_surfaces(pair.before, pair.after, pair.spacing_mm):
        yield Value("hd95_mm", x.level, x.region, x.hd95_mm)
        yield Value("surface_distance_mm", x.level, x.region, x.mean_mm)


MEASURES: Mapping[str, MeasureSpec] = MappingProxyType(
    {
        "dice": MeasureSpec("overlap, 0 to 1", ("dice",), _dice),
        "volume": MeasureSpec(
            "volume before, signed change in ml and percent",
            ("volume_ml", "volume_change_ml", "volume_change_percent"),
            _volume,
        ),
        "distance": MeasureSpec(
            "95 % Hausdorff and mean surface distance, mm", ("hd95_mm", "surface_distance_mm"), _distance
        ),
    }
)
"""By the name that ``--measures`` takes."""
DEFAULT_MEASURES = ("dice",)


def check_measures(names: Sequence[str]) -> None:
    """Refuse names that are not in the table.

    Raises
    ------
    InputError
        If one is unknown or given twice, or dice, which every table and figure starts from, is not among them.
    """
    unknown = [name for name in names if name not in MEASURES]
    if unknown or "dice" not in names or len(set(names)) < len(names):
        msg = (
            f"measures must be among {', '.join(MEASURES)}, each once, dice always; "
            f"received {', '.join(names) or 'none'}"
        )
        raise InputError(msg)


def measure(
    before: LabelVolume, after: LabelVolume, spacing_mm: NDArray[np.float64], names: Sequence[str] = DEFAULT_MEASURES
) -> list[Value]:
    """Compare two segmentations on the same grid by these measures.

    Parameters
    ----------
    before, after
        BrainCOLOR ids, 0 = background, same shape.
    spacing_mm
        Voxel edge lengths, shape (3,).
    names
        Keys of `MEASURES`.

    Raises
    ------
    InputError
        If the shapes differ, or a measure is unknown.
    """
    check_measures(names)
    pair = Segmentations(before, after, spacing_mm)
    return [value for name in names for value in MEASURES[name].run(pair)]
