"""Defacing methods: each decides an edit; `apply_edit` applies it. A new method is one file and one line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import defacer, fsl_deface, mri_deface, mri_reface, pydeface, quickshear
from efface.defacing.edit import Edit, apply_edit, without
from efface.defacing.external import plan_original
from efface.defacing.screening import missing_face, refuse_stripped
from efface.errors import InputError
from efface.spatial.types import BoolVolume

__all__ = [
    "IMPLEMENTATIONS",
    "METHODS",
    "PROTECTION_MARGIN_MM",
    "Edit",
    "MethodSpec",
    "apply_edit",
    "plan",
    "protected_region",
]

PROTECTION_MARGIN_MM = 2.0
IMPLEMENTATIONS = ("native", "original")


@dataclass(frozen=True)
class DefacingMethod:
    """A method in one line: its name, what decides, a sentence for people, the paper."""

    name: str
    plan: Callable[..., Edit]
    summary: str
    reference: str


METHODS: Mapping[str, DefacingMethod] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            DefacingMethod(
                "defacer",
                defacer.plan,
                "a network finds eyes, nose, ears and mouth; their voxels get values that tell nothing",
                "Jeong et al. 2020, doi 10.2196/22739",
            ),
            DefacingMethod(
                "quickshear",
                quickshear.plan,
                "cuts along a plane in front of the brain",
                "Schimke & Hale 2011",
            ),
            DefacingMethod(
                "mri_deface",
                mri_deface.plan,
                "removes what can be face and cannot be brain, by priors",
                "Bischoff-Grethe et al. 2007, doi 10.1002/hbm.20312",
            ),
            DefacingMethod(
                "pydeface",
                pydeface.plan,
                "removes the face mask of the registered average head",
                "Gulban et al. 2022, doi 10.5281/zenodo.6856482",
            ),
            DefacingMethod(
                "fsl_deface",
                fsl_deface.plan,
                "removes a mask of face and ears carried from standard space",
                "Alfaro-Almagro et al. 2018, doi 10.1016/j.neuroimage.2017.10.034",
            ),
            DefacingMethod(
                "mri_reface",
                mri_reface.plan,
                "replaces face and ears by an average face that fits the head",
                "Schwarz et al. 2021, doi 10.1016/j.neuroimage.2021.117845",
            ),
        )
    }
)


def plan(
    anatomy: HeadAnatomy, method: str, *, implementation: str = "native", protect_brain: bool = True, **params: Any
) -> Edit:
    """Decide what a method changes in a scan.

    Parameters
    ----------
    anatomy
        Of the scan.
    method
        A name in `METHODS`.
    implementation
        ``native``, or ``original``: the original program, where it is installed (see `efface.defacing.external`).
    protect_brain
        Never edit the brain mask dilated by `PROTECTION_MARGIN_MM`.
    **params
        The method's own.

    Raises
    ------
    InputError
        If the method, the implementation or a parameter is unknown, or the edit is empty.
    AnatomyError
        If no brain is found, or hardly anything but brain: the scan is skull-stripped.
    MissingDependencyError, ExternalToolError
        If the original program is not installed, or failed.
    """
    if method not in METHODS:
        msg = f"unknown method {method}; expected one of {', '.join(METHODS)}"
        raise InputError(msg)
    if implementation not in IMPLEMENTATIONS:
        msg = f"implementation must be one of {', '.join(IMPLEMENTATIONS)}; received {implementation}"
        raise InputError(msg)
    refuse_stripped(anatomy)
    edit = plan_original(anatomy, method, **params) if implementation == "original" else _native(anatomy, method, params)
    edit = replace(edit, warnings=(*edit.warnings, *missing_face(anatomy)))
    if protect_brain:
        edit = without(edit, protected_region(anatomy))
    if not edit.mask.any():
        msg = f"{method} found nothing to remove: the face is probably gone already, or the brain mask is wrong"
        raise InputError(msg)
    return edit


def _native(anatomy: HeadAnatomy, method: str, params: Mapping[str, Any]) -> Edit:
    try:
        return METHODS[method].plan(anatomy, **params)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        msg = f"{method} has no such parameter ({error})"
        raise InputError(msg) from error


def protected_region(anatomy: HeadAnatomy) -> BoolVolume:
    """Brain mask dilated by `PROTECTION_MARGIN_MM`, on the scan's grid."""
    region: BoolVolume = anatomy.from_brain_mm <= PROTECTION_MARGIN_MM
    return region
