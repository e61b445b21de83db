"""Templates from installed packages: average head, face mask, BrainCOLOR template and labels; and our priors.

The packages are located, never imported: their own dependencies stay unloaded. All volumes are RAS+.
"""

import functools
import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np

from efface.errors import DataPackageError
from efface.spatial.types import BoolVolume, Grid, LabelVolume, Volume

PRIOR_GRID = Grid((121, 156, 166), np.array([[2.0, 0, 0, -120], [0, 2.0, 0, -140], [0, 0, 2.0, -190], [0, 0, 0, 1]]))
"""Where the priors are: average-head space with a wider field of view, down to the neck, 2 mm."""
FEATURE_LABELS = {"eyes": 1, "nose": 2, "ears": 3, "mouth": 4}
PRIORS = ("brain", "face", "features", "face_and_ears", "air", "head", "tissue", "face_shape")
SHAPE_UNIT_MM = 0.25
"""Of the numbers in the file of ``face_shape``."""


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
def cranium() -> BoolVolume:
    """Mask of the average head above a plane from the nasion to the nape: what defacing leaves."""
    head = average_head()
    plane = head.affine[2] - 0.4 * head.affine[1]  # z - 0.4 y, as a function of the voxel index
    i, j, k = np.ix_(*[np.arange(n) for n in head.data.shape])
    above: BoolVolume = plane[0] * i + plane[1] * j + plane[2] * k + plane[3] > -15.0 - 0.4 * 95.0
    return above


@functools.cache
def braincolor_template() -> Volume:
    """Load the skull-stripped template of deepmriprep, 339x411x339, 0.5 mm, intensities in [0, 1]."""
    return _load("deepmriprep", "data/templates/Template_05mm_bet.nii.gz")


@functools.cache
def braincolor_labels() -> tuple[LabelVolume, Volume]:
    """Load BrainCOLOR labels in the template's space, 161x197x161, 1 mm: as int32, and as a volume (float32)."""
    volume = _load("deepmriprep", "data/templates/neuromorphometrics.nii.gz")
    return np.rint(volume.data).astype(np.int32), volume


@functools.cache
def prior(name: str) -> Volume:
    """Load one of `PRIORS`, made by `efface.training.priors`, on `PRIOR_GRID`.

    ``brain``, ``face`` and ``head`` are probabilities, not zero wherever any head had any; ``features`` holds
    `FEATURE_LABELS`; ``face_and_ears`` and ``air`` are masks; ``tissue`` is the mean intensity of head tissue in
    percent of the brain's, around ``face_and_ears`` only, as ``head`` is. ``face_shape`` is the signed distance to the
    mean skin of other heads, mm, positive inside (`efface.training.face_shape`).
    """
    return read_prior(Path(__file__).parents[1] / "data", name)


def read_prior(folder: Path, name: str) -> Volume:
    """Read a prior of any folder, see `prior`."""
    path = folder / f"{name}.nii.gz"
    if not path.is_file():
        msg = f"the prior {name} is missing from the installed efface ({path}): install it again"
        raise DataPackageError(msg)
    image = nib.load(path)
    data = np.asarray(image.dataobj, dtype=np.float32)
    if name in ("brain", "face", "head"):
        data = data / np.float32(255)
    if name == "face_shape":
        data = data * np.float32(SHAPE_UNIT_MM)
    return Volume(data, np.asarray(image.affine, dtype=np.float64))


def _load(package: str, relative_path: str) -> Volume:
    image = nib.as_closest_canonical(nib.load(data_file(package, relative_path)))
    data = np.ascontiguousarray(np.asanyarray(image.dataobj), dtype=np.float32)
    return Volume(data, np.asarray(image.affine, dtype=np.float64))
