"""Run the authors' program of a method on a scan, and take what it changed as the edit.

A program runs in a private folder that is removed afterwards. Its output must be on the scan's grid. A voxel counts
as changed if its value moved by more than the quantisation of the output file: some programs choose a new scale
factor, which changes every voxel slightly.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.external_process import last_lines, run_program, version_in
from efface.defacing.method import ExternalProgram, Workspace
from efface.defacing.registry import METHODS
from efface.errors import ExternalToolError, InputError, MissingDependencyError
from efface.io import programs
from efface.io.quantisation import rounding
from efface.io.scan import Scan, load_scan
from efface.io.scratch import private_temporary_folder
from efface.parameters import parse

LOG_CHARACTERS = 20_000


EXTERNAL_PROGRAMS: Mapping[str, ExternalProgram] = MappingProxyType(
    {name: method.external for name, method in METHODS.items() if method.external is not None}
)
"""External programs that can be run, by the name of the method."""


def find_program(method: str, program: str | Path | None = None) -> Path:
    """Path of a method's external program.

    Parameters
    ----------
    method
        A name in `EXTERNAL_PROGRAMS`.
    program
        Path of the program; None looks for it on PATH, then beside the interpreter (`efface.io.programs`).

    Raises
    ------
    InputError
        If the method has no external program that can be run.
    MissingDependencyError
        If the program is not there; the text says what to install.
    """
    spec = _external_of(method)
    found = programs.find_program(program or spec.program)
    if found is None:
        beside = " or ".join(map(str, programs.beside_interpreter()))
        where = f"at {program}" if program else f"on PATH or in {beside}"
        msg = f"the external program {spec.program} is not {where}: {spec.install}; or use the native implementation"
        raise MissingDependencyError(msg)
    return found


def external_version(method: str, program: str | Path | None = None) -> str:
    """Version of a method's external program, without a run on a scan.

    Parameters
    ----------
    method, program
        As for `find_program`.

    Returns
    -------
    str
        The version that the program or its installation states; else ``sha256:`` and the first 16 digits of the hash
        of the program's file, so that another build is another version; ``unknown`` if the file cannot be read.

    Raises
    ------
    InputError, MissingDependencyError
        As `find_program`.
    """
    path = find_program(method, program)
    version = _stated_version(path, _external_of(method))
    if version:
        return version
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    except OSError:
        return "unknown"


def plan_external(anatomy: HeadAnatomy, method: str, params: Mapping[str, Any]) -> Edit:
    """Run an external program on a scan, and take what it changed as the edit.

    Parameters
    ----------
    anatomy
        Of the scan; its brain mask is given to programs that need one.
    method
        A name in `EXTERNAL_PROGRAMS`.
    params
        By name; see `ExternalProgram.params`.

    Raises
    ------
    InputError
        If the method has no external program, or a parameter is unknown or has a wrong value.
    MissingDependencyError
        If the program, or a file it needs, is not installed.
    ExternalToolError
        If it fails, takes too long, writes nothing, or writes on another grid.
    """
    spec = _external_of(method)
    parsed = parse(spec.params, params, what=f"the external program of {method}")
    path = find_program(method, parsed.program)
    with private_temporary_folder() as folder:
        files = Workspace(folder)
        given = _with_dark_air(anatomy, files.uncompressed_scan if spec.needs_uncompressed else files.scan)
        if spec.needs_brain:
            given.save_like(anatomy.brain, files.brain)
        (folder / "out").mkdir()
        arguments = [str(word) for word in spec.command(path, files, parsed)]
        log = run_program(spec.program, arguments, folder, parsed.timeout_s)
        written = sorted(folder.glob(spec.output_pattern))
        if not written:
            msg = f"{spec.program} ended without an output; its last lines: {last_lines(log)}"
            raise ExternalToolError(msg)
        mask, values = _changed(given, load_scan(written[0]), spec.program)
    values = values + np.float32(anatomy.background.air)
    recorded = {name: _recorded(getattr(parsed, name)) for name in params if name not in ("program", "timeout_s")}
    version = version_in(log) or _stated_version(path, spec) or "unknown"
    log = log.replace(str(folder), "")[-LOG_CHARACTERS:]
    return Edit(mask, values, method, "original", {**recorded, "program": str(path), "version": version, "log": log})


def _external_of(method: str) -> ExternalProgram:
    spec = METHODS.get(method)
    if spec is None or spec.external is None:
        msg = f"{method} has no external program that can be run; expected one of {', '.join(EXTERNAL_PROGRAMS)}"
        raise InputError(msg)
    return spec.external


def _stated_version(path: Path, spec: ExternalProgram) -> str:
    """Version that the program or its installation states; empty if there is none."""
    try:
        return spec.version(path) if spec.version else ""
    except OSError:  # a program that may be run but not read
        return ""


def _recorded(value: Any) -> Any:
    """A parameter as JSON can hold it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _with_dark_air(anatomy: HeadAnatomy, path: Path) -> Scan:
    """Write the scan for a program, which takes 0 for air: as it is where that is so, else with its air at 0."""
    scan = anatomy.scan.plain()  # few programs read the header's unit
    if anatomy.image.data is anatomy.scan.data:
        scan.save(path)
        return scan
    scan.save_like(anatomy.image.data, path)
    return load_scan(path)


def _changed(scan: Scan, output: Scan, name: str) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Mask of the voxels that the program changed, on the scan's RAS+ grid, and their new values."""
    if output.shape != scan.shape or not np.allclose(output.affine, scan.affine, atol=0.1):
        msg = f"{name} wrote another grid ({output.shape}; the scan has {scan.shape}): its edit cannot be used"
        raise ExternalToolError(msg)
    mask: NDArray[np.bool_] = np.abs(output.data - scan.data) > rounding(scan, output)
    return mask, output.data[mask]
