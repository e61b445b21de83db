"""The BrainCOLOR template: a T1-like image of the brain, composed from the tissue template of `deepmriprep`.

`deepmriprep` has two templates. Its labels are in the space of the tissue template (`Template_4_GS`: grey matter, white
matter and fluid after shooting registration). The brain of its T1 template (`Template_05mm_bet`) is an affine average
and 2 to 4 % larger. The image composed from the tissue template fits the labels and is sharper than the T1 template.
"""

import functools

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.templates import braincolor_labels, data_file
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, Grid, LabelVolume, Volume

T1_OF_TISSUE = (0.2, 0.62, 0.9)
"""Intensities of fluid, grey and white matter in the composed image; only their order matters for local correlation."""


@functools.cache
def load_template() -> Volume:
    """Make the T1-like image of the brain, 0 outside; takes about half a second, once a process.

    Raises
    ------
    DataPackageError
        If the package with the template is not installed.
    """
    labels, volume = braincolor_labels()
    tissue, affine = load_tissue()
    x, y, z = tissue.shape[1:]
    return _compose(tissue, labels, volume.affine, Grid((x, y, z), affine))


@functools.cache
def load_tissue() -> tuple[NDArray[np.float32], Affine]:
    """Load the tissue template.

    Returns
    -------
    tissue : numpy.ndarray
        Probabilities of fluid, grey and white matter, shape (3, x, y, z), RAS+.
    affine : numpy.ndarray
        Voxel to RAS+ mm, shape (4, 4).

    Raises
    ------
    DataPackageError
        If the package with the template is not installed.
    """
    image = nib.as_closest_canonical(nib.load(data_file("deepmriprep", "data/templates/Template_4_GS.nii.gz")))
    stored = np.moveaxis(image.get_fdata(dtype=np.float32), -1, 0)
    return np.ascontiguousarray(stored[[2, 0, 1]]), np.asarray(image.affine, dtype=np.float64)


def _compose(tissue: NDArray[np.float32], labels: LabelVolume, labels_affine: Affine, grid: Grid) -> Volume:
    """Sum of the tissue probabilities times their intensities, inside the labels and the sulci between them."""
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(labels > 0, 4), iterations=4))[4:-4, 4:-4, 4:-4]
    inside = resample(Volume(brain.astype(np.float32), labels_affine), grid) > 0.5
    image = np.tensordot(np.array(T1_OF_TISSUE, dtype=np.float32), tissue, axes=1)
    return Volume(np.where(inside, image, 0).astype(np.float32), grid.affine)
