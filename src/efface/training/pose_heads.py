"""Prepare label maps of whole heads for `efface.training.pose`: tissues at 2 mm, and the pose of each.

A T1-like image of each label map is registered to the average head; the correlation of each is printed.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from efface.anatomy import templates
from efface.errors import RegistrationError
from efface.spatial.affine import invert
from efface.spatial.registration import AffineResult, register_affine
from efface.spatial.types import Affine, Volume
from efface.training.pose_synthesis import T1_LIKE, TISSUES

log = logging.getLogger(__name__)

CLASSES = {
    "white": (2, 41, 7, 46, 16, 28, 60, 85, 10, 49, 62, 30),
    "csf": (4, 43, 5, 44, 14, 15, 24),
    "eyes": (506,),
    "soft": (507, 508),
    "mucosa": (509,),
    "skin": (511,),
    "cord": (512,),
    "vessel": (514,),
    "skull": (515,),
    "bone": (516,),
    "other": (502, 530),
}
"""FreeSurfer's numbers, and those of SynthSeg's label maps outside the brain; other numbers below 500 are grey."""
SIDE = 128


def tissue_numbers() -> np.ndarray:
    """Tissue of every label, shape (600,), uint8."""
    table = np.zeros(600, np.uint8)
    table[1:500] = TISSUES.index("grey")
    for name, labels in CLASSES.items():
        table[list(labels)] = TISSUES.index(name)
    return table


def prepare(label_maps: Sequence[Path], out: Path) -> None:
    """Write the tissues and poses of label maps to a file that `LabelledHeads.load` reads."""
    rows = [prepared(path) for path in label_maps]
    for path, (_, _, score) in zip(label_maps, rows, strict=True):
        log.info("%s: correlation %.3f", path.name, score)
    np.savez_compressed(out, tissues=np.stack([r[0] for r in rows]), from_average=np.stack([r[1] for r in rows]))


def prepared(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Tissues (128, 128, 128) at 2 mm, average-head mm to their voxels (4, 4), and the registration's correlation."""
    tissues, affine, found = registered(path)
    half = np.diag([0.5, 0.5, 0.5, 1.0])
    return tissues[::2, ::2, ::2], half @ invert(affine) @ found.matrix, found.score


def registered(path: Path) -> tuple[np.ndarray, Affine, AffineResult]:
    """Tissues of a label map, RAS+, its voxel-to-mm affine, and the registration of the average head to it.

    Raises
    ------
    RegistrationError
        If the average head does not fit.
    """
    image = nib.as_closest_canonical(nib.load(path))
    tissues = tissue_numbers()[np.asarray(image.dataobj).astype(int)]
    drawn = ndimage.gaussian_filter(np.array(T1_LIKE, np.float32)[tissues], 0.8)
    found = register_affine(
        templates.average_head(), Volume(drawn, image.affine), discriminating_mask=templates.cranium()
    )
    if not found.converged:
        msg = f"{path}: {found.reason}"
        raise RegistrationError(msg)
    return tissues, np.asarray(image.affine, dtype=np.float64), found
