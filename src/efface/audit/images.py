"""The audit of one image: its face, and what may name somebody."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import head_surface
from efface.audit.files import FoundImage
from efface.audit.masks import image_of_mask, look_at_mask
from efface.audit.names import Trace, traces_of
from efface.bids.shareable import without_paths
from efface.errors import EffaceError, one_line
from efface.io.atomic import as_private_as, write_atomically
from efface.io.scan import Scan, load_scan
from efface.io.series import open_series
from efface.quality.left_face import FaceAnswer, LeftFace, find_left_face
from efface.quality.scan_pose import pose_of

PICTURED = ("frontal", "three_quarter_left", "three_quarter_right")
PICTURE_PX = (360, 320)


@dataclass(frozen=True)
class AuditRecord:
    """What was found in one image.

    Attributes
    ----------
    image
        Its path below the audited folder.
    face
        Whether a face is left.
    traces
        What may name somebody.
    warnings
        What went wrong besides, such as a picture that could not be made.
    """

    image: str
    face: LeftFace
    traces: tuple[Trace, ...]
    warnings: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found; what cannot be judged is not clean."""
        return self.face.is_clean and not self.traces

    def to_json(self) -> Mapping[str, Any]:
        """The record as JSON can hold it; without absolute paths, and without any content of headers or sidecars."""
        return {
            "image": self.image,
            "clean": self.is_clean,
            "face": str(self.face.answer),
            "score": None if math.isnan(self.face.score) else round(self.face.score, 3),
            "features": list(self.face.features),
            "reason": self.face.reason,
            "names": [{"where": trace.where, "what": trace.what} for trace in self.traces],
            "warnings": list(self.warnings),
        }


def audit_image(image: FoundImage, pictures: Path | None = None) -> AuditRecord:
    """Look for a face and for names in one image; what cannot be read cannot be told.

    Parameters
    ----------
    image
        As `efface.audit.files.find_images` lists it.
    pictures
        Folder for a picture of the image's face; None makes none.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    if image.problem:
        return AuditRecord(image.name, _unknown(image.problem), traces_of(None, image.path, image.name))
    try:
        scan, notes = _loaded(image.path)
    except EffaceError as error:
        return AuditRecord(image.name, _unknown(_said(error)), traces_of(None, image.path, image.name))
    traces = traces_of(scan, image.path, image.name)
    anatomy = HeadAnatomy(scan)
    try:
        defaced = image_of_mask(image.path)
        face = (look_at_mask(scan, defaced) if defaced else None) or find_left_face(anatomy)
    except EffaceError as error:
        face = _unknown(_said(error))
    warnings = (*notes, *(() if pictures is None else _picture(anatomy, image, pictures)))
    return AuditRecord(
        image.name, LeftFace(face.answer, face.score, face.features, _clean(face.reason)), traces, warnings
    )


def _loaded(path: Path) -> tuple[Scan, tuple[str, ...]]:
    """An image, or the mean of a series.

    Raises
    ------
    InputError
        If it cannot be read, or shows no whole head.
    """
    series = open_series(path)
    if series is None:
        return load_scan(path), ()
    said = f"the mean of {series.volumes} volumes was looked at"
    return replace(series.mean(), container=series.container), (said,)  # whose header it is that may name somebody


def _unknown(reason: str) -> LeftFace:
    return LeftFace(FaceAnswer.CANNOT_TELL, math.nan, (), reason)


def _said(error: EffaceError) -> str:
    return _clean(str(error))


def _clean(text: str) -> str:
    return one_line(without_paths(text))


def picture_name(name: str) -> str:
    """File name of the picture of an image."""
    return f"{name.replace('/', '__')}.png"


def _picture(anatomy: HeadAnatomy, image: FoundImage, folder: Path) -> tuple[str, ...]:
    """Draw the face of an image; a warning where there is nothing to draw."""
    try:
        data = draw(anatomy)
    except EffaceError as error:
        return (f"no picture was made: {_said(error)}",)
    with as_private_as([image.path]):
        write_atomically(folder / picture_name(image.name), data, force=True)
    return ()


def draw(anatomy: HeadAnatomy) -> bytes:
    """PNG of a head from its front and from both sides of it.

    Raises
    ------
    InputError, RegistrationError, AnatomyError
        If no head stands out, or its pose cannot be guessed.
    """
    import matplotlib.image
    import numpy as np

    from efface.visualization.face_rendering import render_views

    pose = pose_of(anatomy).average_to_scan
    views = render_views(head_surface(anatomy.whole.image), pose, views=PICTURED, size_px=PICTURE_PX)
    stream = io.BytesIO()
    matplotlib.image.imsave(stream, np.concatenate(list(views.values()), axis=1), format="png")
    return stream.getvalue()
