"""Resampled scans in a study: a session on the grid of another, and the control; read from disk or made now."""

from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.io.scan import Scan, load_scan
from efface.study import provenance
from efface.study.segmentations import brain_of
from efface.study.session_registration import CONTROL_DEG, CONTROL_MM, FINEST_MM, INTERPOLATION, align, resample_and_back
from efface.study.steps import StepContext, recipe_for

RESAMPLED = "resampled"
"""Name of the control group, and description of its image."""
CONSTANTS = {"interpolation": INTERPOLATION, "finest_mm": FINEST_MM, "control": [CONTROL_DEG, CONTROL_MM]}
"""What decides a resampled scan besides the scans and the settings."""


def description_of(group: str, transform: str) -> str:
    """Return the BIDS description of a group's images: ``resampled``, or ``rescanaffine`` and so on."""
    return RESAMPLED if group == RESAMPLED else f"rescan{transform}"


def resampled_control(context: StepContext, scan: Scan) -> Scan:
    """Sample a scan through a small transform and back, or read the result of an earlier run.

    Raises
    ------
    OutputError
        If results cannot be written.
    StepTimeoutError
        If the step was stopped.
    """
    path = context.paths.resampled(RESAMPLED)
    how = {"interpolation": INTERPOLATION, "turn_deg": CONTROL_DEG, "shift_mm": CONTROL_MM}
    recipe = {**recipe_for(scan), **how}
    if not provenance.is_current(path, recipe):
        with context.timer.step(f"sample {RESAMPLED}"):
            made = resample_and_back(scan)
            with provenance.writing(path, recipe) as record:
                scan.save_like(made.values, path, force=True)
                record |= _record([context, context], made.record)
    return load_scan(path)


def rescanned(
    group: str, moving: StepContext, moving_scan: Scan, fixed: StepContext, fixed_anatomy: HeadAnatomy
) -> Scan:
    """Register one session to another and sample it on the other's grid, or read the result of an earlier run.

    Parameters
    ----------
    group
        Name of the comparison, for the step's name.
    moving, moving_scan
        The session to register.
    fixed, fixed_anatomy
        The session whose grid is taken; its brain mask weights the registration.

    Raises
    ------
    RegistrationError
        If the registration did not converge.
    OutputError
        If results cannot be written.
    StepTimeoutError
        If the step was stopped.
    """
    transform, target = moving.settings.rescan, fixed_anatomy.scan
    path = moving.paths.resampled(description_of(group, transform))
    how = {"interpolation": INTERPOLATION, "fixed_sha256": target.sha256, "transform": transform, "finest_mm": FINEST_MM}
    recipe = {**recipe_for(moving_scan), **how}
    if not provenance.is_current(path, recipe):
        with moving.timer.step(f"sample {group}"):
            made = align(target, moving_scan, brain_of(fixed, fixed_anatomy), transform)
            with provenance.writing(path, recipe) as record:
                target.save_like(made.values, path, force=True)
                record |= _record([moving, fixed], made.record)
    return load_scan(path)


def _record(contexts: list[StepContext], registration: dict[str, Any]) -> dict[str, Any]:
    sources = [str(context.source.path) for context in contexts]
    return {"Sources": sources, "SkullStripped": False, "Registration": registration}
