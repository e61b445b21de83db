"""Renderings of the face before and after defacing, made on request and cached."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from efface.anatomy.background import dark_air
from efface.anatomy.skin import Surface, head_surface
from efface.errors import InputError
from efface.io.scan import load_scan
from efface.review.cases import ReviewCase
from efface.review.evidence import number_in
from efface.spatial.affine import apply_affine
from efface.spatial.types import Affine
from efface.visualization.camera import stored_pose
from efface.visualization.face_rendering import CENTRE_MM, VIEWS, render_view

WHEN = ("before", "after")
SIZE_PX = (400, 360)
KEPT_SURFACES, KEPT_PICTURES = 4, 200

Key = tuple[str, str, str]


class Faces:
    """Renders faces, one at a time, so that two reviewers do not slow each other down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._surfaces: OrderedDict[Key, tuple[Surface, Affine]] = OrderedDict()
        self._pictures: OrderedDict[tuple[Key, str], bytes] = OrderedDict()

    def png(self, case: ReviewCase, when: str, view: str) -> bytes:
        """One picture.

        Raises
        ------
        InputError
            If there is no such picture, or the scan cannot be read.
        """
        if when not in WHEN or view not in VIEWS:
            msg = (
                f"a face is seen {' or '.join(WHEN)}, from one of {', '.join(VIEWS)}; received {when[:80]}, {view[:80]}"
            )
            raise InputError(msg)
        key = (case.id, case.image, when)
        with self._lock:
            if (key, view) not in self._pictures:
                surface, pose = self._surface(case, key)
                buffer = BytesIO()
                Image.fromarray(render_view(surface, view, pose, size_px=SIZE_PX)).save(buffer, "PNG")
                _keep(self._pictures, (key, view), buffer.getvalue(), KEPT_PICTURES)
            return self._pictures[key, view]

    def _surface(self, case: ReviewCase, key: Key) -> tuple[Surface, Affine]:
        if key in self._surfaces:
            return self._surfaces[key]
        evidence = case.evidence_content()
        threshold = number_in(evidence.get("surface_threshold"))
        when = key[2]
        path = case.defaced if when == "after" else case.original()[0]
        if path is None:
            raise InputError(case.original()[1])
        if when == "after" and threshold is None and case.original()[0] is not None:
            # Both are drawn at the original's threshold: what is cut away must not move it.
            before, pose = self._surface(case, (*key[:2], "before"))
            surface = head_surface(dark_air(load_scan(path)), threshold=before.threshold)
        else:
            surface = head_surface(dark_air(load_scan(path)), threshold=threshold)
            pose = pose_of(evidence, surface)
        _keep(self._surfaces, key, (surface, pose), KEPT_SURFACES)
        return surface, pose


def pose_of(evidence: Mapping[str, Any], surface: Surface) -> Affine:
    """Average head mm to scan mm, shape (4, 4): as quality control found it, else straight at the head's middle."""
    found = stored_pose(evidence)
    if found is not None:
        return found
    corners = np.argwhere(surface.volume.data >= surface.threshold)[:: max(1, surface.volume.data.size // 1_000_000)]
    low, high = np.percentile(corners, (1, 99), axis=0)
    middle = apply_affine(surface.volume.affine, (low + high) / 2)
    pose = np.eye(4)
    pose[:3, 3] = middle - CENTRE_MM
    return pose


def _keep(store: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    store[key] = value
    while len(store) > most:
        store.popitem(last=False)
