"""The JSON that goes with a defaced image: acquisition parameters, and how it was de-identified."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efface.io.absent_content import why_absent
from efface.io.atomic import as_private_as, write_atomically
from efface.io.deidentification import CODES, FACE_REMOVED, METHOD, known_codes, record_of
from efface.io.deidentify import KEEP, SCRUB, check_policy
from efface.io.encoding import SUFFIXES
from efface.io.sidecar_keys import is_acquisition_parameter

MAXIMUM_SIDECAR_BYTES = 64 * 2**20
PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}|\(?[0-9A-Fa-f]{4},?[0-9A-Fa-f]{4}\)?")
"""A key that can be named: a word, or a DICOM tag. Any other may itself hold a name."""
UNNAMED = "a key that is no plain word"


def sidecar_of(path: Path) -> Path:
    """Where the JSON beside an image is."""
    ending = next((suffix for suffix in (".nii.gz", *SUFFIXES) if path.name.lower().endswith(suffix)), path.suffix)
    return path.with_name(path.name[: len(path.name) - len(ending)] + ".json")


@dataclass(frozen=True)
class Sidecar:
    """The JSON that goes with a defaced image.

    Attributes
    ----------
    image, source
        The image before defacing, and the JSON beside it; there need not be one.
    path
        Where it is written.
    content
        Acquisition parameters, and what was asked to be kept.
    removed
        Keys that were left out; never what they said.
    policy
        ``scrub`` or ``keep``.
    warnings
        Why the JSON before defacing was not used, or that by it the face was removed before.
    """

    image: Path
    source: Path
    path: Path
    content: Mapping[str, Any]
    removed: tuple[str, ...] = ()
    policy: str = SCRUB
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, image: Path, out: Path, policy: str = SCRUB, keep: Collection[str] = ()) -> "Sidecar":
        """Read the JSON beside `image`, for `out`; empty where there is none that can be read.

        Parameters
        ----------
        image, out
            Images before and after defacing.
        policy
            ``scrub`` leaves acquisition parameters only (`efface.io.sidecar_keys`); ``keep`` keeps everything.
        keep
            Further keys to keep, spelled as in the file, whatever their values are.

        Raises
        ------
        InputError
            If the policy is unknown.
        """
        check_policy(policy)
        source, target = sidecar_of(image), sidecar_of(out)
        absent = why_absent(source)
        if absent:
            warning = f"{source} {absent}; it was not carried over"
            return cls(image, source, target, {}, policy=policy, warnings=(warning,))
        if not source.is_file():
            return cls(image, source, target, {}, policy=policy)
        content, why = _read(source)
        if why:
            return cls(image, source, target, {}, policy=policy, warnings=(f"{source} {why} and was not carried over",))
        odd: tuple[str, ...] = ()
        if FACE_REMOVED in known_codes(content.get(CODES)):
            odd = (f"{source} says that the face was removed before (code {FACE_REMOVED}): take the scan before that",)
        if policy == KEEP:
            return cls(image, source, target, content, policy=policy, warnings=odd)
        kept = {key: value for key, value in content.items() if key in keep or is_acquisition_parameter(key, value)}
        if CODES in content:  # read by `with_method`, which keeps DICOM's codes and no text
            kept[CODES] = content[CODES]
        removed = dict.fromkeys(key if PLAIN_KEY.fullmatch(key) else UNNAMED for key in content if key not in kept)
        return cls(image, source, target, kept, tuple(removed), policy, odd)

    def with_method(self, method: str, implementation: str, *, leaves_face: bool = False) -> "Sidecar":
        """Add how the image was de-identified, in BIDS's form; see `efface.io.deidentification.record_of`."""
        scrubbed = self.policy != KEEP
        made = record_of(method, implementation, self.content.get(CODES), scrubbed=scrubbed, leaves_face=leaves_face)
        if not scrubbed:
            for key, mine in ((METHOD, made[METHOD]), (CODES, [] if leaves_face else made[CODES][-1:])):
                before = self.content.get(key, [])
                before = before if isinstance(before, list) else [before]
                made[key] = [*before, *(item for item in mine if item not in before)]
        return replace(self, content={**self.content, **made})

    def write(self, *, force: bool) -> None:
        """Write it, for nobody who may not read the JSON before defacing.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with as_private_as([self.image, self.source]):
            write_atomically(self.path, (json.dumps(self.content, indent=2) + "\n").encode(), force=force)


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Content of a sidecar, and an empty text; or an empty object and the reason why it cannot be used."""
    try:
        if path.stat().st_size > MAXIMUM_SIDECAR_BYTES:
            return {}, f"is larger than {MAXIMUM_SIDECAR_BYTES >> 20} MiB"
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        json.dumps(content, indent=2)
    except (OSError, ValueError, RecursionError):
        return {}, "cannot be read as JSON"
    return (content, "") if isinstance(content, dict) else ({}, "holds no JSON object")
