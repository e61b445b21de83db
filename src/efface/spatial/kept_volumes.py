"""Correction of a displacement so that chosen tissue keeps its volume, voxel by voxel.

A displacement that is known at a surface says nothing of what lies below. Of all smooth changes below the surface, the
one is taken that brings the ratio of volumes in the tissue nearest to 1: the least of

    integral of |gradient of c|^2  +  STIFFNESS * held * (det(1 + gradient of (u + c)) - 1)^2

over the changes c. What is in between gives way. The determinant is linearised a few times; each linear system is
solved by conjugate gradients on every second voxel.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from efface.spatial.shape_registration import volume_ratio
from efface.spatial.types import BoolVolume, Displacement, FloatVolume

STIFFNESS = 30.0
"""How much a change of volume counts against a change of the displacement."""
ROUNDS = 3
"""How often the determinant is linearised."""
ACCURACY, MOST_STEPS = 1e-2, 400
"""Of the conjugate gradients: relative residual, and steps."""
LEAST_HELD = 0.01
"""Less is not held at all."""
HALF = (slice(None, None, 2),) * 3


def keep_volumes(displacement: Displacement, held: FloatVolume, free: BoolVolume, mm: float) -> Displacement:
    """Change a displacement in a part of the space so that tissue keeps its volume.

    Parameters
    ----------
    displacement
        In voxel axes, mm, shape (x, y, z, 3).
    held
        How much the volume of each voxel counts, 0 to 1, shape (x, y, z).
    free
        Where the displacement may change, shape (x, y, z). It does not elsewhere.
    mm
        Voxel edge length.

    Returns
    -------
    numpy.ndarray
        Like `displacement`. It is not looked at for folds: see `shape_registration.unfolded`.
    """
    coarse = np.asarray(displacement[HALF], dtype=np.float64)
    rows = np.flatnonzero(held[HALF] > LEAST_HELD)
    columns = np.flatnonzero(free[HALF])
    if not rows.size or not columns.size:
        return displacement
    change = _least_change(coarse, rows, columns, held[HALF].ravel()[rows].astype(np.float64), 2 * mm)
    corrected = np.array(displacement, dtype=np.float32)
    for axis in range(3):
        fine = ndimage.affine_transform(change[axis], np.full(3, 0.5), 0.0, free.shape, order=1, mode="nearest")
        corrected[free, axis] += fine[free].astype(np.float32)
    return corrected


def _least_change(
    displacement: NDArray[np.float64],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    held: NDArray[np.float64],
    mm: float,
) -> NDArray[np.float64]:
    """The change c, shape (3, x, y, z), for tissue at the flat indices `rows`, free at `columns`."""
    shape = displacement.shape[:3]
    stiff = _stiffness(shape, mm)[columns][:, columns]
    divergence = sparse.hstack([_slope(shape, axis, mm)[rows][:, columns] for axis in range(3)]).tocsr()
    weighted = STIFFNESS * (divergence.T @ sparse.diags(held))
    system = (sparse.block_diag([stiff] * 3) + weighted @ divergence).tocsr()
    scale = sparse.diags(1 / system.diagonal())
    found = np.zeros(3 * len(columns))
    for _ in range(ROUNDS):
        changed = displacement + np.moveaxis(_on_grid(found, columns, shape), 0, -1)
        wrong = volume_ratio(changed.astype(np.float32), mm).ravel()[rows] - 1
        wanted = weighted @ (divergence @ found - wrong)
        found, _ = cg(system, wanted, x0=found, rtol=ACCURACY, maxiter=MOST_STEPS, M=scale)
    return _on_grid(found, columns, shape)


def _on_grid(found: NDArray[np.float64], columns: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Three components of the free voxels, one after another, as a volume, 0 elsewhere, shape (3, x, y, z)."""
    volume = np.zeros((3, int(np.prod(shape))))
    volume[:, columns] = found.reshape(3, -1)
    return volume.reshape(3, *shape)


def _along(matrix: sparse.sparray, axis: int, shape: tuple[int, ...]) -> sparse.csr_array:
    """A matrix for one axis of a volume, for all of its voxels."""
    parts = [sparse.eye_array(n, format="csr") for n in shape]
    parts[axis] = matrix
    return sparse.csr_array(sparse.kron(sparse.kron(parts[0], parts[1]), parts[2], format="csr"))


def _slope(shape: tuple[int, ...], axis: int, mm: float) -> sparse.csr_array:
    """Central differences along one axis, one-sided at both ends, as `numpy.gradient` has them."""
    n = shape[axis]
    slope = sparse.diags_array([np.full(n - 1, -0.5), np.full(n - 1, 0.5)], offsets=[-1, 1]).tolil()
    slope[0, [0, 1]] = slope[-1, [-2, -1]] = -1.0, 1.0
    return _along(sparse.csr_array(slope) / mm, axis, shape)


def _stiffness(shape: tuple[int, ...], mm: float) -> sparse.csr_array:
    """The quadratic form of the squared slopes between neighbours."""
    total = sparse.csr_array((int(np.prod(shape)),) * 2)
    for axis, n in enumerate(shape):
        step = sparse.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n)) / mm
        step = _along(sparse.csr_array(step), axis, shape)
        total = total + step.T @ step
    return sparse.csr_array(total)
