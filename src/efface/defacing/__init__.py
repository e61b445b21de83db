"""Defacing methods. Each method decides an `Edit`; only `apply_edit` changes intensities."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit, apply_edit, without
from efface.defacing.external import plan_external
from efface.defacing.method import DefacingMethod, ExternalProgram
from efface.defacing.registry import METHODS
from efface.defacing.screening import missing_face_warnings, refuse_stripped
from efface.errors import InputError
from efface.parameters import parse
from efface.spatial.types import BoolVolume

__all__ = [
    "IMPLEMENTATIONS",
    "METHODS",
    "PROTECTION_MARGIN_MM",
    "DefacingMethod",
    "Edit",
    "ExternalProgram",
    "apply_edit",
    "plan",
    "protected_region",
]

PROTECTION_MARGIN_MM = 2.0
IMPLEMENTATIONS = ("native", "original")
"""efface's own implementation, or the authors' external program."""


def plan(
    anatomy: HeadAnatomy,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    implementation: str = "native",
    protect_brain: bool = True,
) -> Edit:
    """Decide what a method changes in a scan.

    Parameters
    ----------
    anatomy
        Of the scan.
    method
        A name in `METHODS`.
    params
        The parameters of the method, or of its external program, by name; values may be text, see
        `efface.parameters.parse`.
    implementation
        ``native``, or ``original``: the external program, where it is installed (see `efface.defacing.external`).
    protect_brain
        Never edit the brain mask dilated by `PROTECTION_MARGIN_MM`.

    Raises
    ------
    InputError
        If the method, the implementation or a parameter is unknown, a parameter has a wrong value, or the edit is
        empty.
    AnatomyError
        If no brain is found, or the scan is skull-stripped.
    MissingDependencyError, ExternalToolError
        If the external program is not installed, or failed.
    """
    params = dict(params or {})
    if method not in METHODS:
        msg = f"unknown method {method}; expected one of {', '.join(METHODS)}"
        raise InputError(msg)
    if implementation not in IMPLEMENTATIONS:
        msg = f"implementation must be one of {', '.join(IMPLEMENTATIONS)}; received {implementation}"
        raise InputError(msg)
    spec = METHODS[method]
    # Parameters are checked first: the brain mask that screening needs takes seconds.
    parsed = parse(spec.params, params, what=method) if implementation == "native" else None
    refuse_stripped(anatomy)
    edit = spec.plan(anatomy, parsed) if implementation == "native" else plan_external(anatomy, method, params)
    edit = replace(edit, warnings=(*edit.warnings, *missing_face_warnings(anatomy)))
    if protect_brain:
        edit = without(edit, protected_region(anatomy))
    if not edit.mask.any():
        msg = f"{method} found nothing to remove: the face is probably gone already, or the brain mask is wrong"
        raise InputError(msg)
    return edit


def protected_region(anatomy: HeadAnatomy) -> BoolVolume:
    """Brain mask dilated by `PROTECTION_MARGIN_MM`, on the scan's grid."""
    region: BoolVolume = anatomy.brain_distance_mm <= PROTECTION_MARGIN_MM
    return region
