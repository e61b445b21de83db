"""Segmentations in a study: read from an earlier run where their recipe is the same, otherwise made now."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.derivatives import ORIGINAL
from efface.bids.shareable import names_only
from efface.io.label_images import load_labels, load_mask
from efface.segmentation import segment
from efface.spatial.types import BoolVolume, LabelVolume
from efface.study import provenance
from efface.study.steps import StepContext, recipe_for


class Oriented(Protocol):
    """Knows how arrays are turned from a file's axes to RAS+: a scan, or `AS_STORED`."""

    def stored_to_ras(self, array: NDArray[Any]) -> NDArray[Any]:
        """Reorient an (x, y, z) array from the file's axes to the RAS+ view."""


class _AsStored:
    def stored_to_ras(self, array: NDArray[Any]) -> NDArray[Any]:
        return array


AS_STORED: Oriented = _AsStored()
"""Of images that are stored with RAS+ axes."""


def segmented(context: StepContext, anatomy: HeadAnatomy, description: str, segmenter: str) -> LabelVolume:
    """Labels of one image of a scan, from disk or made now.

    Parameters
    ----------
    context
        The scan.
    anatomy
        Of the image to segment: the scan itself, a defaced or a resampled version.
    description
        Which image that is: `ORIGINAL`, a method's name, or the description of a resampled scan.
    segmenter
        A name in `efface.segmentation.SEGMENTERS`.

    Returns
    -------
    LabelVolume
        BrainCOLOR ids on the image's RAS+ grid.

    Raises
    ------
    OutputError
        If results cannot be written.
    EffaceError
        If the image cannot be segmented, or the step was stopped.
    """
    path, brain_path = context.paths.segmentation(description, segmenter), context.paths.brain()
    found = stored_labels(context, anatomy.scan.sha256, anatomy.scan, description, segmenter)
    if found is not None:
        if description == ORIGINAL and not brain_path.is_file():
            anatomy.scan.save_like(anatomy.brain, brain_path)
        return found
    params = _params(context, segmenter)
    recipe = _recipe(context, anatomy.scan.sha256, segmenter)
    with context.timer.step(f"segment {description} {segmenter}"):
        labels = segment(anatomy, segmenter, params)
        with provenance.writing(path, recipe) as record:
            if description == ORIGINAL:  # before the labels, so that their recipe vouches for the brain mask too
                anatomy.scan.save_like(anatomy.brain, brain_path, force=True)
            anatomy.scan.save_like(labels.values, path, force=True)
            record["Parameters"] = context.shareable(names_only(labels.provenance.params))
            record["Warnings"] = context.shareable(labels.warnings)
    return labels.values


def stored_labels(
    context: StepContext, sha256: str, grid: Oriented, description: str, segmenter: str
) -> LabelVolume | None:
    """Labels of an image from an earlier run, or None where they must be made; the image itself is not needed.

    Parameters
    ----------
    context, description, segmenter
        As for `segmented`.
    sha256
        Hash of the image.
    grid
        A scan on the image's stored grid, or `AS_STORED`.

    Raises
    ------
    InputError
        If the labels cannot be read.
    """
    path = context.paths.segmentation(description, segmenter)
    if not provenance.is_current(path, _recipe(context, sha256, segmenter)):
        return None
    stored, _ = load_labels(path)
    return np.asarray(grid.stored_to_ras(stored), dtype=np.int32)


def _params(context: StepContext, segmenter: str) -> dict[str, Any]:
    return dict(context.settings.segmenter_params.get(segmenter, {}))


def _recipe(context: StepContext, sha256: str, segmenter: str) -> dict[str, Any]:
    params = _params(context, segmenter)
    data = provenance.segmentation_data(segmenter, params)  # decides instead of the folder's place
    return recipe_for(sha256, segmenter=segmenter, params=names_only(params), data_sha256=data)


def brain_of(context: StepContext, anatomy: HeadAnatomy) -> BoolVolume:
    """Brain mask of the undefaced scan: from disk where it is there and not yet in memory.

    Raises
    ------
    AnatomyError
        If it must be computed and no brain is found.
    """
    path = context.paths.brain()
    if not anatomy.knows_brain and path.is_file():
        return load_mask(path, anatomy.scan)
    return anatomy.brain
