"""The record of a defacing method, and that of the external program it comes from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing.edit import Edit

TIMEOUT_S = 3600.0
MARGIN = {"unit": "mm", "minimum": 0.0, "maximum": 50.0}
"""Metadata of a parameter that is a distance around something."""


@dataclass(frozen=True)
class Workspace:
    """Files of one run of an external program, in a private folder.

    Attributes
    ----------
    folder
        The folder; also the program's working directory.
    """

    folder: Path

    @property
    def scan(self) -> Path:
        """The scan, compressed NIfTI."""
        return self.folder / "scan.nii.gz"

    @property
    def uncompressed_scan(self) -> Path:
        """The scan for programs that do not read compressed files."""
        return self.folder / "scan.nii"

    @property
    def brain(self) -> Path:
        """The brain mask, compressed NIfTI."""
        return self.folder / "brain.nii.gz"

    @property
    def output(self) -> Path:
        """The file that the program is asked to write."""
        return self.folder / "defaced.nii.gz"


@dataclass(frozen=True)
class ExternalParams:
    """Parameters of every external program."""

    program: Path | None = field(
        default=None, metadata={"help": "path of the program; none: look on PATH, then beside the interpreter"}
    )
    timeout_s: float = field(
        default=TIMEOUT_S,
        metadata={"help": "the program is stopped after this time", "unit": "s", "positive": True},
    )


Command = Callable[[Path, Workspace, Any], Sequence[str | Path]]
"""Program, files and parameters to the arguments of the call, program included."""


@dataclass(frozen=True)
class ExternalProgram:
    """How a third-party program is called.

    Attributes
    ----------
    program
        Its name, as `efface.io.programs` looks for it.
    command
        Makes the arguments of the call.
    install
        What to install where it is missing.
    params
        Dataclass of its parameters, a subclass of `ExternalParams`.
    needs_brain
        Whether it takes a brain mask.
    needs_uncompressed
        Whether it reads uncompressed NIfTI only.
    output_pattern
        Where its output is, a glob pattern in the folder of the run.
    version
        Finds its version without a run on a scan, from its path; an empty text if that fails. See
        `efface.defacing.external_process`. None if there is no way.
    """

    program: str
    command: Command
    install: str
    params: type[ExternalParams] = ExternalParams
    needs_brain: bool = False
    needs_uncompressed: bool = False
    output_pattern: str = "defaced.nii.gz"
    version: Callable[[Path], str] | None = None


@dataclass(frozen=True)
class DefacingMethod:
    """Everything that efface knows about a defacing method.

    Attributes
    ----------
    name
        As on the command line and in file names.
    title
        As its authors write it.
    summary
        What it does, one line without a full stop.
    citation
        Key of the paper in ``report/citations.bib``.
    reference
        The paper in a few words, with its DOI.
    colour
        Of the method in every figure, ``#rrggbb``.
    params
        Frozen dataclass of its parameters, see `efface.parameters`.
    plan
        Decides the edit, from the anatomy of a scan and an instance of `params`.
    external
        The authors' own program; None if it cannot be run.
    external_note
        Why `external` is None.
    carries_over
        Whether the edit can be carried to other images as a region that becomes air.
    most_wrapped_ml
        Volume of tissue that wraps around the border of the image up to which the method takes a scan.
    """

    name: str
    title: str
    summary: str
    citation: str
    reference: str
    colour: str
    params: type[Any]
    plan: Callable[[HeadAnatomy, Any], Edit]
    external: ExternalProgram | None = None
    external_note: str = ""
    carries_over: bool = True
    most_wrapped_ml: float = math.inf

    @property
    def is_our_own(self) -> bool:
        """Whether it is a method of efface itself, which no paper describes."""
        return self.citation == "efface"
