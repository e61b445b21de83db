"""Defaced scans in a study: read from an earlier run where their recipe is the same, otherwise made now."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.shareable import names_only
from efface.defacing import apply_edit, plan
from efface.defacing.outward import REGION
from efface.errors import AnatomyError
from efface.io.deidentify import strip_identifying_header
from efface.io.label_images import load_mask
from efface.io.scan import Scan, load_scan
from efface.io.sidecar import Sidecar
from efface.metrics.table import Value
from efface.spatial.types import BoolVolume
from efface.study import provenance
from efface.study.segmentations import brain_of
from efface.study.steps import StepContext, recipe_for

LOG = "log"
"""Parameter of an edit: what an external program printed."""


@dataclass(frozen=True, eq=False)
class DefacedScan:
    """A scan after defacing.

    Attributes
    ----------
    scan
        The defaced scan.
    mask
        Edited region, on the scan's RAS+ grid, see `efface.defacing.outward`.
    """

    scan: Scan
    mask: BoolVolume


def defaced(context: StepContext, anatomy: HeadAnatomy, method: str) -> DefacedScan:
    """Deface a scan by one method, or read the result of an earlier run.

    Parameters
    ----------
    context
        The scan.
    anatomy
        Of the undefaced scan.
    method
        A name in `efface.defacing.METHODS`.

    Raises
    ------
    OutputError
        If results cannot be written.
    EffaceError
        If the method fails on this scan, or the step was stopped.
    """
    path, mask_path = context.paths.defaced(method), context.paths.mask(method)
    recipe = _recipe(context, anatomy.scan, method)
    # The image is written last, so that its recipe vouches for the mask too.
    if provenance.is_current(path, recipe) and mask_path.is_file():
        return DefacedScan(load_scan(path), load_mask(mask_path, anatomy.scan))
    settings = context.settings
    with context.timer.step(f"deface {method}"):
        edit = plan(
            anatomy,
            method,
            settings.method_params.get(method, {}),
            implementation=settings.implementation(method),
            protect_brain=settings.protect_brain,
        )
        scan, removed = strip_identifying_header(apply_edit(anatomy.scan, edit), settings.header)
        sidecar = Sidecar.of(context.source.path, path, settings.header, settings.sidecar_keep)
        anatomy.scan.save_like(edit.mask, mask_path, force=True)
        with provenance.writing(path, recipe) as record:
            scan.save(path, force=True)
            record |= sidecar.with_method(method, edit.implementation, leaves_face=edit.leaves_face).content
            record |= {
                "Sources": [context.uri],
                "SkullStripped": False,
                "Implementation": edit.implementation,
                "Parameters": context.shareable(_recorded(edit.params)),
                "Warnings": context.shareable([*anatomy.warnings, *edit.warnings, *sidecar.warnings]),
                "RemovedFromHeader": list(removed),
                "RemovedFromSidecar": list(sidecar.removed),
            }
    return DefacedScan(scan, edit.mask)


def edited_volumes(context: StepContext, anatomy: HeadAnatomy, mask: BoolVolume) -> Iterator[Value]:
    """Volume of an edit in all, in the head and in the brain mask of the undefaced scan, ml.

    Parameters
    ----------
    context
        The scan.
    anatomy
        Of the undefaced scan.
    mask
        Changed voxels, on its RAS+ grid.

    Raises
    ------
    AnatomyError
        If no head is found.
    """
    voxel_ml = float(np.prod(anatomy.scan.spacing_mm)) / 1000
    try:
        in_brain = float((mask & brain_of(context, anatomy)).sum())
    except AnatomyError:  # there is a failed row already: the undefaced scan could not be segmented either
        in_brain = math.nan
    in_head = float((mask & anatomy.head).sum())
    yield Value("edited_ml", "", "", float(mask.sum()) * voxel_ml)
    yield Value("edited_head_ml", "", "", in_head * voxel_ml)
    yield Value("edited_brain_ml", "", "", in_brain * voxel_ml)


def _recorded(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without what an external program printed: it may name user, machine and date."""
    return names_only({name: value for name, value in params.items() if name != LOG})


def _recipe(context: StepContext, scan: Scan, method: str) -> dict[str, Any]:
    settings = context.settings
    given = dict(settings.method_params.get(method, {}))
    recipe = recipe_for(
        scan.sha256,
        method=method,
        protect_brain=settings.protect_brain,
        params=names_only(given),
        implementation=settings.implementation(method),
        header=settings.header,
        sidecar_keep=sorted(settings.sidecar_keep),
        data_sha256=provenance.defacing_data(),
        region=REGION,
    )
    if method in settings.originals:
        recipe["external_version"] = provenance.external_version(method, given.get("program"))
    return recipe
