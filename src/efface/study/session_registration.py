"""Registration of one session of a person to another, and a control that only resamples a scan.

References
----------
Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022), section 3.3.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.anatomy.background import air_level
from efface.errors import RegistrationError
from efface.io.scan import Scan
from efface.spatial.grid_limits import check_voxels
from efface.spatial.registration import AffineResult, register_affine, register_deformable
from efface.spatial.resampling import Warp, block_mean, resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, Volume

FINEST_MM = 2.0
"""Finest voxel size at which sessions are registered: 1 mm scans in blocks of 2 mm, 1.5 mm scans as they are."""
INTERPOLATION = 1
"""Order of the spline that samples intensities: linear, the default of the usual registration tools."""
CONTROL_DEG, CONTROL_MM = 2.0, 2.0
"""Rotation and translation of the control's transform, about what a person moves between sessions."""
PAD_MM = 12.0
"""Padding of the control's intermediate grid on every side, so that nothing leaves it."""


@dataclass(frozen=True)
class Aligned:
    """A scan on another scan's grid.

    Attributes
    ----------
    values
        Intensities on the fixed scan's RAS+ grid.
    record
        Result of the registration, for the JSON beside the image: matrix (fixed mm to moving mm) and score.
    """

    values: FloatVolume
    record: dict[str, Any]


def align(fixed: Scan, moving: Scan, brain: BoolVolume, transform: str) -> Aligned:
    """Register one session to another, weighted by the brain mask, and sample it on the other's grid.

    Parameters
    ----------
    fixed, moving
        Two scans of one person.
    brain
        Brain mask of `fixed`, on its grid: only these voxels count in the cost.
    transform
        ``rigid`` (6 degrees of freedom), ``affine`` (12), or ``deformable`` (affine, then deformable).

    Raises
    ------
    RegistrationError
        If the registration did not converge.
    """
    found = register_sessions(fixed, moving, brain, dof=6 if transform == "rigid" else 12)
    through: Affine | Warp = found.matrix
    record: dict[str, Any] = {"Transform": transform, "FixedToMoving": found.matrix.tolist(), "Score": found.score}
    if transform == "deformable":
        through = _deformable(fixed, moving, brain, found.matrix)
        inside = np.linalg.norm(through.displacement[brain], axis=-1)
        record["DisplacementInBrainMm"] = {"mean": float(inside.mean()), "largest": float(inside.max())}
    air = air_level(moving.data)
    return Aligned(resample(moving.volume, fixed.grid, through, order=INTERPOLATION, fill=air), record)


def register_sessions(fixed: Scan, moving: Scan, brain: BoolVolume, *, dof: int) -> AffineResult:
    """Register one session to another, weighted by the brain mask.

    Parameters
    ----------
    fixed, moving, brain
        As for `align`.
    dof
        6 (rigid) or 12 (affine).

    Raises
    ------
    RegistrationError
        If the registration did not converge.
    """
    found = register_affine(fixed.volume, moving.volume, dof=dof, weight=brain, finest_mm=FINEST_MM)
    if not found.converged:
        msg = f"the sessions could not be registered to each other: {found.reason}; check that both show one person"
        raise RegistrationError(msg)
    return found


def resample_and_back(scan: Scan) -> Aligned:
    """Sample a scan through a small rigid transform, and the result through its inverse, on the scan's own grid.

    Differences between its segmentation and the scan's own are due to interpolation alone. It is interpolated twice and
    a registered rescan once, so it is an upper bound for the effect of resampling on a rescan.
    """
    turn = control_turn(scan)
    air = air_level(scan.data)
    there = resample(scan.volume, padded(scan.grid), turn, order=INTERPOLATION, fill=air)
    back = np.asarray(np.linalg.inv(turn), dtype=np.float64)
    values = resample(Volume(there, padded(scan.grid).affine), scan.grid, back, order=INTERPOLATION, fill=air)
    return Aligned(values, {"Transform": "resample", "ThereAndBack": turn.tolist()})


def control_turn(scan: Scan) -> Affine:
    """The control's small rigid transform about the centre of the scan, mm, (4, 4), seeded from its intensities."""
    rng = np.random.default_rng(scan.seed)
    axis, shift = rng.standard_normal(3), rng.standard_normal(3)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.deg2rad(CONTROL_DEG)).as_matrix()
    centre = scan.affine[:3, :3] @ ((np.array(scan.shape) - 1) / 2) + scan.affine[:3, 3]
    turn[:3, 3] = centre - turn[:3, :3] @ centre + shift / np.linalg.norm(shift) * CONTROL_MM
    return turn


def padded(grid: Grid) -> Grid:
    """The grid with `PAD_MM` more on every side.

    Raises
    ------
    InputError
        If it would be too large.
    """
    pad = np.ceil(PAD_MM / grid.spacing_mm).astype(int)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.affine[:3, 3] - grid.affine[:3, :3] @ pad
    x, y, z = (int(n + 2 * p) for n, p in zip(grid.shape, pad, strict=True))
    check_voxels((x, y, z), "resampling the scan and back")
    return Grid((x, y, z), affine)


def _deformable(fixed: Scan, moving: Scan, brain: BoolVolume, affine: Affine) -> Warp:
    """Find the deformation at about 2 mm and interpolate it onto the fixed scan's grid."""
    coarse = block_mean(fixed.volume, FINEST_MM)
    inside = block_mean(Volume(brain.astype(np.float32), fixed.affine), FINEST_MM).data >= 0.5
    warp = register_deformable(coarse, block_mean(moving.volume, FINEST_MM), affine, mask=inside)
    to_coarse = np.linalg.inv(coarse.affine) @ fixed.affine
    parts = [
        ndimage.affine_transform(
            warp.displacement[..., i], to_coarse[:3, :3], to_coarse[:3, 3], fixed.shape, order=1, mode="nearest"
        )
        for i in range(3)
    ]
    return Warp(np.stack(parts, axis=-1), fixed.grid, affine)
