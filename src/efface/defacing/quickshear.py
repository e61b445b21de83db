"""QuickShear: remove everything in front of a plane that is placed in front of and below the brain.

References
----------
Schimke, Hale. "Quickshear defacing for neuroimages." Proc. 2nd USENIX Conf. on Health Security and Privacy (2011).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.external_process import package_version
from efface.defacing.method import DefacingMethod, ExternalParams, ExternalProgram, Workspace
from efface.errors import AnatomyError
from efface.spatial.types import BoolVolume

VARIANTS = ("published", "fixed")


@dataclass(frozen=True)
class Params:
    """Parameters of QuickShear.

    Attributes
    ----------
    buffer
        Distance between brain and plane: voxels along S in ``published``, mm perpendicular to the plane in ``fixed``.
    variant
        ``published`` is voxel-identical to the ``quickshear`` package 1.2 given the same mask. ``fixed`` takes the
        slope from the whole front of the hull, measures the buffer in mm, and runs over the P axis.
    """

    buffer: float = field(
        default=10.0,
        metadata={
            "help": "distance between brain and plane: voxels (published) or mm (fixed)",
            "unit": "voxels or mm",
            "minimum": 0.0,
        },
    )
    variant: str = field(
        default="published",
        metadata={"help": "the published program, or one with its errors corrected", "choices": VARIANTS},
    )


@dataclass(frozen=True)
class QuickshearProgramParams(ExternalParams):
    """Parameters of the Python program ``quickshear``."""

    buffer: float = field(
        default=10.0, metadata={"help": "distance between brain and plane", "unit": "voxels", "minimum": 0.0}
    )


def plan(anatomy: HeadAnatomy, params: Params) -> Edit:
    """Decide what QuickShear removes.

    Parameters
    ----------
    anatomy
        Of the scan; its brain mask is used.
    params
        See `Params`.

    Raises
    ------
    AnatomyError
        If the brain mask is too small to have a front.
    """
    to_rps = orientations.axcodes2ornt("RPS")
    brain = np.asarray(orientations.apply_orientation(anatomy.brain, to_rps))
    spacing = anatomy.scan.spacing_mm
    profile = np.asarray(brain.any(axis=0), dtype=np.bool_)
    hull = lower_hull(profile_edge(profile))
    removed = np.zeros(brain.shape, dtype=np.bool_)
    if params.variant == "published":
        heights = _published_heights(hull, brain, params.buffer)
    else:
        heights = _fixed_heights(hull, profile, params.buffer, spacing)
    for p, height in heights:
        removed[:, p, :height] = True
    mask: BoolVolume = np.ascontiguousarray(orientations.apply_orientation(removed, to_rps))
    return Edit(mask, anatomy.background.air, "quickshear", params=asdict(params))


def profile_edge(profile: BoolVolume) -> BoolVolume:
    """Edge of the (P, S) brain profile: a 4-neighbour Laplacian that wraps around at the borders."""
    around = [np.roll(profile, shift, axis).astype(np.int8) for shift in (1, -1) for axis in (0, 1)]
    edge: BoolVolume = (4 * profile.astype(np.int8) - np.sum(around, axis=0)) != 0
    return edge


def lower_hull(edge: BoolVolume) -> NDArray[np.int64]:
    """Lower convex hull of the edge points by the monotone chain, shape (n, 2), columns (P, S).

    Raises
    ------
    AnatomyError
        If there are fewer than two points.
    """
    lower: list[tuple[int, int]] = []
    for p, s in np.argwhere(edge).tolist():
        while len(lower) >= 2 and _turns_right(lower[-2], lower[-1], (p, s)):
            lower.pop()
        lower.append((p, s))
    if len(lower) < 2:
        msg = "the brain mask is too small for QuickShear: expected a whole brain; check it, or give --brain-mask"
        raise AnatomyError(msg)
    return np.array(lower)


def _turns_right(o: tuple[int, int], a: tuple[int, int], b: tuple[int, int]) -> bool:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]) <= 0


def _published_heights(hull: NDArray[np.int64], brain: BoolVolume, buffer: float) -> list[tuple[int, int]]:
    """Cut heights (P, S) as the package computes them, errors included.

    The package runs x over the length of the S axis although x indexes P. It pairs the columns whose height is
    positive with the heights from the first column on: where the line starts below zero, these heights belong to
    other columns.
    """
    (x0, y0), (x1, y1) = hull[0], hull[1]
    slope = (y1 - y0) / (x1 - x0)
    intercept = y0 - x0 * slope - buffer
    heights = np.arange(brain.shape[2]) * slope + intercept
    columns = np.nonzero(heights > 0)[0]
    if columns.size and columns.max() >= brain.shape[1]:
        columns = columns[columns < brain.shape[1]]
    return list(zip(columns.tolist(), heights.astype(int)[: columns.size].tolist(), strict=True))


def _fixed_heights(
    hull: NDArray[np.int64], profile: BoolVolume, buffer_mm: float, spacing: NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Cut heights (P, S) in mm: the longest edge of the front of the hull, moved by `buffer_mm`."""
    mm = hull * spacing[1:]
    lowest = int(np.argmin(mm[:, 1]))
    front = mm[: max(lowest, 1) + 1]
    lengths = np.linalg.norm(np.diff(front, axis=0), axis=1)
    at = int(np.argmax(lengths))
    (x0, y0), (x1, y1) = front[at], front[at + 1]
    slope = (y1 - y0) / (x1 - x0)
    columns = np.arange(profile.shape[0])
    below = y0 + slope * (columns * spacing[1] - x0) - buffer_mm * np.sqrt(1 + slope**2)
    heights = np.clip(np.floor(below / spacing[2]), 0, profile.shape[1]).astype(int)
    return [(int(c), int(h)) for c, h in zip(columns, heights, strict=True) if h > 0]


def _command(program: Path, files: Workspace, params: QuickshearProgramParams) -> Sequence[str | Path]:
    return [program, files.scan, files.brain, files.output, str(params.buffer)]


METHOD = DefacingMethod(
    name="quickshear",
    title="QuickShear",
    summary="removes everything in front of a plane placed in front of the brain",
    citation="schimke2011",
    reference="Schimke & Hale 2011",
    colour="#E69F00",
    params=Params,
    plan=plan,
    external=ExternalProgram(
        "quickshear",
        _command,
        "pip install quickshear",
        QuickshearProgramParams,
        needs_brain=True,
        version=package_version("quickshear"),
    ),
)
