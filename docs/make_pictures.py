"""Draw the picture of the README from the average head (of nobody in particular): ``python docs/make_pictures.py``."""

import io
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from efface import templates
from efface.anatomy import Anatomy
from efface.deface import METHODS, apply_edit, plan
from efface.report.slices import GAP, Views, strip
from efface.scan import load_scan

HEIGHT_PX, CAPTION_PX = 300, 34


def main() -> None:
    average = templates.average_head()
    scan = load_scan(nib.Nifti1Image(np.rint(average.data).astype(np.int16), average.affine))
    anatomy = Anatomy(scan)
    rows = []
    for method in METHODS:
        edit = plan(anatomy, method)
        views = Views(scan.data, apply_edit(scan, edit).data, edit.mask, anatomy.brain, scan.spacing_mm)
        rows.append((method, Image.open(io.BytesIO(strip(views, "sagittal", HEIGHT_PX, quality=95)))))
    before = rows[0][1].crop((0, 0, (rows[0][1].width - 2 * GAP) // 3, HEIGHT_PX))
    panels = [("average head", before)]
    for method, row in rows:
        panels.append((method, row.crop((before.width + GAP, 0, 2 * before.width + GAP, HEIGHT_PX))))
        panels.append((f"{method}, after", row.crop((2 * (before.width + GAP), 0, row.width, HEIGHT_PX))))
    picture = Image.new("RGB", (len(panels) * (before.width + GAP) - GAP, HEIGHT_PX + CAPTION_PX), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(17)
    for place, (caption, panel) in enumerate(panels):
        left = place * (before.width + GAP)
        picture.paste(panel, (left, 0))
        draw.text((left + before.width / 2, HEIGHT_PX + CAPTION_PX / 2), caption, "black", font, anchor="mm")
    picture.save(Path(__file__).with_name("average_head.png"), optimize=True)


if __name__ == "__main__":
    main()
