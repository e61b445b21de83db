"""What of a file may name somebody: header fields, extensions, keys of its sidecar, its own name and its folders'.

Only where it was found is reported, never what it says.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import nibabel as nib

from efface.io.deidentification import CODES, METHOD
from efface.io.deidentify import TEXT_FIELDS, strip_identifying_header
from efface.io.json_files import parse_json
from efface.io.scan import Scan
from efface.io.sidecar import MAXIMUM_SIDECAR_BYTES, PLAIN_KEY, UNNAMED, sidecar_of
from efface.io.sidecar_keys import MONTHS, TRACES, is_acquisition_parameter

HEADER, SIDECAR, NAME = "header", "sidecar", "name"
SOFTWARE = re.compile(
    r"(FSL)?\d+\.\d+(\.\d+)*(:[0-9a-f]{6,10})?"  # FSL5.0, 6.0.5:9e026117
    r"|(SPM|spm)[\w .-]{0,20}|FreeSurfer[\w .:-]{0,40}|MRtrix version: [\w.-]{1,20}|ITK[\w .-]{0,20}|nibabel|none|dsr",
    re.ASCII,
)
"""What programs write into text fields; nobody is named by it."""
RECORDS = frozenset({METHOD, CODES, "SkullStripped", "Sources", "SpatialReference", "RawSources"})
"""Keys of derivatives that efface and others write; their values are looked at for traces."""
IN_NAMES = re.compile(
    r"\^"  # DOE^JANE
    r"|(?<!\d)(19|20)\d\d[-._ ]?(0[1-9]|1[0-2])[-._ ]?(0[1-9]|[12]\d|3[01])(?!\d)"  # 20200102, 2020-01-02
    r"|(?<!\d)(0[1-9]|[12]\d|3[01])[-._ ]?(0[1-9]|1[0-2])[-._ ]?(19|20)\d\d(?!\d)"  # 02012020, 02.01.2020
    rf"|(?<![A-Za-z0-9])\d{{1,2}}[-._ ]?({MONTHS})[a-z]*[-._ ]?(19|20)\d\d"  # 2Jan2020
    r"|(?<!\d)\d+(\.\d+){4,}"  # a DICOM UID
    r"|@"
    r"|[A-Za-z]{2,}, ?[A-Za-z]{2,}"  # Doe, Jane
    r"|(?<![a-z])(mrn|dob|patient[ _-]?name)(?![a-z])",
    re.IGNORECASE,
)
"""Names as DICOM writes them, dates, UIDs, addresses, and words that announce one of them."""


@dataclass(frozen=True, order=True)
class Trace:
    """Something that may name somebody.

    Attributes
    ----------
    where
        `HEADER`, `SIDECAR` or `NAME`.
    what
        The field, the key, or which part of the path; never its content.
    """

    where: str
    what: str


def traces_of(scan: Scan | None, path: Path, name: str) -> tuple[Trace, ...]:
    """Look for what may name somebody.

    Parameters
    ----------
    scan
        The image; None where it cannot be read, and its header is not looked at.
    path
        The file.
    name
        Its path below the audited folder, with ``/``.
    """
    found = [] if scan is None else [Trace(HEADER, what) for what in header_traces(scan)]
    found += [Trace(SIDECAR, key) for key in sidecar_traces(sidecar_of(path))]
    found += [Trace(NAME, what) for what in name_traces(name)]
    return tuple(dict.fromkeys(found))


def header_traces(scan: Scan) -> tuple[str, ...]:
    """Header parts of an image that hold text, but for what programs are known to write."""
    _, removed = strip_identifying_header(scan)
    return tuple(name for name in removed if not _is_software(scan, name))


def _is_software(scan: Scan, field: str) -> bool:
    """Whether a text field of a NIfTI header holds the name of a program only."""
    if field not in TEXT_FIELDS or not scan.container.is_nifti:
        return False
    data = scan.container.before
    version_2 = 540 in (int.from_bytes(data[:4], order) for order in ("little", "big"))
    kinds = (nib.Nifti2Header if version_2 else nib.Nifti1Header).template_dtype.fields
    start, size = kinds[field][1], kinds[field][0].itemsize
    text = data[start : start + size].rstrip(b"\0 ")
    return b"\0" not in text and SOFTWARE.fullmatch(text.decode("latin-1")) is not None


def sidecar_traces(path: Path) -> tuple[str, ...]:
    """Keys of the JSON beside an image that are no acquisition parameters; empty without one."""
    if path.is_symlink() and not path.exists():
        return ("a link to a file that is not here",)
    if not path.is_file():
        return ()
    try:
        if path.stat().st_size > MAXIMUM_SIDECAR_BYTES:
            return ("too large to be read",)
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return ("cannot be read as JSON",)
    if not isinstance(content, dict):
        return ("holds no JSON object",)
    keys = [key for key, value in content.items() if not (is_acquisition_parameter(key, value) or _record(key, value))]
    return tuple(dict.fromkeys(key if PLAIN_KEY.fullmatch(key) else UNNAMED for key in keys))


def _record(key: str, value: object) -> bool:
    """Whether a key records how the image was made, without a date, a name or an absolute path in it."""
    if key not in RECORDS:
        return False
    text = str(value)
    return not (TRACES.search(text) or "^" in text or "@" in text or re.search(r"(?<![\w:/.])/\w", text))


def name_traces(name: str) -> tuple[str, ...]:
    """Which parts of a path look like names, dates or identifiers: ``file name``, ``folder name``."""
    *folders, file = PurePosixPath(name).parts
    found = ["folder name"] if any(IN_NAMES.search(folder) for folder in folders) else []
    return (*found, "file name") if IN_NAMES.search(file) else tuple(found)
