"""Cases of a shared data set: every image that was edited, those that were withheld first.

What was withheld is not in the shared data set. It is made again for the page, from the original and the mask of the
edit, in a private folder that goes with the review.
"""

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from efface.bids.dataset_links import RAW, UNLINKED, raw_folder
from efface.bids.derivatives import UnitPaths
from efface.defacing import Edit, apply_edit
from efface.errors import EffaceError, InputError
from efface.io.label_images import load_mask
from efface.io.scan import Scan
from efface.review.cases import ReviewCase
from efface.share.head_image import open_image
from efface.share.inventory import Found, Kind
from efface.share.records import HOME, Became, ImageRecord, read_record

URGENT = 2.0
"""Added to the score of what is withheld: more than any score."""
_MAKING = threading.Lock()


@dataclass(frozen=True)
class SharedCase(ReviewCase):
    """One image of a shared data set.

    Attributes
    ----------
    record
        What is known of it.
    scratch
        Private folder for images that show a face.
    """

    record: ImageRecord = field(kw_only=True)
    scratch: Path = field(kw_only=True)

    @property
    def found(self) -> Found:
        """The image's file."""
        return Found(self.record.row.path, Kind.IMAGE)

    @property
    def is_withheld(self) -> bool:
        """Whether it is not in the shared data set."""
        return self.record.row.outcome is Became.WITHHELD

    @property
    def urgency(self) -> float:
        """Withheld first, then the worst."""
        score = 0.0 if math.isnan(self.score) else self.score
        return score + (URGENT if self.is_withheld else 0.0)

    @property
    def image(self) -> str:
        """Fingerprint of what is or would be shared."""
        return self.record.candidate

    @property
    def defaced(self) -> Path:
        """The image as it is or would be shared; of a series its mean."""
        return self._made("after")

    def evidence_content(self) -> dict[str, Any]:
        """Evidence of the quality check, and why the image was withheld."""
        quality = self.record.evidence.get("quality")
        content = dict(quality) if isinstance(quality, dict) else {}
        left = self.record.evidence.get("left_face")
        said = f"; a face is looked for in the result: {left.get('answer')}" if isinstance(left, dict) else ""
        content["reason"] = self.record.row.reason or f"{content.get('reason', '')}{said}"
        return content

    def recipe_content(self) -> dict[str, Any]:
        """How the image was made."""
        return {"Implementation": "native", "Warnings": list(self.record.warnings), "Parameters": {}}

    def original(self) -> tuple[Path | None, str]:
        """The image in the data set; of a series its mean."""
        folder = raw_folder(self.paths.out_dir)
        if folder is None:
            return None, f"DatasetLinks of dataset_description.json does not say where {RAW} is: correct it"
        if not (folder / self.record.row.path).is_file():
            why = f"the original is not at {folder / self.record.row.path} any more: correct DatasetLinks in "
            return None, f"{why}dataset_description.json, or link the data set at {UNLINKED}"
        try:
            return self._made("before"), ""
        except EffaceError as error:
            return None, str(error)

    def volumes(self) -> dict[str, Path]:
        """The images that can be shown, by kind."""
        before, _ = self.original()
        mask = self.paths.out_dir / str(self.record.edit.get("mask", ""))
        found = {"before": before, "after": self.defaced if before else None, "edit": mask}
        return {kind: path for kind, path in found.items() if path is not None and path.is_file()}

    def _made(self, when: str) -> Path:
        """Write an image before or after its edit into the private folder, once.

        Raises
        ------
        InputError
            If the original or the mask cannot be read.
        """
        path = self.scratch / f"{self.record.candidate[:32]}_{when}.nii.gz"
        with _MAKING:
            if not path.is_file():
                folder = raw_folder(self.paths.out_dir)
                if folder is None:
                    msg = "the data set that this one was made from is not known: correct DatasetLinks"
                    raise InputError(msg)
                scan = open_image(folder, self.found).scan
                self._edited(scan, when).save(path, force=True)
        return path

    def _edited(self, scan: Scan, when: str) -> Scan:
        if when == "before":
            return scan
        mask = load_mask(self.paths.out_dir / self.record.edit["mask"], scan)
        air = self.record.edit.get("air")
        value = float(np.min(scan.data)) if air is None else float(air)
        return apply_edit(scan, Edit(mask, value, self.method))


def find_shared_cases(out_dir: Path, scratch: Path) -> list[SharedCase]:
    """Find every image of a shared data set that was edited, whatever came of it.

    Raises
    ------
    InputError
        If there is none.
    """
    cases = list(_cases(out_dir, scratch))
    if not cases:
        msg = f"{out_dir} holds no image that was edited: run `efface share BIDS_DIR {out_dir}` first"
        raise InputError(msg)
    return cases


def _cases(out_dir: Path, scratch: Path) -> Iterator[SharedCase]:
    for path in sorted((out_dir / HOME).rglob("*_shared.json")):
        record = read_record(path)
        for image in record.images if record else ():
            if not image.edit.get("mask"):
                continue
            found = Found(image.row.path, Kind.IMAGE)
            paths = UnitPaths(out_dir, found.subject, found.session or None, found.name.partition(".")[0], found.suffix)
            quality = image.evidence.get("quality")
            score = math.nan
            with contextlib.suppress(TypeError, ValueError, AttributeError):
                score = float(quality["score"])  # type: ignore[index]
            method = image.row.method or str(image.edit.get("method", "")) or "share"
            yield SharedCase(paths, method, "", image.row.verdict, score, record=image, scratch=scratch)
