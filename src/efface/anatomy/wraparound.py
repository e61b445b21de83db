"""Wrap-around: tissue that leaves the image at one border and goes on at the opposite one.

Along a phase-encoded axis an image is a ring: what does not fit in the field of view appears at the other end. A nose
that was cut off by the front border hangs behind the head. It is found as a piece of tissue that touches one border, is
not connected to the head inside the image, and fits onto the head across the border. It is put back in its place, in a
larger image, where every method and the quality check see a whole head.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.skin import BRIGHTEST_PERCENTILE, OTSU_SHARE
from efface.io.scan import Scan, load_scan
from efface.spatial.masks import connected_pieces, otsu_threshold
from efface.spatial.resampling import block_mean
from efface.spatial.types import Affine, BoolVolume, Grid, PieceNumbers, Volume

SEARCH_MM = 2.0
"""Voxel size at which pieces are looked for."""
SMOOTH_MM = 1.6
NOISE_SIGMAS, MAD_TO_SIGMA = 5.0, 1.4826
BLANK_MM = 16.0
"""So much of an image may be blank at a border, where resampling or a correction of distortions left nothing."""
BORDER_MM = 4.0
"""A piece this near the border touches it: interpolation darkens the outermost voxels."""
LEAST_ML, LEAST_CM2 = 0.2, 0.3
"""Smaller pieces, or with a smaller section at the border, are noise."""
FIT = 0.7
"""Share of a piece's section at the border that must lie on that of the head at the other border. Not all: where a
correction of distortions moved the two."""
SHOULDER_ML = 5.0
"""Smaller pieces that touch the bottom of the image, and come in at its sides, are of a shoulder."""
AROUND_MM = 10.0
"""Air around a piece that goes with it."""
ROOM_MM = 20.0
"""Air in front of a piece that was put back."""
MOST_AIR = 100_000
"""Voxels of air that are kept to draw from."""


@dataclass(frozen=True, eq=False)
class Wrap:
    """Where the voxels of a scan belong in an image with the whole head.

    Attributes
    ----------
    shape
        Of the scan.
    pieces
        Number of the move that each voxel makes, on the scan's grid; 0 stays where it is.
    offsets
        By how many voxels each move goes, shape (number of moves, 3).
    before, after
        Voxels that the larger image has more, at the lower and the upper end of each axis.
    air
        Voxels of air in the scan, flat indices: what is empty is filled from them.
    volume_ml
        Of the tissue that wraps around.
    """

    shape: tuple[int, int, int]
    pieces: NDArray[np.uint16]
    offsets: NDArray[np.intp]
    before: NDArray[np.intp]
    after: NDArray[np.intp]
    air: NDArray[np.intp] = field(repr=False)
    volume_ml: float = 0.0

    @property
    def warning(self) -> str:
        """What the user should know, in one line."""
        names = ("left-right", "front-back", "top-bottom")
        axes = [name for name, offsets in zip(names, self.offsets.T, strict=True) if offsets.any()]
        return (
            f"the head wraps around the border of the image ({' and '.join(axes)}): {self.volume_ml:.1f} ml of it lie "
            "at the opposite side and were taken as part of the head; look at the result"
        )

    def affine(self, affine: Affine) -> Affine:
        """Voxel-to-mm affine of the larger image, from that of the scan: what stays keeps its place in mm."""
        moved: Affine = affine.copy()
        moved[:3, 3] -= affine[:3, :3] @ self.before
        return moved

    def whole(self, values: NDArray[Any], *, empty: Any = None) -> NDArray[Any]:
        """Put the pieces back: values on the scan's grid to the larger image.

        Parameters
        ----------
        values
            Shape of the scan.
        empty
            Where the larger image has no voxel of the scan, and where a piece was; None draws from the values in `air`.
        """
        size = np.array(self.shape) + self.before + self.after
        if empty is None:
            drawn = np.random.default_rng(self.air.size).integers(self.air.size, size=tuple(size))
            large = values.ravel()[self.air[drawn]]
        else:
            large = np.full(tuple(size), empty, dtype=values.dtype)
        stays = self.pieces == 0
        large[self._home][stays] = values[stays]
        for voxels, places in self._moves():
            large[places] = values[voxels]
        return large

    def back(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values on the larger image to the scan's grid."""
        own = values[self._home].copy()
        for voxels, places in self._moves():
            own[voxels] = values[places]
        return np.ascontiguousarray(own)

    def extended(self, mask: BoolVolume) -> BoolVolume:
        """A mask of the scan on the larger image, continued beyond the scan's borders as it is there."""
        margins = [(int(b), int(a)) for b, a in zip(self.before, self.after, strict=True)]
        large: BoolVolume = np.pad(mask, margins, mode="edge")
        for voxels, places in self._moves():
            large[places] = mask[voxels]
        return large

    @property
    def _home(self) -> tuple[slice, ...]:
        return tuple(slice(int(b), int(b) + n) for b, n in zip(self.before, self.shape, strict=True))

    def _moves(self) -> Iterator[tuple[tuple[NDArray[np.intp], ...], tuple[NDArray[np.intp], ...]]]:
        """Of each move: its voxels in the scan, and in the larger image."""
        for number, offset in enumerate(self.offsets, start=1):
            voxels = np.nonzero(self.pieces == number)
            yield voxels, tuple(v + int(o) + int(b) for v, o, b in zip(voxels, offset, self.before, strict=True))


def whole_scan(scan: Scan, wrap: Wrap) -> Scan:
    """Make the larger image with the whole head: same dtype and scaling, RAS+ axes."""
    stored, dtype = scan.encode(wrap.whole(scan.data)), scan.stored.dtype.newbyteorder("=")
    image = nib.Nifti1Image(stored.astype(dtype), wrap.affine(scan.affine), dtype=dtype)
    image.header.set_slope_inter(scan.slope, scan.inter)
    return load_scan(image)


def find_wrap(volume: Volume) -> Wrap | None:
    """Find tissue that continues across the border of an image; None if there is none.

    Parameters
    ----------
    volume
        A head, RAS+.
    """
    small = block_mean(volume, SEARCH_MM)
    tissue = _tissue(small)
    if tissue is None or not tissue.any():
        return None
    spacing_mm = small.grid.spacing_mm
    borders = [_borders(small, axis) for axis in range(3)]
    labels, sizes_ml = _components(tissue, spacing_mm)
    turns = _turns(labels, sizes_ml, borders, spacing_mm)
    if not turns:
        return None
    step = np.rint(spacing_mm / volume.grid.spacing_mm).astype(int)
    rings = np.array([_ring(volume, axis, borders[axis], int(step[axis])) for axis in range(3)])
    moves = np.unique(list(turns.values()), axis=0)
    pieces = _with_air(labels, sizes_ml, [[p for p, t in turns.items() if (t == m).all()] for m in moves], spacing_mm)
    for axis in range(3):
        pieces = np.repeat(pieces, step[axis], axis=axis)
    x, y, z = volume.data.shape
    pieces = np.ascontiguousarray(pieces[:x, :y, :z])
    offsets = moves * rings
    before, after = _room(pieces, offsets, volume.grid)
    away = ~ndimage.binary_dilation(tissue, iterations=2)
    air = _air(volume, away, step)
    return Wrap((x, y, z), pieces, offsets, before, after, air, float(sum(sizes_ml[label] for label in turns)))


def _tissue(volume: Volume) -> BoolVolume | None:
    """What stands out from the air; None for an image without contrast."""
    values = ndimage.gaussian_filter(volume.data, SMOOTH_MM / volume.grid.spacing_mm)
    clipped = values.clip(0, np.percentile(values, BRIGHTEST_PERCENTILE))
    if clipped.min() == clipped.max():
        return None
    otsu = otsu_threshold(clipped)
    dark = values[values < otsu]
    level = float(np.median(dark))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(dark - level)))
    # In a very noisy scan, half of Otsu's threshold is within the noise of the air.
    return np.asarray(values > min(otsu, max(OTSU_SHARE * otsu, level + NOISE_SIGMAS * spread)), dtype=np.bool_)


def _borders(volume: Volume, axis: int) -> tuple[int, int]:
    """First and last slice along an axis that are not blank, as far as `BLANK_MM` from the ends."""
    others = tuple(a for a in range(3) if a != axis)
    count = volume.data.shape[axis]
    filled = np.flatnonzero(volume.data.max(axis=others) > volume.data.min(axis=others))
    most = int(BLANK_MM / volume.grid.spacing_mm[axis])
    low, high = int(filled[0]), int(filled[-1])
    return (low if low <= most else 0, high if count - 1 - high <= most else count - 1)


def _components(tissue: BoolVolume, spacing_mm: NDArray[np.float64]) -> tuple[PieceNumbers, NDArray[np.float64]]:
    """Connected pieces of tissue, and their volumes, ml; number 0 is air."""
    labels, sizes = connected_pieces(tissue)
    return labels, sizes * float(np.prod(spacing_mm)) / 1000


def _turns(
    labels: PieceNumbers,
    sizes_ml: NDArray[np.float64],
    borders: list[tuple[int, int]],
    spacing_mm: NDArray[np.float64],
) -> dict[int, NDArray[np.intp]]:
    """Pieces that fit onto the head across a border, and how often each goes around along each axis, shape (3,)."""
    head = int(np.argmax(sizes_ml))
    bottom = np.unique(labels[:, :, borders[2][0] : borders[2][0] + 2])
    is_shoulder = np.isin(np.arange(sizes_ml.size), bottom) & (sizes_ml < SHOULDER_ML)
    turns = {head: np.zeros(3, dtype=np.intp)}
    waiting = [head]
    while waiting:
        known = waiting.pop()
        for axis, (low, high) in enumerate(borders):
            thick = max(1, round(BORDER_MM / float(spacing_mm[axis])))
            ends = [labels.take(range(low, low + thick), axis), labels.take(range(high + 1 - thick, high + 1), axis)]
            area_cm2 = float(np.delete(spacing_mm, axis).prod()) / 100
            for own, other, turn in ((0, 1, -1), (1, 0, 1)):
                for piece, voxels in _fitting(ends[own], ends[other], known, axis):
                    small = voxels * area_cm2 < LEAST_CM2 or sizes_ml[piece] < LEAST_ML
                    if piece not in turns and not small and not (axis == 0 and is_shoulder[piece]):
                        turns[piece] = turns[known] + turn * np.eye(3, dtype=np.intp)[axis]
                        waiting.append(piece)
    found = {piece: turn for piece, turn in turns.items() if turn.any()}
    return {**_crumbs(labels, head, found, spacing_mm), **found}


def _crumbs(
    labels: PieceNumbers,
    head: int,
    found: dict[int, NDArray[np.intp]],
    spacing_mm: NDArray[np.float64],
) -> dict[int, NDArray[np.intp]]:
    """What else is not connected to the head and lies as near to the border as a piece: it goes with the piece."""
    boxes = ndimage.find_objects(labels)
    crumbs: dict[int, NDArray[np.intp]] = {}
    for piece, turn in found.items():
        axis = int(np.argmax(np.abs(turn)))
        room = int(np.ceil(AROUND_MM / spacing_mm[axis]))
        first, last = boxes[piece - 1][axis].start - room, boxes[piece - 1][axis].stop + room
        for other, box in enumerate(boxes, start=1):
            if (
                box is not None
                and other != head
                and (box[axis].stop <= last if turn[axis] > 0 else box[axis].start >= first)
            ):
                crumbs[other] = turn
    return crumbs


def _fitting(own: PieceNumbers, other: PieceNumbers, known: int, axis: int) -> Iterator[tuple[int, int]]:
    """Pieces at the other border that lie on sections of a known piece at its own border, and their sections' size."""
    section = ndimage.binary_dilation((own == known).any(axis=axis))
    for piece in np.unique(other[(other > 0) & np.expand_dims(section, axis)]):
        theirs = (other == piece).any(axis=axis)
        if piece != known and (theirs & section).sum() >= FIT * theirs.sum():
            yield int(piece), int(theirs.sum())


def _ring(volume: Volume, axis: int, border: tuple[int, int], step: int) -> int:
    """Voxels of the scan along an axis that make one turn: those that are not blank."""
    others = tuple(a for a in range(3) if a != axis)
    low, high = border[0] * step, min((border[1] + 1) * step, volume.data.shape[axis])
    part = volume.data.take(range(low, high), axis)
    filled = np.flatnonzero(part.max(axis=others) > part.min(axis=others))
    return int(filled[-1] - filled[0] + 1)


def _with_air(
    labels: PieceNumbers,
    sizes_ml: NDArray[np.float64],
    groups: list[list[int]],
    spacing_mm: NDArray[np.float64],
) -> NDArray[np.uint16]:
    """Number of the group that each voxel goes with: its pieces, and the air around them, but not around the rest."""
    group = np.zeros(sizes_ml.size, dtype=np.uint16)
    for number, members in enumerate(groups, start=1):
        group[members] = number
    matters = (sizes_ml >= LEAST_ML) | (group > 0)
    nearest_mm, nearest = ndimage.distance_transform_edt(~matters[labels], sampling=spacing_mm, return_indices=True)
    return np.asarray(np.where(nearest_mm <= AROUND_MM, group[labels[tuple(nearest)]], 0), dtype=np.uint16)


def _room(
    pieces: NDArray[np.uint16], offsets: NDArray[np.intp], grid: Grid
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Voxels to add at the lower and the upper end of each axis, so that all pieces and some air fit in."""
    low, high = np.zeros(3), np.array(grid.shape, dtype=np.float64)
    for number, offset in enumerate(offsets, start=1):
        places = np.argwhere(pieces == number) + offset
        room = np.ceil(ROOM_MM / grid.spacing_mm)
        low = np.minimum(low, np.where(offset < 0, places.min(axis=0) - room, 0))
        high = np.maximum(high, np.where(offset > 0, places.max(axis=0) + 1 + room, 0))
    return (-low).astype(np.intp), (high - grid.shape).astype(np.intp)


def _air(volume: Volume, away: BoolVolume, step: NDArray[np.int_]) -> NDArray[np.intp]:
    """Voxels of air, flat indices: those in blocks away from all tissue, else the darkest one."""
    for axis in range(3):
        away = np.repeat(away, step[axis], axis=axis)
    x, y, z = volume.data.shape
    air = np.flatnonzero(away[:x, :y, :z])
    return air[:: max(1, air.size // MOST_AIR)] if air.size else np.array([volume.data.argmin()])
