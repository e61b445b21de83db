"""Segmentations in a study: read from an earlier run where their recipe is the same, otherwise made now."""

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.derivatives import ORIGINAL
from efface.io.label_images import load_labels, load_mask
from efface.segmentation import segment
from efface.spatial.types import BoolVolume, LabelVolume
from efface.study import provenance
from efface.study.steps import StepContext, recipe_for


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
    params = dict(context.settings.segmenter_params.get(segmenter, {}))
    data = provenance.segmentation_data(segmenter, params)
    recipe = recipe_for(anatomy.scan, segmenter=segmenter, params=params, data_sha256=data)
    if provenance.is_current(path, recipe):
        if description == ORIGINAL and not brain_path.is_file():
            anatomy.scan.save_like(anatomy.brain, brain_path)
        stored, _ = load_labels(path)
        return np.asarray(anatomy.scan.stored_to_ras(stored), dtype=np.int32)
    with context.timer.step(f"segment {description} {segmenter}"):
        labels = segment(anatomy, segmenter, params)
        with provenance.writing(path, recipe) as record:
            if description == ORIGINAL:  # before the labels, so that their recipe vouches for the brain mask too
                anatomy.scan.save_like(anatomy.brain, brain_path, force=True)
            anatomy.scan.save_like(labels.values, path, force=True)
            record |= {"Parameters": dict(labels.provenance.params), "Warnings": list(labels.warnings)}
    return labels.values


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
