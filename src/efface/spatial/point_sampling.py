"""Sampling of multi-channel volumes and label volumes at scattered points."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from efface.spatial.affine import apply_affine, invert
from efface.spatial.types import Affine, FloatVolume, LabelVolume

CHUNK = 1 << 18
"""Points handled at a time, so that memory does not grow with the scan's resolution."""


def sample_channels(channels: FloatVolume, affine: Affine, points_mm: NDArray[Any]) -> NDArray[np.float32]:
    """Trilinear values of several volumes on one grid; outside it, the nearest edge value.

    Parameters
    ----------
    channels
        Shape (channels, x, y, z).
    affine
        Voxel to RAS+ mm of that grid.
    points_mm
        Shape (n, 3).

    Returns
    -------
    numpy.ndarray
        Shape (channels, n).
    """
    index = _voxel_index(points_mm, affine)
    unit = (2 * index / (np.array(channels.shape[1:]) - 1) - 1)[:, ::-1].astype(np.float32)
    source = torch.from_numpy(np.ascontiguousarray(channels, dtype=np.float32))[None]
    grid = torch.from_numpy(np.ascontiguousarray(unit))[None, :, None, None]
    with torch.inference_mode():
        values = torch.nn.functional.grid_sample(source, grid, align_corners=True, padding_mode="border")
    result: NDArray[np.float32] = values[0, :, :, 0, 0].numpy()
    return result


def sample_labels(labels: LabelVolume, affine: Affine, points_mm: NDArray[Any]) -> NDArray[np.int32]:
    """The label with the largest trilinear weight among the eight voxels around each point, shape (n,).

    The same as trilinear interpolation of every label's one-hot volume and arg-max, without making the volumes.
    """
    out = np.empty(len(points_mm), dtype=np.int32)
    for start in range(0, len(out), CHUNK):
        part = slice(start, start + CHUNK)
        out[part] = _largest_weight(labels, _voxel_index(points_mm[part], affine))
    return out


def _largest_weight(labels: LabelVolume, index: NDArray[np.float64]) -> NDArray[np.int32]:
    index = np.clip(index, 0, np.array(labels.shape) - 1.001)
    base = np.floor(index).astype(np.intp)
    fraction = (index - base).astype(np.float32)
    corners = np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)])
    found = np.stack([labels[tuple((base + c).T)] for c in corners])
    weight = np.stack([np.where(c, fraction, 1 - fraction).prod(axis=1) for c in corners])
    total = np.stack([np.where(found == found[c], weight, 0).sum(axis=0) for c in range(8)])
    chosen: NDArray[np.int32] = np.take_along_axis(found, total.argmax(axis=0)[None], axis=0)[0]
    return chosen


def _voxel_index(points_mm: NDArray[Any], affine: Affine) -> NDArray[np.float64]:
    return apply_affine(invert(affine), points_mm)
