"""The published programs that efface can run, and how each is called."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from efface.errors import MissingDependencyError
from efface.parameters import NoParams, Params, param


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
class ExternalProgram:
    """How an external program is called.

    Attributes
    ----------
    program
        Its name on PATH.
    command
        Arguments from the program's path, the files, and the parameters.
    install
        What to install where it is missing.
    params
        Dataclass of the parameters that are handed on.
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
    params: "type[Params]" = NoParams
    wants_brain: bool = False
    wants_plain: bool = False
    pattern: str = "defaced.nii.gz"
    version_arguments: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PydefaceOptions:
    """Options of pydeface."""

    cost: str | None = param(None, "cost function of FLIRT")
    template: str | None = param(None, "path of another template")
    facemask: str | None = param(None, "path of another face mask")


@dataclass(frozen=True)
class QuickshearOptions:
    """Options of quickshear."""

    buffer: float = param(10.0, "distance between brain and plane in voxels", minimum=0)


@dataclass(frozen=True)
class FslDefaceOptions:
    """Options of fsl_deface."""

    nudge: tuple[float, float, float] = param(
        (0.0, 0.0, 0.0), "moves the mask right, forward and up in standard space", unit="mm"
    )


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


def _pydeface(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    return [program, files.scan, "--outfile", files.output, "--force", *_options(params, "--")]


def _quickshear(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    return [program, files.scan, files.brain, files.output, str(params.get("buffer", 10.0))]


def _fsl_deface(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    nudge = [f"{v:g}" for v in params.get("nudge", ())]
    return [program, files.scan, files.output, *(["-nud", *nudge] if nudge else [])]


def _mri_deface(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    brain, face = (_atlas(program, name) for name in ("talairach_mixed_with_skull.gca", "face.gca"))
    return [program, files.scan, brain, face, files.output]


def _mri_reface(program: Path, files: Workspace, params: Mapping[str, Any]) -> Sequence[str | Path]:
    return [program, files.plain, files.folder / "out", "-imType", "T1", "-saveQCRenders", "0"]


EXTERNAL_PROGRAMS: Mapping[str, ExternalProgram] = MappingProxyType(
    {
        "pydeface": ExternalProgram(
            "pydeface",
            _pydeface,
            "pip install pydeface, and FSL (fsl.fmrib.ox.ac.uk) with FSLDIR set",
            PydefaceOptions,
            version_arguments=("--help",),
        ),
        "quickshear": ExternalProgram(
            "quickshear", _quickshear, "pip install quickshear", QuickshearOptions, wants_brain=True
        ),
        "fsl_deface": ExternalProgram("fsl_deface", _fsl_deface, "install FSL 6 (fsl.fmrib.ox.ac.uk)", FslDefaceOptions),
        "mri_deface": ExternalProgram(
            "mri_deface",
            _mri_deface,
            "install mri_deface with talairach_mixed_with_skull.gca and face.gca (surfer.nmr.mgh.harvard.edu)",
            version_arguments=("--version",),
        ),
        "mri_reface": ExternalProgram(
            "run_mri_reface.sh",
            _mri_reface,
            "install mri_reface and its MATLAB runtime (nitrc.org/projects/mri_reface)",
            wants_plain=True,
            pattern="out/*_deFaced.nii*",
        ),
    }
)
"""By the name of the method. Defacer's program is not among them: `WHY_NOT` says why."""
WHY_NOT = MappingProxyType({"defacer": "cannot be run: it needs TensorFlow 1.14, which no supported Python has"})
