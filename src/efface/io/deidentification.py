"""BIDS's record of de-identification: ``DeidentificationMethod`` and ``DeidentificationMethodCodeSequence``.

References
----------
DICOM PS3.16, context group 7050 (De-identification Method); PS3.15, annex E.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from efface._version import __version__

METHOD, CODES = "DeidentificationMethod", "DeidentificationMethodCodeSequence"
DESIGNATOR = "DCM"
FACE_REMOVED = "113102"
CID_7050: Mapping[str, str] = MappingProxyType(
    {
        "113100": "Basic Application Confidentiality Profile",
        "113101": "Clean Pixel Data Option",
        FACE_REMOVED: "Clean Recognizable Visual Features Option",
        "113103": "Clean Graphics Option",
        "113104": "Clean Structured Content Option",
        "113105": "Clean Descriptors Option",
        "113106": "Retain Longitudinal Temporal Information Full Dates Option",
        "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
        "113108": "Retain Patient Characteristics Option",
        "113109": "Retain Device Identity Option",
        "113110": "Retain UIDs Option",
        "113111": "Retain Safe Private Option",
        "113112": "Retain Institution Identity Option",
    }
)
"""Codes of the DICOM methods of de-identification, and their meanings."""


def record_of(
    method: str, implementation: str, earlier: Any = (), *, scrubbed: bool, leaves_face: bool = False
) -> dict[str, Any]:
    """Say in BIDS's form how a scan was de-identified.

    Only 113102 is claimed: efface removes the face, and does not apply DICOM's profile to the rest.

    Parameters
    ----------
    method, implementation
        What removed the face.
    earlier
        ``DeidentificationMethodCodeSequence`` of the scan before; its codes of the same DICOM group are kept, with
        DICOM's own words.
    scrubbed
        Whether header text and the rest of the sidecar were removed too.
    leaves_face
        Whether the method was asked to leave a part of the face: then its removal is not claimed.
    """
    done = "face changed, and left in part," if leaves_face else "face removed"
    said = [f"efface {__version__}: {done} by {method} ({implementation} implementation)"]
    said += ["efface: header text, and all of the sidecar but acquisition parameters, removed"] if scrubbed else []
    codes = dict.fromkeys([*known_codes(earlier), *([] if leaves_face else [FACE_REMOVED])])
    return {
        METHOD: said,
        CODES: [
            {"CodeValue": code, "CodeMeaning": CID_7050[code], "CodingSchemeDesignator": DESIGNATOR} for code in codes
        ],
    }


def known_codes(sequence: Any) -> list[str]:
    """Codes of context group 7050 in a sidecar's code sequence, whatever else it holds."""
    items = sequence if isinstance(sequence, list) else []
    values = [item.get("CodeValue") for item in items if isinstance(item, dict)]
    return [value for value in values if isinstance(value, str) and value in CID_7050]
