"""A folder of DICOM files as one scan, converted by dcm2niix in a private folder; the DICOM headers stay as they are.

What dcm2niix prints about a series is passed on. A series with lost slices is refused unless gaps are allowed: dcm2niix
writes its slices as if they were equidistant, so that everything beyond the gap is in the wrong place. The second
file that it then makes (``_Eq_``), with slices that it interpolated, is no scan.
"""

import contextlib
import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efface.errors import InputError
from efface.io.absent_content import check_content
from efface.io.atomic import as_private_as
from efface.io.nifti_mgh import parse, read_bytes
from efface.io.scratch import private_temporary_folder

TIMEOUT_S = 1800.0
MOST_SERIES = 30
"""An error lists no more of them."""
MOST_WARNINGS, LONGEST_WARNING = 20, 300
"""Lines of dcm2niix that are passed on, and their letters."""
NOTED = ("Warning:", "Error:")
"""How lines begin that are passed on."""
CONVERTED = re.compile(r"Convert \d+ DICOM as (.+) \(\d+x\d+")
"""The line that names the file of a series; most of what is odd about the series is said before it."""
SAID_AFTERWARDS = re.compile(r"Unable to (rotate|equalize)|equidistant")
"""What dcm2niix says of a series after that line."""
GAPS = re.compile(
    r"missing images|images may be missing|missing DICOMs|interslice distance varies|not equidistant|"
    r"equalize slice distances|includes partial volume|slice positions repeated|slices skipped",
    re.IGNORECASE,
)
"""What dcm2niix says of a series with lost slices, or with slices at unequal distances (by more than 0.2 mm)."""
REORDERED = "re-ordering resolved inter-slice distance variability"
EQUALISED = re.compile(r"(.+?)(?:_Tilt(?:_\d+)?)?_Eq(?:_\d+)?")
"""Name of what dcm2niix interpolates beside a series with unequal distances."""
SPARSE = 1.5
"""Slices that lie this many times their thickness apart have gaps between them."""
MOST_FOLDERS_DEEP = 5


@dataclass(frozen=True)
class Series:
    """One image that dcm2niix made.

    Attributes
    ----------
    path
        NIfTI file, with its JSON beside it.
    number
        The DICOM series number; None where there is none.
    description
        What the scanner called it.
    warnings
        What dcm2niix said about it.
    sparse
        Our own warning of slices that lie far apart.
    is_equalised
        Whether dcm2niix made an interpolated file beside it, because its slices lie at unequal distances.
    """

    path: Path
    number: int | None
    description: str
    warnings: tuple[str, ...] = ()
    sparse: tuple[str, ...] = ()
    is_equalised: bool = False

    def __str__(self) -> str:
        return f"{self.number if self.number is not None else '?'} ({self.description or 'without description'})"

    @property
    def gaps(self) -> tuple[str, ...]:
        """What says that slices are lost or lie at unequal distances."""
        said = tuple(warning for warning in self.warnings if GAPS.search(warning))
        if self.is_equalised:
            return said or ("it made equidistant slices beside them",)
        resolved = any(REORDERED in warning for warning in self.warnings)
        return tuple(one for one in said if not resolved or "varies" not in one)


@dataclass(frozen=True)
class SourceImage:
    """An image to read, and what is to be said about where it came from.

    Attributes
    ----------
    path
        NIfTI or MGH file; a temporary one where it came from DICOM.
    name
        What the user knows it by.
    warnings
        Of its conversion.
    """

    path: Path
    name: str
    warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def as_image(
    path: str | Path, series: int | None = None, *, anonymous: bool = True, allow_gaps: bool = False
) -> Iterator[SourceImage]:
    """Give the path of an image; a DICOM folder is converted to a temporary NIfTI file first.

    Parameters
    ----------
    path
        An image, or a folder that holds the DICOM files of one scan, at most five folders deep.
    series
        The series to take where there are several; only with a folder.
    anonymous
        Leave the patient's name, age and so on out of the JSON beside the NIfTI file.
    allow_gaps
        Take a series with lost slices as if its slices were equidistant, with a warning.

    Raises
    ------
    InputError
        If a folder holds no series that can be converted, or several and none was chosen, or the series has lost slices,
        or a file comes with a series.
    OutputError
        If there is no room for the converted file.

    Notes
    -----
    While the image is open, nobody may read what is written who may not read every DICOM file.
    """
    path = Path(path)
    if not path.is_dir():
        if series is not None:
            msg = f"--series goes with a folder of DICOM files; {path} is none: leave it out"
            raise InputError(msg)
        yield SourceImage(path, str(path))
        return
    _check_fetched(path)
    with private_temporary_folder() as folder, as_private_as(_files(path)):
        said = _convert(path, folder, anonymous=anonymous)
        chosen = _chosen(path, _made(folder, said), series)
        warnings = _warnings(path, chosen, allow_gaps=allow_gaps)
        try:
            yield SourceImage(chosen.path, f"{path}, series {chosen}", warnings)
        except InputError as error:  # the user knows the folder, not ours
            raise InputError(str(error).replace(str(chosen.path), f"{path}, series {chosen},")) from error


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _check_fetched(source: Path) -> None:
    """Refuse a folder in which a file is only a link or a pointer: its slice would be missing without a word."""
    for folder, inner, names in os.walk(source):
        is_deepest = len(Path(folder).relative_to(source).parts) >= MOST_FOLDERS_DEEP
        inner[:] = [] if is_deepest else sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            check_content(Path(folder, name))


def _convert(source: Path, folder: Path, *, anonymous: bool) -> str:
    """Let dcm2niix convert everything in a folder, and return what it printed."""
    import dcm2niix

    # Names by series number alone: a description may hold anything. Not compressed: it is read once, then gone.
    options = ["-f", "%s", "-b", "y", "-ba", "y" if anonymous else "n", "-z", "n", "-o", str(folder)]
    try:
        done = subprocess.run(
            [dcm2niix.bin, *options, str(source.resolve())],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        msg = f"{source} took dcm2niix more than {TIMEOUT_S:.0f} s: give the folder of one series"
        raise InputError(msg) from error
    except OSError as error:
        msg = f"dcm2niix cannot be run ({error.strerror}): install it again, or convert {source} yourself"
        raise InputError(msg) from error
    printed = done.stdout + done.stderr
    if not list(folder.glob("*.nii")):
        said = [line.strip() for line in printed.splitlines() if line.startswith(NOTED) or "nable" in line]
        why = f" (dcm2niix: {said[-1][:200]})" if said else ""
        msg = f"{source} is a folder without a DICOM scan that can be converted{why}: give a NIfTI or MGH file, or DICOM"
        raise InputError(msg)
    if done.returncode:
        printed += f"\nWarning: it ended with code {done.returncode}: some files were not converted"
    return printed


def _said(printed: str) -> Mapping[str, list[str]]:
    """Warnings of dcm2niix by the name of the file that they are about, without the words before the colon."""
    said: dict[str, list[str]] = defaultdict(list)
    waiting: list[str] = []
    last = ""
    for line in map(str.strip, printed.splitlines()):
        if match := CONVERTED.match(line):
            last = Path(match[1]).name
            said[last] += waiting
            waiting = []
        elif line.startswith(NOTED):
            text = line.partition(":")[2].strip()[:LONGEST_WARNING]
            (said[last] if last and SAID_AFTERWARDS.search(text) else waiting).append(text)
    for about in said.values():  # about no file in particular
        about += waiting
    return said


def _made(folder: Path, printed: str) -> list[Series]:
    said = _said(printed)
    files = {path.stem: path for path in sorted(folder.glob("*.nii"))}
    equalised = {match[1] for stem in files if (match := EQUALISED.fullmatch(stem))}
    found = []
    for stem, path in files.items():
        if EQUALISED.fullmatch(stem):
            continue
        content = _sidecar(path.with_suffix(".json"))
        number = content.get("SeriesNumber")
        description = str(content.get("SeriesDescription") or content.get("ProtocolName") or "")
        number = number if isinstance(number, int) else None
        warnings, sparse = tuple(said.get(stem, ())), tuple(_sparse(path, content))
        found.append(Series(path, number, description, warnings, sparse, stem in equalised))
    return sorted(found, key=lambda one: (one.number or 0, one.path.name))


def _sparse(path: Path, content: Mapping[str, Any]) -> list[str]:
    """Warn of slices further apart than they are thick: where every second one is lost, distances stay equal."""
    sizes = [content.get(name) for name in ("SliceThickness", "SpacingBetweenSlices")]
    thick = max((float(size) for size in sizes if isinstance(size, int | float)), default=0.0)
    try:
        rows, columns = np.array(content["ImageOrientationPatientDICOM"], np.float64).reshape(2, 3)
        axes = parse(read_bytes(path), str(path))[0].affine[:3, :3]
    except (KeyError, TypeError, ValueError):  # what is wrong with an image is said where it is read as a scan
        return []
    across = np.cross(rows, columns) * (-1, -1, 1)  # DICOM is LPS
    apart = float(np.linalg.norm(axes, axis=0)[np.argmax(np.abs(across @ axes) / np.linalg.norm(axes, axis=0))])
    if not thick or apart < SPARSE * thick:
        return []
    return [f"slices of {thick:g} mm lie {apart:g} mm apart: slices may be lost, and what was between them is missing"]


def _warnings(source: Path, chosen: Series, *, allow_gaps: bool) -> tuple[str, ...]:
    """What dcm2niix said about the chosen series.

    Raises
    ------
    InputError
        If slices are lost, and gaps are not allowed.
    """
    name, gaps = f"{source}, series {chosen}", tuple(dict.fromkeys(chosen.gaps))
    if gaps and not allow_gaps:
        msg = (
            f"{name} has lost slices, or slices at unequal distances (dcm2niix: {'; '.join(gaps)}); expected all slices "
            "of one scan: copy the series again, or give --allow-gaps to take the slices as equidistant"
        )
        raise InputError(msg)
    said = [f"dcm2niix: {text}" for text in dict.fromkeys(chosen.warnings)] + list(chosen.sparse)
    more = [f"{len(said) - MOST_WARNINGS} more warnings of dcm2niix"] if len(said) > MOST_WARNINGS else []
    lost = ["slices are lost, and the others are taken as equidistant: sizes and places are wrong"] if gaps else []
    return tuple(f"{name}: {text}" for text in (*lost, *said[:MOST_WARNINGS], *more))


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _chosen(source: Path, found: Sequence[Series], series: int | None) -> Series:
    fitting = [one for one in found if series is None or one.number == series]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(map(str, found[:MOST_SERIES])) + (", ..." if len(found) > MOST_SERIES else "")
    if series is None:
        msg = f"{source} holds {len(found)} series: {names}; expected one: choose it with --series NUMBER"
    elif fitting:
        msg = (
            f"series {series} of {source} is {len(fitting)} images (for example echoes): "
            "convert it yourself and give one"
        )
    else:
        msg = f"{source} has no series {series}; it has {names}"
    raise InputError(msg)
