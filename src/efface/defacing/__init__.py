"""Defacing methods: each decides an edit, and `apply_edit` applies it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit, apply_edit, without
from efface.defacing.external import plan_external
from efface.defacing.method import DefacingMethod
from efface.defacing.registry import METHODS
from efface.defacing.screening import missing_face, refuse_stripped
from efface.errors import InputError
from efface.parameters import parse
from efface.spatial.types import BoolVolume

__all__ = [
    "IMPLEMENTATIONS",
    "METHODS",
    "PROTECTION_MARGIN_MM",
    "DefacingMethod",
    "Edit",
    "apply_edit",
    "check_method",
    "plan",
    "protected_region",
]

PROTECTION_MARGIN_MM = 2.0
IMPLEMENTATIONS = ("native", "original")


def check_method(method: str, implementation: str = "native") -> DefacingMethod:
    """Look a method up.

    Raises
    ------
    InputError
        If the method or the implementation is unknown.
    """
    if method not in METHODS:
        msg = f"unknown method {method}; expected one of {', '.join(METHODS)}"
        raise InputError(msg)
    if implementation not in IMPLEMENTATIONS:
        msg = f"implementation must be one of {', '.join(IMPLEMENTATIONS)}; received {implementation}"
        raise InputError(msg)
    return METHODS[method]


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
        The method's own parameters, by name, as values or as text.
    implementation
        ``native``, or ``original``: the published program, where it is installed (`efface.defacing.external`).
    protect_brain
        Never edit the brain mask dilated by `PROTECTION_MARGIN_MM`.

    Raises
    ------
    InputError
        If the method, the implementation or a parameter is unknown or wrong, or the edit is empty.
    AnatomyError
        If no brain is found, or hardly anything but brain: the scan is skull-stripped.
    MissingDependencyError, ExternalToolError
        If the external program is not installed, or failed.
    """
    spec = check_method(method, implementation)
    given = dict(params or {})
    own = parse(spec.params, given, what=method) if implementation == "native" else None
    refuse_stripped(anatomy)
    edit = plan_external(anatomy, method, given) if own is None else spec.plan(anatomy, own)
    edit = replace(edit, warnings=(*edit.warnings, *missing_face(anatomy)))
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
