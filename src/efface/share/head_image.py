"""One image of a session as `efface share` looks at it: a scan, or the mean of a series."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from efface.defacing import Edit, apply_edit
from efface.io.atomic import copy_atomically, make_folder
from efface.io.deidentify import KEEP, SCRUB, strip_identifying_header
from efface.io.scan import Scan, load_scan
from efface.io.series import Series, open_series
from efface.share.inventory import Found

IN_PARTS: tuple[str, ...] = ("phase", "real", "imag")
PHASES = ("phase", "phase1", "phase2", "phasediff", "fieldmap")
"""Suffixes of images that show no head in magnitudes."""
ECHOES = ("part", "echo", "inv", "flip", "mt")
"""Entities in which the images of one acquisition differ."""
ONE_ACQUISITION = (
    frozenset({"MP2RAGE", "UNIT1", "T1map", "R1map"}),
    frozenset({"MEGRE", "T2starmap", "R2starmap", "T2starw"}),
    frozenset({"MESE", "T2map", "R2map"}),
    frozenset({"VFA", "T1map", "R1map"}),
    frozenset({"magnitude", "fieldmap"}),
    frozenset({"magnitude1", "magnitude2", "phase1", "phase2", "phasediff"}),
    frozenset({"bold", "sbref"}),
    frozenset({"dwi", "sbref"}),
    frozenset({"asl", "m0scan"}),
)
"""Suffixes of images that one acquisition gives, in one place."""
DECODED_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class HeadImage:
    """An image of a session.

    Attributes
    ----------
    found
        Its file.
    path
        Where it is.
    scan
        The image, or the mean of its volumes.
    series
        The volumes; None for an image of one.
    """

    found: Found
    path: Path
    scan: Scan
    series: Series | None

    @property
    def shows_magnitudes(self) -> bool:
        """Whether a head can be seen in it: not in phases, nor in real and imaginary parts."""
        return self.found.entities.get("part") not in IN_PARTS and self.found.suffix not in PHASES

    def with_edit(self, edit: Edit) -> Scan:
        """The scan after an edit."""
        return apply_edit(self.scan, edit)

    def save(self, out: Path, edit: Edit | None, policy: str) -> tuple[str, ...]:
        """Write the image, all volumes of it, after an edit; returns the names of the header fields that were removed.

        Parameters
        ----------
        out
            Where it goes; its folder is made.
        edit
            None leaves every voxel.
        policy
            What happens to text in the header.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        make_folder(out.parent)
        if self.series is None:
            scan, removed = strip_identifying_header(self.scan if edit is None else self.with_edit(edit), policy)
            scan.save(out, force=True)
            return removed
        mask = None if edit is None else self.scan.ras_to_stored(edit.mask)
        air = 0.0 if edit is None else float(np.min(edit.values))
        return self.series.save(out, mask, air, policy=policy, force=True)

    def has_text(self, policy: str) -> bool:
        """Whether the header holds text that the policy removes."""
        if policy == KEEP:
            return False
        scan = self.scan if self.series is None else replace(self.scan, container=self.series.container)
        return bool(strip_identifying_header(scan, SCRUB)[1])


def open_image(bids_dir: Path, found: Found) -> HeadImage:
    """Open an image.

    Raises
    ------
    InputError
        If it cannot be read, or can be no image of a head.
    """
    path = bids_dir / found.path
    series = open_series(path)
    return HeadImage(found, path, load_scan(path) if series is None else series.mean(), series)


def are_one_acquisition(a: Found, b: Found) -> bool:
    """Whether two images come from one acquisition by their names: parts, echoes, inversions, maps."""
    if a.folder != b.folder:
        return False
    mine, theirs = ({k: v for k, v in one.entities.items() if k not in ECHOES} for one in (a, b))
    same_kind = a.suffix == b.suffix or any({a.suffix, b.suffix} <= group for group in ONE_ACQUISITION)
    return same_kind and mine == theirs


def file_sha256(path: Path) -> str:
    """Hash of a file as it is on the disk."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def place_copy(source: Path, out: Path, *, link: bool) -> None:
    """Copy a file that nothing is changed in, or link it where that is asked for and possible.

    Raises
    ------
    InputError
        If it cannot be read.
    OutputError
        If it cannot be written.
    """
    make_folder(out.parent)
    out.unlink(missing_ok=True)
    real = source.resolve()
    if link:
        try:
            out.hardlink_to(real)
        except OSError:  # another file system, or one without links
            copy_atomically(real, out)
        return
    copy_atomically(real, out)
