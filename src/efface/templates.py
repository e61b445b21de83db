"""The data efface reads from installed packages: average head, face mask, BrainCOLOR template and labels.

The packages are located, never imported: their own dependencies stay unloaded. All volumes are RAS+.
"""

import functools
import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np

from efface.arrays import LabelVolume, Volume
from efface.errors import DataPackageError


def data_file(package: str, relative_path: str) -> Path:
    """Path of a data file inside an installed package, found without importing the package.

    Raises
    ------
    DataPackageError
        If the package or the file is not installed; the text says what to install.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / relative_path
        if path.is_file():
            return path
    msg = f"data file {relative_path} of the package {package} is not installed: run `pip install {package}`"
    raise DataPackageError(msg)


@functools.cache
def average_head() -> Volume:
    """Load the average of many whole heads with faces (PyDeface), 176x256x256, about 1 mm, arbitrary units."""
    return _load("pydeface", "data/mean_reg2mean.nii.gz")


@functools.cache
def average_face_mask() -> Volume:
    """Load PyDeface's mask on the average head's grid: 1 keep, 0 remove."""
    return _load("pydeface", "data/facemask.nii.gz")


@functools.cache
def braincolor_template() -> Volume:
    """Load the skull-stripped template of deepmriprep, 339x411x339, 0.5 mm, intensities in [0, 1]."""
    return _load("deepmriprep", "data/templates/Template_05mm_bet.nii.gz")


@functools.cache
def braincolor_labels() -> tuple[LabelVolume, Volume]:
    """Load BrainCOLOR labels in the template's space, 161x197x161, 1 mm: as int32, and as a volume (float32)."""
    volume = _load("deepmriprep", "data/templates/neuromorphometrics.nii.gz")
    return np.rint(volume.data).astype(np.int32), volume


def _load(package: str, relative_path: str) -> Volume:
    image = nib.as_closest_canonical(nib.load(data_file(package, relative_path)))
    data = np.ascontiguousarray(np.asanyarray(image.dataobj), dtype=np.float32)
    return Volume(data, np.asarray(image.affine, dtype=np.float64))
