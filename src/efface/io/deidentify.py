"""Remove what may name a person from image headers: text fields, extensions, tags. Sidecars: `efface.io.sidecar`.

`apply_edit` and `Scan.save` keep every bit outside the edit. Names are therefore taken out here, on purpose and with a
record of what went; only names of fields are recorded, never what they said. Voxels, grid and scaling are not touched.
"""

import struct
from dataclasses import replace

import nibabel as nib
import numpy as np

from efface.errors import InputError
from efface.io.nifti_mgh import Container
from efface.io.scan import Scan

SCRUB, KEEP = "scrub", "keep"
POLICIES = (SCRUB, KEEP)
TEXT_FIELDS = ("data_type", "db_name", "descrip", "aux_file", "intent_name", "unused_str")
"""NIfTI header fields of free text; NIfTI-1 has the first five, NIfTI-2 the last four."""
MGH_USED, MGH_PARAMETERS = 90, 20
"""Bytes of an MGH header that mean something; bytes of TR, flip angle, TE, TI and field of view behind the voxels."""


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
    container, removed = without_text(scan.container, policy)
    return (replace(scan, container=container), removed) if removed else (scan, ())


def without_text(container: Container, policy: str = SCRUB) -> tuple[Container, tuple[str, ...]]:
    """Do the same to what surrounds the voxels of a file; see `strip_identifying_header`."""
    check_policy(policy)
    if policy == KEEP:
        return container, ()
    return (_plain_nifti if container.is_nifti else _plain_mgh)(container)


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
