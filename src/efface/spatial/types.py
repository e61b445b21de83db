"""Array aliases that say shape and dtype, and the one record that ties voxels to millimetres.

World coordinates are RAS+ mm everywhere inside efface. All volumes are 3-D and indexed (x, y, z).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatVolume: TypeAlias = NDArray[np.float32]
"""Intensities, shape (x, y, z), float32."""
BoolVolume: TypeAlias = NDArray[np.bool_]
"""A mask, shape (x, y, z)."""
LabelVolume: TypeAlias = NDArray[np.int32]
"""A segmentation, shape (x, y, z), int32 label numbers, 0 = background."""
PieceNumbers: TypeAlias = NDArray[np.integer[Any]]
"""Which connected piece of a mask each voxel belongs to, shape (x, y, z), 0 = none."""
Affine: TypeAlias = NDArray[np.float64]
"""A 4x4 homogeneous matrix, float64; voxel to RAS+ mm, or mm to mm."""
Displacement: TypeAlias = NDArray[np.float32]
"""A displacement field, shape (x, y, z, 3), RAS+ mm."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume are: shape (x, y, z) and voxel-to-RAS+ mm affine (4x4)."""

    shape: tuple[int, int, int]
    affine: Affine

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Voxel edge lengths in mm, shape (3,)."""
        spacing: NDArray[np.float64] = np.linalg.norm(self.affine[:3, :3], axis=0)
        return spacing

    def cropped(self, box: tuple[slice, ...]) -> "Grid":
        """The grid of a box of its voxels."""
        ranges = [range(*part.indices(n)) for part, n in zip(box, self.shape, strict=True)]
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ [r.start for r in ranges] + self.affine[:3, 3]
        x, y, z = (len(r) for r in ranges)
        return Grid((x, y, z), affine)


@dataclass(frozen=True)
class Volume:
    """Voxel values (x, y, z) and their voxel-to-RAS+ mm affine (4x4)."""

    data: FloatVolume
    affine: Affine

    @property
    def grid(self) -> Grid:
        """The grid the values live on."""
        x, y, z = self.data.shape
        return Grid((x, y, z), self.affine)
