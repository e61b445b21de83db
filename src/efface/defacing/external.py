"""The original programs, where they are installed: run on the scan, and what they changed taken as the edit.

Every program is run in a private folder that is removed afterwards, with a time limit, never through a shell; what
it prints is kept. Its output must lie on the scan's grid. A voxel counts as changed when its value moved by more
than the output file's own quantisation: some programs choose a new scale factor, which moves every voxel a little.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit
from efface.defacing.fsl_deface import three_numbers
from efface.errors import ExternalToolError, InputError, MissingDependencyError
from efface.io.scan import Scan, load_scan
from efface.io.scratch import private_folder

TIMEOUT_S = 3600.0
LOG_CHARACTERS = 20_000
VERSION = re.compile(r"(?:version|v|\b[a-z_]+)[ :]*v?(\d+\.\d+(?:\.\d+)*)", re.IGNORECASE)


@dataclass(frozen=True)
class Workspace:
    """Files of one run, in a private folder.

    Attributes
    ----------
    folder
        The folder, also the program's working directory.
    scan, plain, brain, output
        The scan, or the same uncompressed for programs that want that; its brain mask, for programs that want one;
        and where the program should write.
    """

    folder: Path

    @property
    def scan(self) -> Path:
        """The scan, NIfTI."""
        return self.folder / "scan.nii.gz"

    @property
    def plain(self) -> Path:
        """The scan without compression, for programs that read no other."""
        return self.folder / "scan.nii"

    @property
    def brain(self) -> Path:
        """The brain mask, NIfTI."""
        return self.folder / "brain.nii.gz"

    @property
    def output(self) -> Path:
        """What the program is asked to write."""
        return self.folder / "defaced.nii.gz"


Command = Callable[[Path, Workspace, Mapping[str, Any]], Sequence[str | Path]]


@dataclass(frozen=True)
class Original:
    """How an original program is called.

    Attributes
    ----------
    program
        Its name on PATH.
    command
        Arguments from the program's path, the files, and the parameters.
    install
        What to install where it is missing.
    params
        Names of the parameters that are handed on.
    wants_brain
        Whether it takes a brain mask.
    wants_plain
        Whether it reads uncompressed NIfTI only.
    pattern
        Where its output is, a glob pattern in the folder.
    version_arguments
        How it is asked for its version; None where it only tells it while it runs.
    """

    program: str
    command: Command
    install: str
    params: tuple[str, ...] = ()
    wants_brain: bool = False
    wants_plain: bool = False
    pattern: str = "defaced.nii.gz"
    version_arguments: tuple[str, ...] | None = None


def _pydeface(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    return [program, files.scan, "--outfile", files.output, "--force", *_options(params, "--")]


def _quickshear(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    return [program, files.scan, files.brain, files.output, str(params.get("buffer", 10.0))]


def _fsl_deface(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    nudge = [f"{v:g}" for v in three_numbers(params["nudge"])] if "nudge" in params else []
    return [program, files.scan, files.output, *(["-nud", *nudge] if nudge else [])]


def _mri_deface(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    brain, face = (_atlas(program, name) for name in ("talairach_mixed_with_skull.gca", "face.gca"))
    return [program, files.scan, brain, face, files.output]


def _mri_reface(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    return [program, files.plain, files.folder / "out", "-imType", "T1", "-saveQCRenders", "0"]


ORIGINALS: Mapping[str, Original] = MappingProxyType(
    {
        "pydeface": Original(
            "pydeface",
            _pydeface,
            "pip install pydeface, and FSL (fsl.fmrib.ox.ac.uk) with FSLDIR set",
            ("cost", "template", "facemask"),
            version_arguments=("--help",),
        ),
        "quickshear": Original("quickshear", _quickshear, "pip install quickshear", ("buffer",), wants_brain=True),
        "fsl_deface": Original("fsl_deface", _fsl_deface, "install FSL 6 (fsl.fmrib.ox.ac.uk)", ("nudge",)),
        "mri_deface": Original(
            "mri_deface",
            _mri_deface,
            "install mri_deface with talairach_mixed_with_skull.gca and face.gca (surfer.nmr.mgh.harvard.edu)",
            version_arguments=("--version",),
        ),
        "mri_reface": Original(
            "run_mri_reface.sh",
            _mri_reface,
            "install mri_reface and its MATLAB runtime (nitrc.org/projects/mri_reface)",
            wants_plain=True,
            pattern="out/*_deFaced.nii*",
        ),
    }
)
"""By the name of the method; Defacer's original needs TensorFlow 1.14, which no supported Python has."""


def find_program(method: str, program: str | Path | None = None) -> Path:
    """Path of a method's original program: the one given, or the one on PATH.

    Raises
    ------
    InputError
        If the method has no original that can be run.
    MissingDependencyError
        If the program is not there; the text says what to install.
    """
    if method not in ORIGINALS:
        msg = f"{method} has no original program that can be run; expected one of {', '.join(ORIGINALS)}"
        raise InputError(msg)
    spec = ORIGINALS[method]
    found = shutil.which(str(program or spec.program))
    if found is None:
        where = f"at {program}" if program else "on PATH"
        msg = f"the original {spec.program} is not {where}: {spec.install}; or use the native implementation"
        raise MissingDependencyError(msg)
    return Path(found)


def plan_original(
    anatomy: HeadAnatomy,
    method: str,
    *,
    program: str | Path | None = None,
    timeout_s: float = TIMEOUT_S,
    **params: Any,
) -> Edit:
    """Run an original program on a scan, and take what it changed as the edit.

    Parameters
    ----------
    anatomy
        Of the scan; its brain mask is handed to programs that want one.
    method
        A name in `ORIGINALS`.
    program
        Path of the program; None looks on PATH.
    timeout_s
        The program and all it started are killed after this many seconds.
    **params
        The program's own, see `Original.params`.

    Raises
    ------
    InputError
        If the method has no original, or a parameter is not one of its own.
    MissingDependencyError
        If the program, or a file it needs, is not installed.
    ExternalToolError
        If it failed, took too long, wrote nothing, or wrote on another grid.
    """
    path = find_program(method, program)
    spec = ORIGINALS[method]
    unknown = sorted(set(params) - set(spec.params))
    if unknown:
        msg = f"the original {method} takes {', '.join(spec.params) or 'no parameters'}; received {', '.join(unknown)}"
        raise InputError(msg)
    with private_folder() as folder:
        files = Workspace(folder)
        anatomy.scan.save(files.plain if spec.wants_plain else files.scan)
        if spec.wants_brain:
            anatomy.scan.save_like(anatomy.brain, files.brain)
        (files.folder / "out").mkdir()
        log = _run(spec.program, [str(a) for a in spec.command(path, files, params)], files.folder, timeout_s)
        written = sorted(files.folder.glob(spec.pattern))
        if not written:
            msg = f"{spec.program} ended without an output; its last words: {_last_words(log)}"
            raise ExternalToolError(msg)
        mask, values = _changed(anatomy.scan, load_scan(written[0]), spec.program)
    version = _version(log) or _asked_version(path, spec)
    record = {**params, "program": str(path), "version": version, "log": log.replace(str(folder), "")[-LOG_CHARACTERS:]}
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


def _options(params: Mapping[str, Any], dashes: str) -> list[str]:
    return [word for name, value in params.items() for word in (f"{dashes}{name}", str(value))]


def _atlas(program: Path, name: str) -> Path:
    """A file that mri_deface needs: beside it, or in FreeSurfer's average folder."""
    places = [program.resolve().parent]
    if "FREESURFER_HOME" in os.environ:
        places.append(Path(os.environ["FREESURFER_HOME"]) / "average")
    for place in places:
        if (place / name).is_file():
            return place / name
    msg = f"mri_deface needs {name}, which is not in {' or '.join(map(str, places))}: download it beside the program"
    raise MissingDependencyError(msg)


def _version(text: str) -> str:
    match = VERSION.search(text)
    return match.group(1) if match else ""


def _asked_version(path: Path, spec: Original) -> str:
    """What the program says when asked; "unknown" where it does not say."""
    if spec.version_arguments is None:
        return "unknown"
    try:
        done = subprocess.run(
            [str(path), *spec.version_arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return _version(done.stdout + done.stderr) or "unknown"


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-300:] or "none"
