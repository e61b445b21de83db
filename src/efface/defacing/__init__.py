"""Defacing methods. Each method decides an `Edit`; only `apply_edit` changes intensities."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from efface._threads import alongside, made_now, on_one_core
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit, apply_edit, carried_around, without
from efface.defacing.external import plan_external
from efface.defacing.method import DefacingMethod, ExternalProgram
from efface.defacing.outward import closed_outward
from efface.defacing.registry import METHODS
from efface.defacing.screening import missing_face_warnings, pose_warnings, refuse_stripped, refuse_wrapped
from efface.errors import InputError, NothingToRemoveError, RegistrationError
from efface.parameters import parse
from efface.spatial.masks import within_mm
from efface.spatial.types import BoolVolume

__all__ = [
    "IMPLEMENTATIONS",
    "METHODS",
    "PROTECTION_MARGIN_MM",
    "DefacingMethod",
    "Edit",
    "ExternalProgram",
    "apply_edit",
    "check_carries_over",
    "plan",
    "protected_region",
]

PROTECTION_MARGIN_MM = 2.0
MOST_SAVED_ML = 5.0
"""Brain that protection may have to save from an edit: 0.0 to 0.4 ml on five development heads, all six methods."""
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
        If no brain is found, the scan is skull-stripped, or a method cannot take a face as it is in this scan.
    RegistrationError
        If the header has the head in a pose that nobody can have, or a native edit is where the brain is.
    MissingDependencyError, ExternalToolError
        If the external program is not installed, or failed.
    """
    params = dict(params or {})
    spec = _known(method, implementation)
    # Parameters are checked first: the brain mask that screening needs takes seconds.
    parsed = parse(spec.params, params, what=method) if implementation == "native" else None
    native, whole = implementation == "native", anatomy.whole
    refuse_wrapped(anatomy, spec)

    def planned() -> _Planned:
        edit = spec.plan(whole, parsed) if native else plan_external(whole, method, params)
        return edit, _closed(edit, anatomy)

    made = _begun(planned, whole) if native else planned
    refuse_stripped(whole)
    warnings = pose_warnings(whole)
    edit, closed = made()
    doubts = (*warnings, *missing_face_warnings(whole), *whole.brain_doubts, *whole.pose_doubts)
    if native:
        doubts += _brain_cut(edit, whole, protect_brain=protect_brain)
    edit = replace(closed, warnings=(*edit.warnings, *doubts, *closed.warnings[len(edit.warnings) :]))
    if protect_brain:
        edit = without(edit, _on_scan(protected_region(whole), anatomy))
    if not edit.mask.any():
        msg = f"{method} found nothing to remove: the face is probably gone already, or the brain mask is wrong"
        raise NothingToRemoveError(msg)
    return edit


def _known(method: str, implementation: str) -> DefacingMethod:
    """The method of a name; refuses unknown names of methods and implementations."""
    if method not in METHODS:
        msg = f"unknown method {method}; expected one of {', '.join(METHODS)}"
        raise InputError(msg)
    if implementation not in IMPLEMENTATIONS:
        msg = f"implementation must be one of {', '.join(IMPLEMENTATIONS)}; received {implementation}"
        raise InputError(msg)
    return METHODS[method]


_Planned = tuple[Edit, Edit]
"""An edit of the whole head, and the same on the scan's grid, closed outward."""


def _begun(planned: Callable[[], _Planned], whole: HeadAnatomy) -> Callable[[], _Planned]:
    """Make an edit now if the brain is being looked for meanwhile, else when it is asked for.

    An error is raised when the edit is asked for: the checks that need the brain have been made then, and say it better.
    """
    if not whole.begin():
        return planned

    def with_what_all_need() -> _Planned:
        _ = whole.head
        with on_one_core():
            _ = whole.landmarks  # and with them the pose
            sure = alongside(lambda: whole.sure_brain)
            made = planned()
        sure.result()
        return made

    return made_now(with_what_all_need).result


def _closed(edit: Edit, anatomy: HeadAnatomy) -> Edit:
    return closed_outward(edit if anatomy.wrap is None else carried_around(edit, anatomy.wrap), anatomy)


def _brain_cut(edit: Edit, anatomy: HeadAnatomy, *, protect_brain: bool) -> tuple[str, ...]:
    """Refuse an edit of which protection would have to save much brain, for it is in the wrong place, and so is the cut.

    Without protection, the user wants the method as it is, and gets a warning.

    Raises
    ------
    RegistrationError
        If more than `MOST_SAVED_ML` of the brain mask are in the edit, and the brain is protected.
    """
    cut_ml = float(np.count_nonzero(edit.mask & anatomy.brain)) * float(np.prod(anatomy.scan.spacing_mm)) / 1000
    if cut_ml <= MOST_SAVED_ML:
        return ()
    found = (
        f"{edit.method} would remove {cut_ml:.0f} ml of the brain; expected at most {MOST_SAVED_ML:.0f} ml: the "
        "pose, the brain mask or the header is wrong"
    )
    if protect_brain:
        msg = f"{found}: check them, or give --no-protect-brain to cut all the same"
        raise RegistrationError(msg)
    return (f"{found}, or the method fails on this scan; look at the result",)


def check_carries_over(method: str) -> None:
    """Refuse to carry the edit of a method to other images, where it cannot be done.

    Raises
    ------
    InputError
        If the method moves tissue: of another image, the region it moves would be cut out with all that is inside.
    """
    if method in METHODS and not METHODS[method].carries_over:
        msg = (
            f"{method} moves tissue, and cannot be applied to other images of the session: of those, all that it moves "
            "would be cut out; expected a method that removes: take --method pydeface for all of them"
        )
        raise InputError(msg)


def _on_scan(region: BoolVolume, anatomy: HeadAnatomy) -> BoolVolume:
    """A region of the whole head on the scan's grid, around which a part of the head may wrap."""
    return region if anatomy.wrap is None else anatomy.wrap.back(region)


def protected_region(anatomy: HeadAnatomy) -> BoolVolume:
    """Brain mask dilated by `PROTECTION_MARGIN_MM`, on the scan's grid."""
    return within_mm(anatomy.brain, PROTECTION_MARGIN_MM, anatomy.scan.spacing_mm)
