"""A folder of DICOM files as one scan, converted by dcm2niix in a private folder; the DICOM headers stay as they are."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efface.errors import InputError
from efface.io.scratch import private_temporary_folder

TIMEOUT_S = 1800.0
MOST_SERIES = 30
"""An error lists no more of them."""


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
    """

    path: Path
    number: int | None
    description: str

    def __str__(self) -> str:
        return f"{self.number if self.number is not None else '?'} ({self.description or 'without description'})"


@contextlib.contextmanager
def as_image(path: str | Path, series: int | None = None, *, anonymous: bool = True) -> Iterator[Path]:
    """Give the path of an image; a DICOM folder is converted to a temporary NIfTI file first.

    Parameters
    ----------
    path
        An image, or a folder that holds the DICOM files of one scan, at most five folders deep.
    series
        The series to take where there are several; only with a folder.
    anonymous
        Leave the patient's name, age and so on out of the JSON beside the NIfTI file.

    Raises
    ------
    InputError
        If a folder holds no series that can be converted, or several and none was chosen, or a file comes with a series.
    OutputError
        If there is no room for the converted file.
    """
    path = Path(path)
    if not path.is_dir():
        if series is not None:
            msg = f"--series goes with a folder of DICOM files; {path} is none: leave it out"
            raise InputError(msg)
        yield path
        return
    with private_temporary_folder() as folder:
        _convert(path, folder, anonymous=anonymous)
        chosen = _chosen(path, _made(folder), series)
        try:
            yield chosen.path
        except InputError as error:  # the user knows the folder, not ours
            raise InputError(str(error).replace(str(chosen.path), f"{path}, series {chosen},")) from error


def _convert(source: Path, folder: Path, *, anonymous: bool) -> None:
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
    if not list(folder.glob("*.nii")):
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "rror" in line or "nable" in line]
        why = f" (dcm2niix: {said[-1][:200]})" if said else ""
        msg = f"{source} is a folder without a DICOM scan that can be converted{why}: give a NIfTI or MGH file, or DICOM"
        raise InputError(msg)


def _made(folder: Path) -> list[Series]:
    found = []
    for path in sorted(folder.glob("*.nii")):
        said = _sidecar(path.with_suffix(".json"))
        number = said.get("SeriesNumber")
        description = str(said.get("SeriesDescription") or said.get("ProtocolName") or "")
        found.append(Series(path, number if isinstance(number, int) else None, description))
    return sorted(found, key=lambda one: (one.number or 0, one.path.name))


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
        msg = f"series {series} of {source} is {len(fitting)} images (for example echoes): convert it yourself and give one"
    else:
        msg = f"{source} has no series {series}; it has {names}"
    raise InputError(msg)
