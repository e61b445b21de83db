"""The space half-way between two sessions of a person, in which both are interpolated once, and alike.

Where one session is sampled on the other's grid, only that one is interpolated, and interpolation smooths. Longitudinal
pipelines avoid this: the rigid transform between the sessions is split into two equal halves, and each session is
sampled once, through one half of it. The grid lies half-way too, between the grids of the two sessions as seen from
there: the map from its voxels to those of one session is the inverse of the map to those of the other, where both have
the same voxel size.

References
----------
Reuter, Schmansky, Rosas, Fischl. "Within-subject template estimation for unbiased longitudinal image analysis."
NeuroImage 61 (2012) 1402-1418.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from efface.anatomy.background import air_level
from efface.io.scan import Scan, load_scan
from efface.spatial.affine import invert
from efface.spatial.grid_limits import check_voxels
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, FloatVolume, Grid, Volume
from efface.study.session_registration import INTERPOLATION, control_turn, padded

MOVING_ORDER = 5
"""Order of the spline by which the control is moved: it smooths much less than linear interpolation."""


@dataclass(frozen=True, eq=False)
class HalfwaySpace:
    """A grid between two sessions, and where its points are in each.

    Attributes
    ----------
    grid
        The grid; its axes are nearest to right, anterior, superior.
    to_first, to_second
        Half-way mm to the mm of either session, shape (4, 4), rigid; one is the inverse of the other.
    """

    grid: Grid
    to_first: Affine
    to_second: Affine

    def first(self, scan: Scan) -> Scan:
        """Sample the first session."""
        return self._sampled(scan.volume, self.to_first, air_level(scan.data))

    def second(self, scan: Scan) -> Scan:
        """Sample the second session."""
        return self._sampled(scan.volume, self.to_second, air_level(scan.data))

    def control(self, scan: Scan) -> Scan:
        """Sample the first session after a small known move, as if it were the second one.

        The move is made by a spline that hardly smooths, so this image has been interpolated linearly once, as the
        first session's has: what their segmentations differ by is due to interpolation, not to a second scan.
        """
        turn, air = control_turn(scan), air_level(scan.data)
        grid = padded(scan.grid)
        moved = resample(scan.volume, grid, turn, order=MOVING_ORDER, fill=air)
        moved = np.clip(moved, scan.data.min(), scan.data.max())  # a spline overshoots at edges
        return self._sampled(Volume(moved, grid.affine), invert(turn) @ self.to_first, air)

    def _sampled(self, volume: Volume, to_scan: Affine, air: float) -> Scan:
        values: FloatVolume = resample(volume, self.grid, to_scan, order=INTERPOLATION, fill=air)
        image = nib.Nifti1Image(values, self.grid.affine)
        image.header.set_xyzt_units("mm")
        return load_scan(image)


def halfway_space(first: Grid, second: Grid, first_to_second: Affine) -> HalfwaySpace:
    """Split a rigid registration into two halves, and lay a grid between those of the sessions.

    Parameters
    ----------
    first, second
        Grids of the two sessions.
    first_to_second
        First session's mm to second session's mm, shape (4, 4), rigid.

    Raises
    ------
    InputError
        If the grid would be too large.
    """
    to_second = half_of(first_to_second)
    to_first = invert(to_second)
    frames = [_frame(to_second @ first.affine, first.shape), _frame(to_first @ second.affine, second.shape)]
    middle = frames[0] @ half_of(invert(frames[0]) @ frames[1])
    spacing = np.sqrt(first.spacing_mm * second.spacing_mm)
    sides = np.maximum(first.spacing_mm * first.shape, second.spacing_mm * second.shape)
    shape = np.ceil(sides / spacing - 1e-3).astype(int)
    from_corner = np.diag([*spacing, 1.0])
    from_corner[:3, 3] = -spacing * (shape - 1) / 2
    affine = middle @ from_corner
    turned = orientations.io_orientation(affine)  # a scan whose axes are stored in another order is turned when loaded
    x, y, z = (int(shape[int(np.flatnonzero(turned[:, 0] == axis)[0])]) for axis in range(3))
    check_voxels((x, y, z), "sampling two sessions half-way between them")
    upright = affine @ orientations.inv_ornt_aff(turned, tuple(map(int, shape)))
    return HalfwaySpace(Grid((x, y, z), upright), to_first, to_second)


def _frame(affine: Affine, shape: tuple[int, ...]) -> Affine:
    """The rigid transform from mm along the axes of a grid, from its centre, to mm."""
    frame = np.eye(4)
    frame[:3, :3] = _axes(affine)
    frame[:3, 3] = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    return frame


def half_of(rigid: Affine) -> Affine:
    """The rigid transform which, applied twice, gives this one.

    Parameters
    ----------
    rigid
        Shape (4, 4); of its linear part the nearest rotation counts. The rotation is less than 180 degrees.
    """
    half = np.eye(4)
    half[:3, :3] = Rotation.from_rotvec(Rotation.from_matrix(_axes(rigid)).as_rotvec() / 2).as_matrix()
    half[:3, 3] = np.linalg.solve(half[:3, :3] + np.eye(3), rigid[:3, 3])
    return half


def _axes(affine: Affine) -> NDArray[np.float64]:
    """The rotation nearest to an affine, of whose columns only the directions count."""
    u, _, vt = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    nearest: NDArray[np.float64] = u @ vt
    return nearest
