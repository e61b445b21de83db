"""The overlapping tiles of SLANT: their geometry, and the fusion of their labels.

The name of a tile is ``i_j_k``: its position along x, y and z, counted from 1, as in the published system.

References
----------
Huo et al. "3D whole brain segmentation using spatially localized atlas network tiles." NeuroImage 194 (2019) 105-119.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.errors import InputError
from efface.spatial.boxes import Box
from efface.spatial.types import Affine, Grid, LabelVolume

MAXIMUM_LABEL = 132
"""Label indices are 0 (background) to 132."""

MNI305_TO_MNI152: Affine = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""MNI305 RAS+ mm to MNI152 RAS+ mm, as FreeSurfer documents it; the BrainCOLOR template lies in MNI152 space."""
SHRINK = 1.12
"""Ratio of the length of a brain in MNI152 space to its length in the scan; see `EMBEDDED`."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A standard grid and the overlapping tiles on it.

    Attributes
    ----------
    name
        For messages.
    grid
        The standard grid; its affine maps voxels to standard RAS+ mm.
    tile_shape
        Voxels of every tile along x, y, z.
    origins
        First voxels of the tiles along x, y and z; every combination is a tile.
    to_template
        Standard mm to mm of the BrainCOLOR template (MNI152), shape (4, 4).
    """

    name: str
    grid: Grid
    tile_shape: tuple[int, int, int]
    origins: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    to_template: Affine

    def __post_init__(self) -> None:
        for axis, size, starts, tile in zip("xyz", self.grid.shape, self.origins, self.tile_shape, strict=True):
            if not starts or min(starts) < 0 or max(starts) + tile > size:
                msg = (
                    f"tiles of geometry {self.name} must lie in the grid: along {axis} expected origins from 0 to "
                    f"{size - tile}; received {starts}: correct the origins"
                )
                raise InputError(msg)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tiles; the position along x varies slowest."""
        return tuple(name for name, _ in self._boxes())

    def box(self, name: str) -> Box:
        """Voxels of the grid that a tile covers.

        Raises
        ------
        InputError
            If there is no tile of that name.
        """
        boxes = dict(self._boxes())
        if name not in boxes:
            msg = f"geometry {self.name} has no tile {name!r}: expected one of {', '.join(boxes)}"
            raise InputError(msg)
        return boxes[name]

    def mirror(self, name: str) -> str:
        """Name of the tile on the other side of the midline (along x); the tiles must lie symmetrically."""
        x, *others = name.split("_")
        return "_".join((str(len(self.origins[0]) + 1 - int(x)), *others))

    def blocks(self) -> list[Box]:
        """The grid cut into blocks at the borders of all tiles: a tile covers a block completely or not at all."""
        edges = [
            sorted({0, size, *starts, *(start + tile for start in starts)})
            for size, starts, tile in zip(self.grid.shape, self.origins, self.tile_shape, strict=True)
        ]
        x, y, z = ([slice(a, b) for a, b in itertools.pairwise(e)] for e in edges)
        return list(itertools.product(x, y, z))

    def _boxes(self) -> Iterator[tuple[str, Box]]:
        for index in itertools.product(*[range(len(starts)) for starts in self.origins]):
            x, y, z = (
                slice(starts[i], starts[i] + size)
                for starts, i, size in zip(self.origins, index, self.tile_shape, strict=True)
            )
            yield "_".join(str(i + 1) for i in index), (x, y, z)


def _grid(shape: tuple[int, int, int], spacing_mm: float, origin_mm: tuple[float, float, float]) -> Grid:
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    return Grid(shape, affine)


PUBLISHED = Geometry(
    "published",
    _grid((172, 220, 156), 1.0, (-86.095, -126.51, -68.25)),
    (96, 128, 88),
    ((0, 38, 76), (0, 46, 92), (0, 34, 68)),
    MNI305_TO_MNI152,
)
"""The published 1 mm grid, that of the MNI305 average. Shapes and origins are those of the published code. The position
of voxel (0, 0, 0) is from the MINC header of the average, which is not distributed here; check it before you rely on
published weights to the millimetre."""

EMBEDDED = Geometry(
    "embedded",
    _grid((86, 110, 78), 2.0, (-85.0, -124.0, -72.0)),
    (48, 64, 44),
    ((0, 19, 38), (0, 23, 46), (0, 17, 34)),
    np.diag([SHRINK, SHRINK, SHRINK, 1.0]),
)
"""Our 2 mm grid: MNI152 space divided by 1.12 (`SHRINK`), upright and symmetric about x = 0.

Brains in MNI space are larger than in the scan and do not fit into 156 mm along z: the aligned brain masks of the 19
development heads reach from -77 to 88 mm. Divided by 1.12, brains have about their real size, and all masks lie inside
the grid with a margin of at least 4 mm. The grid is symmetric: a left-right flip of the head is a flip of the array."""


def block_in(block: tuple[slice, ...], box: tuple[slice, ...]) -> Box | None:
    """Voxels of a block, counted from the first voxel of a box that contains it; None if the box does not."""
    if any(b.start < t.start or t.stop < b.stop for b, t in zip(block, box, strict=True)):
        return None
    x, y, z = (slice(b.start - t.start, b.stop - t.start) for b, t in zip(block, box, strict=True))
    return x, y, z


def fuse(tiles: Mapping[str, NDArray[Any]], geometry: Geometry) -> LabelVolume:
    """Fuse the labels of the tiles by majority vote; of equally frequent labels, the smallest index wins.

    Parameters
    ----------
    tiles
        For every tile, by name, integer label indices 0 to 132, shape ``geometry.tile_shape`` in (x, y, z) order.
    geometry
        The grid and its tiles.

    Returns
    -------
    numpy.ndarray
        Label indices, shape ``geometry.grid.shape``, int32; 0 outside all tiles.

    Raises
    ------
    InputError
        If a tile is missing, unknown, has another shape or type, or contains other numbers.
    """
    votes = _checked(tiles, geometry)
    boxes = {name: geometry.box(name) for name in geometry.names}
    fused = np.zeros(geometry.grid.shape, dtype=np.int32)
    for block in geometry.blocks():
        parts = {name: block_in(block, box) for name, box in boxes.items()}
        covering = [votes[name][part] for name, part in parts.items() if part is not None]
        if covering:
            fused[block] = _mode(covering)
    return fused


def _mode(votes: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Most frequent value of arrays of the same shape; the smallest of equally frequent values.

    Pairs of arrays are compared, so the cost grows with the square of their number (at most 27); nothing is sorted.
    """
    stacked = np.stack([v.ravel() for v in votes])
    count = np.ones(stacked.shape, dtype=np.uint8)
    for i, j in itertools.combinations(range(len(stacked)), 2):
        agree = stacked[i] == stacked[j]
        count[i] += agree
        count[j] += agree
    rank = count.astype(np.uint16) * 256 + (255 - stacked)
    best: NDArray[np.uint8] = (255 - rank.max(axis=0) % 256).astype(np.uint8)
    return best.reshape(votes[0].shape)


def _checked(tiles: Mapping[str, NDArray[Any]], geometry: Geometry) -> dict[str, NDArray[np.uint8]]:
    expected = geometry.names
    missing, unknown = [n for n in expected if n not in tiles], [str(n) for n in tiles if n not in expected]
    if missing or unknown:
        received = f"missing {', '.join(missing)}" if missing else f"unknown {', '.join(unknown)}"
        msg = (
            f"tiles of geometry {geometry.name} must be the {len(expected)} from {expected[0]} to {expected[-1]}; "
            f"received {len(tiles)}, {received}: give one array for every name"
        )
        raise InputError(msg)
    checked = {}
    for name in expected:
        values = np.asarray(tiles[name])
        if values.shape != geometry.tile_shape or values.dtype.kind not in "iu":
            msg = (
                f"tile {name} must be integer labels of shape {geometry.tile_shape} in (x, y, z) order; "
                f"received {values.dtype} of shape {values.shape}: take the argmax over labels, and check the axes"
            )
            raise InputError(msg)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > MAXIMUM_LABEL:
            msg = (
                f"tile {name} must hold label indices 0 to {MAXIMUM_LABEL}; received {low} to {high}: "
                "BrainCOLOR ids are not indices, see efface.segmentation.labels.index_lookup"
            )
            raise InputError(msg)
        checked[name] = values.astype(np.uint8)
    return checked
