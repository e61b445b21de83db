"""Masks of what was removed. A mask that follows the skin shows the face as a scan does."""

import re
from pathlib import Path

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.propagation import same_grid
from efface.errors import InputError
from efface.io.encoding import SUFFIXES
from efface.io.scan import Scan, load_scan
from efface.quality.left_face import LeftFace, find_face_in_mask

IN_BIDS = re.compile(r"(?P<before>.+?)_mod-(?P<suffix>[A-Za-z0-9]+)(?P<after>.*)_defacemask")
"""Beside the image, as BIDS names it."""
IN_DERIVATIVES = re.compile(r"(?P<before>.+?)_desc-(?P<suffix>[A-Za-z0-9]+)(?P<after>)_mask")
"""In ``derivatives/efface`` of a shared data set, where BIDS has no name for it."""
DERIVATIVES = ("derivatives", "efface")


def image_of_mask(path: Path) -> Path | None:
    """The defaced image that a mask goes with, by its name; None where there is none."""
    stem = path.name.partition(".")[0]
    for pattern, folder in ((IN_BIDS, path.parent), (IN_DERIVATIVES, _raw_folder(path.parent))):
        if folder is not None and (found := pattern.fullmatch(stem)):
            name = f"{found['before']}{found['after']}_{found['suffix']}"
            return next((image for end in SUFFIXES if (image := folder / f"{name}{end}").is_file()), None)
    return None


def look_at_mask(mask: Scan, image: Path) -> LeftFace | None:
    """Look for a face in the surface of a mask, in the pose of the image that it goes with.

    Parameters
    ----------
    mask
        What may be a mask.
    image
        As `image_of_mask` finds it.

    Returns
    -------
    LeftFace or None
        None where the image cannot be read or has another grid, or where the mask has not two values: then it is
        looked at as any image.
    """
    values = np.unique(mask.stored)
    if len(values) != 2:
        return None
    try:
        scan = load_scan(image)
    except InputError:
        return None
    return find_face_in_mask(mask.data > mask.data.min(), HeadAnatomy(scan)) if same_grid(mask, scan) else None


def _raw_folder(folder: Path) -> Path | None:
    """The folder of the raw data set that a folder of ``derivatives/efface`` goes with."""
    parts = folder.parts
    for at in range(len(parts) - 1):
        if parts[at : at + 2] == DERIVATIVES:
            return Path(*parts[:at], *parts[at + 2 :])
    return None
