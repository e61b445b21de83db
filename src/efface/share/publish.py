"""Write one image of a session into the shared data set: mask and sidecar first, the image last."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from efface.bids.names import deface_mask_name
from efface.errors import InputError
from efface.io.atomic import make_folder, write_atomically
from efface.io.encoding import SUFFIXES
from efface.io.sidecar import Sidecar, sidecar_of
from efface.share import dates
from efface.share.decisions import Decision
from efface.share.head_image import HeadImage, file_sha256, place_copy
from efface.share.inventory import Found
from efface.share.records import HOME, Became, FileRow
from efface.share.settings import ShareSettings
from efface.visualization.slices import Views, strip

PICTURE_PX = 130


def mask_path(found: Found) -> str:
    """Where the mask of an image's edit is, relative to the shared data set.

    Beside the image, under the name that BIDS has for it; among the derivatives where BIDS has none: for other folders
    than ``anat``, and for echoes, inversions and parts.
    """
    if found.datatype == "anat":
        try:
            return f"{found.folder}/{deface_mask_name(found.name)}"
        except InputError:
            pass
    stem = found.name.partition(".")[0].rpartition("_")[0]
    return f"{HOME}/{found.folder}/{stem}_desc-{found.suffix}_mask.nii.gz"


def picture_path(image: str) -> str:
    """Where the picture of a shared image is; both paths are relative to the shared data set."""
    path = PurePosixPath(image)
    return f"{HOME}/{path.parts[0]}/figures/{stem_of(path.name)}.jpg"


def publish(settings: ShareSettings, image: HeadImage, decision: Decision) -> tuple[FileRow, tuple[str, ...]]:
    """Write what may be shared of an image; returns its row, and what was written, relative to the shared data set.

    Of an image that is withheld only the mask of its edit is written, for the review; it does not show the skin.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    found, out_dir = image.found, settings.out_dir
    before = file_sha256(image.path)
    mask = _write_mask(out_dir, image, decision)
    row = FileRow(
        found.path,
        decision.outcome,
        decision.reason,
        decision.verdict,
        sha256_before=before,
        singled_out=_person_rank(decision.evidence),
    )
    if decision.outcome is Became.WITHHELD:
        return row, mask
    out = out_dir / found.path
    picture = _write_picture(out_dir, image, decision)
    sidecar, gone = _write_sidecar(settings, image, out, decision)
    if decision.edit is None and not image.has_text(settings.header):
        place_copy(image.path, out, link=settings.link)
        removed: tuple[str, ...] = ()
    else:
        out.unlink(missing_ok=True)  # an earlier run may have linked the original here
        removed = image.save(out, decision.edit, settings.header)
    words = [decision.reason, f"header: removed {', '.join(removed)}" if removed else ""]
    words.append(f"sidecar: removed {', '.join(gone)}" if gone else "")
    return (
        replace(
            row,
            reason="; ".join(filter(None, words)),
            method=settings.method if decision.outcome is Became.DEFACED else "",
            sha256_after=file_sha256(out),
        ),
        (found.path, *sidecar, *mask, picture),
    )


def _write_picture(out_dir: Path, image: HeadImage, decision: Decision) -> str:
    """A slice of what is shared, for the report; never of what the edit removes."""
    edit = decision.edit
    after = (image.scan if edit is None else image.with_edit(edit)).data
    mask = np.zeros(after.shape, np.bool_) if edit is None else edit.mask
    views = Views(None, np.asarray(after - after.min(), np.float32), mask, None, image.scan.spacing_mm)
    path = picture_path(image.found.path)
    make_folder((out_dir / path).parent)
    write_atomically(out_dir / path, strip(views, "sagittal", PICTURE_PX), force=True)
    return path


def edit_of(found: Found, decision: Decision, method: str) -> dict[str, Any]:
    """How the edit of an image can be made again for the review; empty where there is none."""
    if decision.edit is None:
        return {}
    made = {"mask": mask_path(found), "method": method}
    values = decision.edit.values
    return {**made, "air": float(values)} if isinstance(values, int | float) else made


def _person_rank(evidence: Mapping[str, Any]) -> str:
    """Number of the original among faces of nobody, for the table; ``n/a`` where nothing was left to compare."""
    found = evidence.get("quality", {}).get("singled_out")
    if found is None:
        return ""
    return "n/a" if found["rank"] is None else str(found["rank"])


def _write_mask(out_dir: Path, image: HeadImage, decision: Decision) -> tuple[str, ...]:
    if decision.edit is None:
        return ()
    path = mask_path(image.found)
    if decision.outcome is Became.WITHHELD:  # no part of the raw data set
        path = f"{HOME}/{image.found.folder}/{PurePosixPath(path).name}"
    make_folder((out_dir / path).parent)
    image.scan.save_like(decision.edit.mask, out_dir / path, force=True)
    return (path,)


def _write_sidecar(
    settings: ShareSettings, image: HeadImage, out: Path, decision: Decision
) -> tuple[tuple[str, ...], list[str]]:
    """The JSON beside an image; returns its path, relative, and the names of the keys that were removed."""
    made = Sidecar.of(image.path, out, settings.header, settings.sidecar_keep)
    removed = list(made.removed)
    if settings.dates != dates.KEEP:
        content, gone = dates.undated(made.content)
        made, removed = replace(made, content=content), [*removed, *gone]
    if decision.edit is not None:
        made = made.with_method(settings.method, "native")
    elif not made.source.is_file():
        return (), removed
    make_folder(out.parent)
    made.write(force=True)
    return (sidecar_of(out).relative_to(settings.out_dir).as_posix(),), removed


def is_sidecar_of(text: Found, image: Found) -> bool:
    """Whether a JSON, a table of b values or of directions goes with an image by its name."""
    return text.folder == image.folder and stem_of(text.name) == stem_of(image.name)


def stem_of(name: str) -> str:
    """A file name without its ending."""
    for ending in (*SUFFIXES, ".tsv.gz"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name.rpartition(".")[0]
