"""Run a published program on a scan, and take what it changed as the edit.

A program runs in a private folder that is removed afterwards, with a time limit, never through a shell; what it prints
is kept. Its output must lie on the scan's grid. A voxel counts as changed when its value moved by more than the output
file's own quantisation: some programs choose a new scale factor, which moves every voxel a little.
"""

import functools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.external_programs import EXTERNAL_PROGRAMS, Workspace
from efface.errors import ExternalToolError, InputError, MissingDependencyError
from efface.io.scan import Scan, load_scan
from efface.io.scratch import private_folder
from efface.parameters import param, parse

TIMEOUT_S = 3600.0
LOG_CHARACTERS = 20_000
VERSION = re.compile(r"(?:version|v|\b[a-z_]+)[ :]*v?(\d+\.\d+(?:\.\d+)*)", re.IGNORECASE)


def find_program(method: str, program: str | Path | None = None) -> Path:
    """Path of a method's external program: the one given, or the one on PATH.

    Raises
    ------
    InputError
        If the method has no external program that can be run.
    MissingDependencyError
        If the program is not there; the text says what to install.
    """
    if method not in EXTERNAL_PROGRAMS:
        msg = f"{method} has no external program that can be run; expected one of {', '.join(EXTERNAL_PROGRAMS)}"
        raise InputError(msg)
    spec = EXTERNAL_PROGRAMS[method]
    found = shutil.which(str(program or spec.program))
    if found is None:
        where = f"at {program}" if program else "on PATH"
        msg = f"the external program {spec.program} is not {where}: {spec.install}; or use the native implementation"
        raise MissingDependencyError(msg)
    return Path(found)


@dataclass(frozen=True)
class RunOptions:
    """How a program is run, whichever it is.

    Attributes
    ----------
    program
        Path of the program; None looks on PATH.
    timeout_s
        The program and all it started are killed after this many seconds.
    """

    program: Path | None = param(None, "path of the program, instead of PATH")
    timeout_s: float = param(TIMEOUT_S, "the program is killed after this time", unit="s", minimum=1)


def plan_external(anatomy: HeadAnatomy, method: str, params: Mapping[str, Any] | None = None) -> Edit:
    """Run an external program on a scan, and take what it changed as the edit.

    Parameters
    ----------
    anatomy
        Of the scan; its brain mask is handed to programs that want one.
    method
        A name in `EXTERNAL_PROGRAMS`.
    params
        `RunOptions`, and the program's own, see `ExternalProgram.params`; by name.

    Raises
    ------
    InputError
        If the method has no external program, or a parameter is not one of its own.
    MissingDependencyError
        If the program, or a file it needs, is not installed.
    ExternalToolError
        If it failed, took too long, wrote nothing, or wrote on another grid.
    """
    own = dict(params or {})
    run = parse(RunOptions, {name: own.pop(name) for name in ("program", "timeout_s") if name in own}, what=method)
    path = find_program(method, run.program)
    spec = EXTERNAL_PROGRAMS[method]
    options = parse(spec.params, own, what=f"the external program {spec.program}")
    given = {name: getattr(options, name) for name in own}
    with private_folder() as folder:
        files = Workspace(folder)
        anatomy.scan.save(files.plain if spec.wants_plain else files.scan)
        if spec.wants_brain:
            anatomy.scan.save_like(anatomy.brain, files.brain)
        (files.folder / "out").mkdir()
        log = _run(spec.program, [str(a) for a in spec.command(path, files, given)], files.folder, run.timeout_s)
        written = sorted(files.folder.glob(spec.pattern))
        if not written:
            msg = f"{spec.program} ended without an output; its last words: {_last_words(log)}"
            raise ExternalToolError(msg)
        mask, values = _changed(anatomy.scan, load_scan(written[0]), spec.program)
    version = _version(log) or external_version(method, path)
    record = {**given, "program": str(path), "version": version, "log": log.replace(str(folder), "")[-LOG_CHARACTERS:]}
    return Edit(mask, values, method, "original", record)


def _run(name: str, arguments: list[str], folder: Path, timeout_s: float) -> str:
    """Run a program in a process group of its own, and give what it printed."""
    log_path = folder / "log.txt"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            msg = f"{name} took more than {timeout_s:.0f} s and was stopped: give it more time, or use native"
            raise ExternalToolError(msg) from error
        finally:
            _stop_group(process)
    text = log_path.read_text(encoding="utf-8", errors="replace")
    if code != 0:
        msg = f"{name} failed with exit code {code}; its last words: {_last_words(text)}"
        raise ExternalToolError(msg)
    return text


def _stop_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill the program and whatever it has started and left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all have ended
        return
    process.wait()


def _changed(scan: Scan, output: Scan, name: str) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Voxels of the scan's RAS+ view that the program changed, and their new values."""
    if output.shape != scan.shape or not np.allclose(output.affine, scan.affine, atol=0.1):
        msg = f"{name} wrote another grid ({output.shape}; the scan has {scan.shape}): its edit cannot be taken over"
        raise ExternalToolError(msg)
    tolerance = 1e-5 * float(np.abs(scan.data).max())
    if output.stored.dtype.kind in "iu":
        same = (output.slope, output.inter) == (scan.slope, scan.inter)
        tolerance = max(tolerance, abs(output.slope) * (0.5 if same else 1.0))
    mask: NDArray[np.bool_] = np.abs(output.data - scan.data) > tolerance
    return mask, output.data[mask]


def _version(text: str) -> str:
    match = VERSION.search(text)
    return match.group(1) if match else ""


@functools.cache
def external_version(method: str, program: Path) -> str:
    """Ask an external program for its version.

    Parameters
    ----------
    method
        A name in `EXTERNAL_PROGRAMS`.
    program
        Its path.

    Returns
    -------
    str
        The version, or ``unknown`` where the program does not say.
    """
    arguments = EXTERNAL_PROGRAMS[method].version_arguments
    if arguments is None:
        return "unknown"
    try:
        done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return _version(done.stdout + done.stderr) or "unknown"


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-300:] or "none"
