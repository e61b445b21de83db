"""Remove what may name a person from headers and sidecars: text fields, extensions, identifying keys.

`apply_edit` and `Scan.save` keep every bit outside the edit. Names are therefore taken out here, on purpose and with a
record of what went; only names of fields are recorded, never what they said. Voxels, grid and scaling are not touched.
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from efface.errors import InputError
from efface.io.atomic import write_atomically
from efface.io.encoding import SUFFIXES
from efface.io.nifti_mgh import Container
from efface.io.scan import Scan

SCRUB, KEEP = "scrub", "keep"
POLICIES = (SCRUB, KEEP)
TEXT_FIELDS = ("data_type", "db_name", "descrip", "aux_file", "intent_name", "unused_str")
"""NIfTI header fields of free text; NIfTI-1 has the first five, NIfTI-2 the last four."""
MGH_USED, MGH_PARAMETERS = 90, 20
"""Bytes of an MGH header that mean something; bytes of TR, flip angle, TE, TI and field of view behind the voxels."""

IDENTIFYING = (
    # who
    "PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight",
    "PatientSize", "PatientAddress", "PatientTelephoneNumbers", "PatientComments", "EthnicGroup", "Occupation",
    "AdditionalPatientHistory", "MedicalRecordLocator", "AccessionNumber", "StudyID", "AdmissionID",
    # where, and by whom
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber",
    "ReferringPhysicianName", "PerformingPhysicianName", "RequestingPhysician", "OperatorsName",
    # when
    "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "StudyDate", "StudyTime", "SeriesDate", "SeriesTime",
    "ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime", "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    # links to the hospital's archive
    "SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID",
    # free text typed at the scanner
    "ProcedureStepDescription", "PerformedProcedureStepDescription", "RequestedProcedureDescription", "ImageComments",
)  # fmt: skip
"""Sidecar keys that identify, as dcm2niix (with ``-ba n``) and dcmstack write them."""
FAMILIES = re.compile(r"^(other)?patient|physician|operator|institution|serialnumber$|date$|datetime$|uids?$")
"""Other keys of the same kinds, in lower case and without separators."""
HARMLESS = frozenset({"patientposition", "patientorientation"})
MAXIMUM_SIDECAR_BYTES = 64 * 2**20


def check_policy(policy: str) -> None:
    """Refuse a header policy other than ``scrub`` and ``keep``.

    Raises
    ------
    InputError
        Naming what is possible.
    """
    if policy not in POLICIES:
        msg = f"header must be one of {', '.join(POLICIES)}; received {policy}"
        raise InputError(msg)


def strip_identifying_header(scan: Scan, policy: str = SCRUB) -> tuple[Scan, tuple[str, ...]]:
    """Remove header text that may name a person; returns the scan and the names of the removed fields.

    Parameters
    ----------
    scan
        Any scan.
    policy
        ``scrub`` empties the header's text fields and removes extensions, tags and whatever lies behind the voxels;
        ``keep`` keeps them.

    Returns
    -------
    scan
        With the same voxels, grid, dtype and scaling; the same object where nothing was there to remove.
    removed
        Names of what was removed, never its content.

    Raises
    ------
    InputError
        If the policy is unknown.
    """
    check_policy(policy)
    if policy == KEEP:
        return scan, ()
    container, removed = (_plain_nifti if scan.container.is_nifti else _plain_mgh)(scan.container)
    return (replace(scan, container=container), removed) if removed else (scan, ())


def _plain_nifti(container: Container) -> tuple[Container, tuple[str, ...]]:
    data = bytearray(container.before)
    header = nib.Nifti2Header if 540 in (struct.unpack(f"{order}i", data[:4])[0] for order in "<>") else nib.Nifti1Header
    fields = header.template_dtype.fields
    removed = []
    for name in TEXT_FIELDS:
        if name not in fields:
            continue
        place = slice(fields[name][1], fields[name][1] + fields[name][0].itemsize)
        if any(data[place]):
            data[place] = bytes(fields[name][0].itemsize)
            removed.append(name)
    size = header.template_dtype.itemsize
    if any(data[size:]):
        order = "<" if struct.unpack("<i", data[:4])[0] == size else ">"
        data[size:] = bytes(4)  # no extensions
        kind, at = fields["vox_offset"][:2]
        data[at : at + kind.itemsize] = np.array(size + 4, kind.newbyteorder(order)).tobytes()
        removed.append("extensions")
    if container.after:
        removed.append("bytes after the voxels")
    return replace(container, before=bytes(data), after=b""), tuple(removed)


def _plain_mgh(container: Container) -> tuple[Container, tuple[str, ...]]:
    before, after, removed = container.before, container.after, []
    if any(before[MGH_USED:]):
        before = before[:MGH_USED] + bytes(len(before) - MGH_USED)
        removed.append("unused header bytes")
    if len(after) > MGH_PARAMETERS:  # the tags: command lines with user names and paths, and more
        after = after[:MGH_PARAMETERS]
        removed.append("tags")
    return replace(container, before=before, after=after), tuple(removed)


def sidecar_of(path: Path) -> Path:
    """Where the JSON beside an image is."""
    ending = next((suffix for suffix in (".nii.gz", *SUFFIXES) if path.name.lower().endswith(suffix)), path.suffix)
    return path.with_name(path.name[: len(path.name) - len(ending)] + ".json")


def is_identifying(key: str) -> bool:
    """Whether a sidecar's key is one of `IDENTIFYING`, or of their kinds; however it is spelled."""
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    return plain not in HARMLESS and (plain in _IDENTIFYING or FAMILIES.search(plain) is not None)


_IDENTIFYING = frozenset(name.lower() for name in IDENTIFYING)


@dataclass(frozen=True)
class Sidecar:
    """The JSON that goes with a defaced image.

    Attributes
    ----------
    path
        Where it is written.
    content
        Without identifying keys, at any depth, unless they are kept.
    removed
        The keys that were left out.
    """

    path: Path
    content: Mapping[str, Any]
    removed: tuple[str, ...]

    @classmethod
    def of(cls, image: Path, out: Path, policy: str = SCRUB) -> tuple["Sidecar | None", tuple[str, ...]]:
        """Read the JSON beside `image`, for `out`; None where there is none to write, and why, as warnings.

        Raises
        ------
        InputError
            If the policy is unknown.
        """
        check_policy(policy)
        path, target = sidecar_of(image), sidecar_of(out)
        if not path.is_file():
            return None, ()
        if target.resolve() == path.resolve():
            return None, (
                f"{path} is the sidecar of both images and was left as it is: choose another name to scrub it",
            )
        removed: dict[str, None] = {}
        try:
            content, why = _read(path)
            content = content if policy == KEEP else _named_less(content, removed)
            json.dumps(content, indent=2)
        except (OSError, ValueError, RecursionError):
            why = "cannot be read as JSON"
        if why:
            return None, (f"{path} {why} and was not carried over",)
        return cls(target, content, tuple(removed)), ()

    def write(self, *, force: bool) -> None:
        """Write it.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        write_atomically(self.path, (json.dumps(self.content, indent=2) + "\n").encode(), force=force)


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Content of a sidecar, and an empty text; or an empty object and the reason why it cannot be used."""
    if path.stat().st_size > MAXIMUM_SIDECAR_BYTES:
        return {}, f"is larger than {MAXIMUM_SIDECAR_BYTES >> 20} MiB"
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    return (content, "") if isinstance(content, dict) else ({}, "holds no JSON object")


def _named_less(value: Any, removed: dict[str, None]) -> Any:
    if isinstance(value, list):
        return [_named_less(item, removed) for item in value]
    if not isinstance(value, dict):
        return value
    removed.update((key, None) for key in value if is_identifying(key))
    return {key: _named_less(item, removed) for key, item in value.items() if not is_identifying(key)}
