"""Tiles of SLANT: positions, extraction, and fusion by majority vote.

A tile's name is ``i_j_k``: its position along x, y and z, counted from 1, as in the published system.

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
"""How much larger, along an axis, a brain in MNI152 space is than a living one; see `EMBEDDED`."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A standard grid, and the overlapping tiles on it.

    Attributes
    ----------
    name
        For messages and file names.
    grid
        The standard grid; its affine goes from voxels to standard RAS+ mm.
    tile_shape
        Voxels of every tile along x, y, z.
    origins
        First voxels of the tiles along x, y and z; there is a tile at every combination.
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
                    f"{size - tile}; received {starts}"
                )
                raise InputError(msg)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tiles, x slowest."""
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
        """The tile on the other side of the grid's middle along x, of a geometry whose tiles lie symmetrically."""
        x, *others = name.split("_")
        return "_".join((str(len(self.origins[0]) + 1 - int(x)), *others))

    def blocks(self) -> list[Box]:
        """The grid cut at every tile's border: each block lies in a tile as a whole, or outside it."""
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
"""The published 1 mm grid, that of the MNI305 average. Shapes and origins are those of the published code; where voxel
(0, 0, 0) lies is from the MINC header of that average (not distributed here), so check it before trusting official
weights to the millimetre."""

EMBEDDED = Geometry(
    "embedded",
    _grid((86, 110, 78), 2.0, (-85.0, -124.0, -72.0)),
    (48, 64, 44),
    ((0, 19, 38), (0, 23, 46), (0, 17, 34)),
    np.diag([SHRINK, SHRINK, SHRINK, 1.0]),
)
"""Our 2 mm grid: MNI152 space made smaller by 1.12, upright and symmetric about x = 0.

Brains in MNI space are larger than life, and 156 mm are too few for them along z: over the 19 development heads the
aligned brain masks reach from -77 to 88 mm. Made smaller, brains have about their own size, 2 mm are 2 mm of tissue,
and all masks lie inside with at least 4 mm to spare. Symmetry makes a left-right flip one of the arrays."""


def place_in(block: tuple[slice, ...], box: tuple[slice, ...]) -> Box | None:
    """A block of the grid as voxels of a box that holds it, or None where it does not."""
    if any(b.start < t.start or t.stop < b.stop for b, t in zip(block, box, strict=True)):
        return None
    x, y, z = (slice(b.start - t.start, b.stop - t.start) for b, t in zip(block, box, strict=True))
    return x, y, z


def fuse(tiles: Mapping[str, NDArray[Any]], geometry: Geometry) -> LabelVolume:
    """Fuse the tiles' labels by majority vote; ties go to the smallest label index.

    Parameters
    ----------
    tiles
        For every tile, by its name ``i_j_k`` (x, y, z, counted from 1), integer label indices 0 to 132, shape
        ``geometry.tile_shape`` in (x, y, z) order.
    geometry
        Where the tiles lie.

    Returns
    -------
    numpy.ndarray
        Label indices, shape ``geometry.grid.shape``, int32; 0 where no tile lies.

    Raises
    ------
    InputError
        If a tile is missing, unknown, of another shape or type, or holds other numbers.
    """
    votes = _checked(tiles, geometry)
    boxes = {name: geometry.box(name) for name in geometry.names}
    fused = np.zeros(geometry.grid.shape, dtype=np.int32)
    for block in geometry.blocks():
        there = {name: place_in(block, box) for name, box in boxes.items()}
        covering = [votes[name][part] for name, part in there.items() if part is not None]
        if covering:
            fused[block] = _mode(covering)
    return fused


def _mode(votes: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Most frequent value of equally shaped arrays, the smallest of several.

    Counting who agrees with whom costs the square of the number of votes, at most 27, and needs no sorting.
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
            f"received {len(tiles)}, {received}: hand in one array for every name"
        )
        raise InputError(msg)
    checked = {}
    for name in expected:
        values = np.asarray(tiles[name])
        if values.shape != geometry.tile_shape or values.dtype.kind not in "iu":
            msg = (
                f"tile {name} must be integer labels of shape {geometry.tile_shape} in (x, y, z) order; "
                f"received {values.dtype} of shape {values.shape}: take the arg-max over labels, and check the axes"
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
