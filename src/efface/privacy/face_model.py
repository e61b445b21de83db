"""Faces of nobody: drawn from a shape model of the face region (`efface.training.face_gallery`).

A face is the mean of the model, its modes in random amounts, and smooth random relief of the size of what the modes
cannot show of people that the model has not seen. So no face that the model was learned from can be drawn.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from efface.errors import DataPackageError, InputError
from efface.io.array_files import read_arrays
from efface.privacy.face_map import SHAPE, STEP_DEG, Map

FILE = "face_gallery.npz"
UNIT_MM = 0.01
"""Of the numbers in the file."""
ARRAYS = ("mean", "modes", "relief")
RELIEF_DEG = 10.0
"""Length of the smooth relief's bumps: so fast, what the modes cannot show changes from ray to ray."""
SEED = 2022
LARGEST_BYTES = 4_000_000


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A shape model of the face region.

    Attributes
    ----------
    mean
        Shape `SHAPE`, mm.
    modes
        Each by one standard deviation, mm, shape (modes, *SHAPE).
    relief
        Standard deviation of what the modes do not show, mm, shape `SHAPE`.
    """

    mean: Map
    modes: Map
    relief: Map

    @functools.cached_property
    def spread(self) -> Map:
        """Standard deviation of faces, mm, shape `SHAPE`."""
        return np.asarray(np.sqrt((self.modes**2).sum(axis=0) + self.relief**2), dtype=np.float64)

    def drawn(self, count: int, seed: int = SEED) -> NDArray[np.float32]:
        """Draw faces: maps without holes, shape (count, *SHAPE), mm. The same for the same seed.

        Parameters
        ----------
        count
            How many.
        seed
            Of the random numbers; the first faces are the same for every `count`.
        """
        rng = np.random.default_rng(seed)
        roots = [smooth_root(n, RELIEF_DEG) for n in SHAPE]
        shape = (len(self.modes), roots[0].shape[1] * roots[1].shape[1])
        draws = rng.standard_normal((count, sum(shape)), dtype=np.float32)
        amounts, bumps = draws[:, : shape[0]], draws[:, shape[0] :]
        faces = amounts @ self.modes.reshape(shape[0], -1).astype(np.float32)
        faces = faces.reshape(count, *SHAPE)
        faces += self.mean.astype(np.float32)
        faces += self.relief.astype(np.float32) * woven(bumps, roots)
        return faces


def woven(draws: NDArray[np.float32], roots: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Smooth normal noise of `SHAPE` from independent draws, shape (count, rows * columns of the roots)."""
    rows, columns = roots
    grid = draws.reshape(len(draws), rows.shape[1], columns.shape[1])
    return np.asarray(np.matmul(rows, grid @ columns.T), dtype=np.float32)


@functools.cache
def smooth_root(count: int, length_deg: float) -> NDArray[np.float32]:
    """A root of the covariance of smooth noise along one side of a map, shape (count, parts)."""
    at = np.arange(count) * STEP_DEG
    covariance = np.exp(-((at[:, None] - at) ** 2) / (2 * length_deg**2))
    size, axes = np.linalg.eigh(covariance)
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), np.arange(count)] < 0, -1, 1)  # eigenvectors have no sign
    kept = size > 1e-3 * size.max()
    return np.asarray(axes[:, kept] * np.sqrt(size[kept]), dtype=np.float32)


def as_file_content(model: FaceModel) -> dict[str, NDArray[np.int16]]:
    """The arrays that `read_model` reads, whole numbers of `UNIT_MM`."""
    return {name: np.rint(getattr(model, name) / UNIT_MM).astype(np.int16) for name in ARRAYS}


def read_model(path: Path) -> FaceModel:
    """Read a shape model.

    Raises
    ------
    InputError
        If the file holds no model of maps of `SHAPE`.
    """
    content = read_arrays(path, ARRAYS, what="the shape model", expected="a file made by `efface train face_gallery`",
                          largest=LARGEST_BYTES)  # fmt: skip
    mean, modes, relief = (content[name].astype(np.float64) * UNIT_MM for name in ARRAYS)
    if mean.shape != SHAPE or relief.shape != SHAPE or modes.ndim != 3 or modes.shape[1:] != SHAPE:
        msg = f"{path} must hold maps of {SHAPE}; received {mean.shape}, {modes.shape}, {relief.shape}: train it again"
        raise InputError(msg)
    return FaceModel(mean, modes, relief)


@functools.cache
def face_model() -> FaceModel:
    """The model that comes with efface.

    Raises
    ------
    DataPackageError
        If it is missing.
    """
    path = Path(__file__).parents[1] / "data" / FILE
    if not path.is_file():
        msg = f"the shape model is missing from the installed efface ({path}): install it again"
        raise DataPackageError(msg)
    return read_model(path)
