"""Masks and segmentations: images of whole numbers, loaded and checked."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from efface.errors import InputError
from efface.io.encoding import raw_bytes
from efface.io.nifti_mgh import parse
from efface.io.scan import Scan
from efface.spatial.types import Affine, BoolVolume, LabelVolume


def load_mask(path: str | Path, like: Scan) -> BoolVolume:
    """Load a mask (non-zero = inside) that lies on a scan's grid, as an RAS+ array.

    Raises
    ------
    InputError
        If its shape or affine differ from the scan's, or it is empty.
    """
    image = _plain_image(path)
    data = np.asanyarray(image.dataobj)
    data = data.reshape(data.shape[:3])
    if data.shape != like.stored.shape or not np.allclose(image.affine, like.stored_affine, atol=1e-2):
        received = "another affine" if data.shape == like.stored.shape else f"{data.shape}"
        msg = f"mask {path} must lie on the scan's grid {like.stored.shape}; received {received}: resample it"
        raise InputError(msg)
    if not data.any():
        msg = f"mask {path} is empty; expected at least one non-zero voxel: check it"
        raise InputError(msg)
    return np.ascontiguousarray(like.stored_to_ras(data) != 0)


def load_labels(source: str | Path | Any) -> tuple[LabelVolume, Affine]:
    """Load a segmentation (a path or a nibabel image) in its stored orientation, with its affine.

    Raises
    ------
    InputError
        If the file is not a 3-D image of whole, non-negative numbers.
    """
    path = source if isinstance(source, str | Path) else "image"
    image = _plain_image(source)
    data = np.asanyarray(image.dataobj)
    if data.ndim < 3 or any(n != 1 for n in data.shape[3:]) or data.dtype.kind not in "iufb":
        msg = f"segmentation {path} must be one 3-D image of label numbers; received shape {data.shape}, {data.dtype}"
        raise InputError(msg)
    data = data.reshape(data.shape[:3])
    labels = np.rint(data) if data.dtype.kind == "f" else data
    if data.dtype.kind == "f" and not np.allclose(labels, data, atol=1e-3):
        msg = f"segmentation {path} holds numbers that are not whole; expected labels: resample by nearest neighbour"
        raise InputError(msg)
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.int32).max):
        msg = f"segmentation {path} holds {labels.min()} to {labels.max()}; expected label numbers from 0: check it"
        raise InputError(msg)
    return labels.astype(np.int32), np.asarray(image.affine, dtype=np.float64)


def _plain_image(source: str | Path | Any) -> Any:
    """A nibabel image of scaled values; small images are fine here."""
    container, stored, _ = parse(*raw_bytes(source))
    scaled = (container.slope, container.inter) != (1.0, 0.0)
    data = stored * container.slope + container.inter if scaled else stored
    return nib.Nifti1Image(data, container.affine, dtype=data.dtype)
