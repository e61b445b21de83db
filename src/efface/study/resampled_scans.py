"""Resampled scans in a study: a session on the grid of another, and the control.

They show an undefaced face. So they stay in memory: the study's folder gets the registration, by which the same image
is made again where a later run needs it. With ``--keep-rescans`` they are written too, into a private folder beside it.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.derivatives import UnitPaths, private_folder
from efface.io.atomic import as_private_as, make_folder
from efface.io.scan import Scan, load_scan
from efface.study import provenance
from efface.study.output_folder import make_private_folder
from efface.study.segmentations import brain_of
from efface.study.session_registration import (
    CONTROL_DEG,
    CONTROL_MM,
    FINEST_MM,
    INTERPOLATION,
    align,
    resample_and_back,
)
from efface.study.steps import StepContext, paths_of, recipe_for

RESAMPLED = "resampled"
"""Name of the control group, and description of its image."""
RESAMPLED_HALFWAY = "resampled-halfway"
"""Name of the control group in the space half-way between the sessions."""
CONSTANTS = {"interpolation": INTERPOLATION, "finest_mm": FINEST_MM, "control": [CONTROL_DEG, CONTROL_MM]}
"""What decides a resampled scan besides the scans and the settings."""
DIGEST = "SampledSha256"
"""Key of the registration's JSON: the hash of the image, by which its segmentations are known."""


def description_of(group: str, transform: str) -> str:
    """Return the BIDS description of a group's images: ``resampled``, or ``rescanaffine`` and so on."""
    return RESAMPLED if group == RESAMPLED else f"rescan{transform}"


def kept_image(context: StepContext, description: str) -> Path | None:
    """Where a resampled scan is kept; None where the study keeps none."""
    return kept_path(paths_of(context.source, context.settings), description) if context.settings.keep_rescans else None


def kept_path(paths: UnitPaths, description: str) -> Path:
    """Where a resampled scan is kept by a study that does: in the private folder, as in the study's own."""
    private = private_folder(paths.out_dir)
    return UnitPaths(private, paths.subject, paths.session, paths.stem, paths.suffix).resampled(description)


@dataclass(eq=False)
class SampledScan:
    """A scan that was sampled again.

    Attributes
    ----------
    sha256
        Hash of the image.
    make
        Gives the image: the one just made, the one that was kept, or the same one made again.
    """

    sha256: str
    make: Callable[[], Scan]

    @functools.cached_property
    def anatomy(self) -> HeadAnatomy:
        """Of the image."""
        return HeadAnatomy(self.make())


def resampled_control(context: StepContext, scan: Scan) -> SampledScan:
    """Sample a scan through a small transform and back, or take the record of an earlier run.

    Raises
    ------
    OutputError
        If results cannot be written.
    StepTimeoutError
        If the step was stopped.
    """
    how = {"interpolation": INTERPOLATION, "turn_deg": CONTROL_DEG, "shift_mm": CONTROL_MM}
    recipe = recipe_for(scan.sha256, **how)

    def make() -> tuple[Scan, dict[str, Any]]:
        made = resample_and_back(scan)
        return scan.with_values(made.values), made.record

    return sampled_scan(RESAMPLED, RESAMPLED, [context, context], recipe, make)


def rescanned(
    group: str, moving: StepContext, moving_scan: Scan, fixed: StepContext, fixed_anatomy: HeadAnatomy
) -> SampledScan:
    """Register one session to another and sample it on the other's grid, or take the record of an earlier run.

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
    how = {"interpolation": INTERPOLATION, "fixed_sha256": target.sha256, "transform": transform, "finest_mm": FINEST_MM}
    recipe = recipe_for(moving_scan.sha256, **how)

    def make() -> tuple[Scan, dict[str, Any]]:
        made = align(target, moving_scan, brain_of(fixed, fixed_anatomy), transform)
        return target.with_values(made.values), made.record

    return sampled_scan(group, description_of(group, transform), [moving, fixed], recipe, make)


def sampled_scan(
    group: str,
    description: str,
    contexts: Sequence[StepContext],
    recipe: dict[str, Any],
    make: Callable[[], tuple[Scan, dict[str, Any]]],
) -> SampledScan:
    """Sample a scan, or take the record of an earlier run with the same recipe.

    Parameters
    ----------
    group
        For the step's name.
    description
        BIDS description of the image.
    contexts
        The session that is sampled, and what it is registered to.
    recipe
        What decides the image.
    make
        Gives the image, and what its record says of the registration.

    Raises
    ------
    OutputError
        If results cannot be written.
    StepTimeoutError
        If the step was stopped.
    """
    moving = contexts[0]
    path, kept = moving.paths.registration(description), kept_image(moving, description)

    def make_now() -> Scan:
        with moving.timer.step(f"sample {group}"), provenance.writing(path, recipe) as record:
            scan, how = make()
            if kept is not None:
                make_private_folder(moving.settings.out_dir)
                _keep(scan, kept)
            sources = [context.uri for context in contexts]
            record |= {"Sources": sources, "SkullStripped": False, DIGEST: scan.sha256, "Registration": how}
        return scan

    stored = provenance.read_recipe(path) or {}
    if provenance.is_current(path, recipe) and DIGEST in stored and (kept is None or kept.is_file()):
        return SampledScan(stored[DIGEST], functools.partial(load_scan, kept) if kept else make_now)
    scan = make_now()
    return SampledScan(scan.sha256, lambda: scan)


def _keep(scan: Scan, path: Path) -> None:
    make_folder(path.parent)
    with as_private_as([], owner_only=True):
        scan.save(path, force=True)
