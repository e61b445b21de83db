"""Images of a study for drawing; an undefaced scan only where it may be shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from efface.anatomy.background import above_air
from efface.bids.dataset_links import original_of, raw_folder
from efface.bids.derivatives import ORIGINAL, UnitPaths, recipe_of
from efface.bids.shareable import shareable
from efface.defacing.outward import REGION
from efface.errors import EffaceError, InputError
from efface.io.absent_content import why_absent
from efface.io.json_files import read_object
from efface.io.label_images import load_labels, load_mask
from efface.io.scan import Scan, load_scan
from efface.spatial.types import Affine, BoolVolume, FloatVolume, LabelVolume
from efface.study import provenance
from efface.visualization.camera import pose_of_brain, stored_pose
from efface.visualization.slices import Views

BRAIN_MARGIN_MM = 4.0
"""Around the brain mask, what may be shown of an undefaced scan: meninges and inner skull, no skin and no eye."""


@dataclass(frozen=True)
class DisplayPolicy:
    """Which images a report may display.

    Attributes
    ----------
    originals
        Whether undefaced faces may.
    face_left
        Pairs (scan, method) whose defaced scan still shows a face, by the quality check: they count as undefaced.
    """

    originals: bool = False
    face_left: frozenset[tuple[str, str]] = frozenset()

    def hides(self, scan: str, method: str) -> bool:
        """Whether the defaced scan of this method must not be drawn."""
        return not self.originals and (scan, method) in self.face_left


FACE_LEFT = "not shown: by the quality check the face is left (Failure I)"


def method_views(paths: UnitPaths, method: str, policy: DisplayPolicy) -> tuple[Views | None, str]:
    """Volumes to show of a method, or why there are none."""
    if policy.hides(paths.stem, method):
        return None, FACE_LEFT
    path = paths.defaced(method)
    if not path.is_file():
        absent = why_absent(path)
        return None, f"{path} {absent}" if absent else "there is no defaced scan"
    try:
        after = load_scan(path)
        mask = load_mask(paths.mask(method), after)
        brain = load_mask(paths.brain(), after) if paths.brain().is_file() else None
        before = above_air(load_original(paths, method)) if policy.originals else None
    except EffaceError as error:
        return None, reason_of(error, paths)
    if before is not None and before.shape != after.shape:
        return None, "the original has changed since it was defaced"
    recipe = read_sidecar(path).get(provenance.KEY)
    if before is None and (not isinstance(recipe, dict) or recipe.get("region") != REGION):
        # Masks of earlier versions can have the front of the removed face.
        mask = np.zeros_like(mask)
    return Views(before, above_air(after), mask, brain, after.spacing_mm), ""


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read the JSON beside a result; empty where there is none that can be read."""
    return read_object(recipe_of(path))


def reason_of(error: Exception, paths: UnitPaths) -> str:
    """Why something cannot be shown, without absolute paths: reports are mailed around."""
    raw = raw_folder(paths.out_dir) or paths.out_dir
    return str(shareable(str(error), bids_dir=raw, out_dir=paths.out_dir))


def load_original(paths: UnitPaths, method: str) -> Scan:
    """Open the scan that a method's defaced scan was made from, by its record.

    Raises
    ------
    InputError
        If the record does not say, or the file is not there any more.
    """
    path, why = original_of(paths.defaced(method), paths.out_dir)
    if path is None:
        msg = f"{why}: run the study again"
        raise InputError(msg)
    return load_scan(path)


def near_brain(brain: BoolVolume, affine: Affine) -> BoolVolume:
    """The brain mask and `BRAIN_MARGIN_MM` around it."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    near: BoolVolume = ndimage.distance_transform_edt(~brain, sampling=spacing) <= BRAIN_MARGIN_MM
    return near


@dataclass(frozen=True)
class Comparison:
    """One scan before and after, with both segmentations, on one RAS+ grid.

    Attributes
    ----------
    before, after
        Intensities above the air's; where originals may not be shown, `before` is 0 beyond the surroundings of the
        brain.
    labels_before, labels_after
        BrainCOLOR ids.
    brain
        Brain mask of the original.
    affine
        Voxel to mm, shape (4, 4).
    """

    before: FloatVolume
    after: FloatVolume
    labels_before: LabelVolume
    labels_after: LabelVolume
    brain: BoolVolume
    affine: Affine


def load_comparison(paths: UnitPaths, method: str, segmenter: str, policy: DisplayPolicy) -> Comparison:
    """Open what Figure 3 shows.

    Raises
    ------
    InputError
        If a file is missing or does not fit the others.
    """
    after = load_scan(paths.defaced(method))
    before = load_original(paths, method)
    if before.shape != after.shape:
        msg = f"{before.path or 'the original'} has changed since it was defaced: run the study again"
        raise InputError(msg)
    brain = load_mask(paths.brain(), after)
    labels = []
    for which in (ORIGINAL, method):
        values, _ = load_labels(paths.segmentation(which, segmenter))
        ras = np.asarray(after.stored_to_ras(values), dtype=np.int32)
        if ras.shape != after.shape:
            msg = f"{paths.segmentation(which, segmenter)} is not on the scan's grid: run the study again"
            raise InputError(msg)
        labels.append(ras)
    seen = above_air(before)
    if not policy.originals:
        seen = np.where(near_brain(brain, after.affine), seen, 0).astype(np.float32)
    return Comparison(seen, above_air(after), labels[0], labels[1], brain, after.affine)


def camera_pose(paths: UnitPaths, methods: tuple[str, ...], scan: Scan) -> Affine:
    """Average-head mm to scan mm: from the quality check's record where it has one, else from the brain mask.

    Raises
    ------
    InputError, AnatomyError
        If there is neither.
    """
    for method in methods:
        pose = stored_pose(read_object(paths.quality(method)))
        if pose is not None:
            return pose
    return pose_of_brain(load_mask(paths.brain(), scan), scan.affine)
