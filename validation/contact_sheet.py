"""All scans and methods of a study on one picture, to be looked at: before, edit, after; labels over the original.

    python validation/contact_sheet.py OUT_DIR SHEET.png [--labels]

The sheet shows faces where the scans have them: keep it to yourself.
"""

import argparse
import colorsys
import io
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw

from efface.bids.dataset_links import original_of
from efface.io.label_images import load_labels, load_mask
from efface.io.scan import load_scan
from efface.visualization.slices import PLANES, Views, strip

HEIGHT_PX, COLUMNS = 150, 4


def edits(out_dir: Path) -> list[tuple[str, Image.Image]]:
    found = []
    for path in sorted(out_dir.glob("sub-*/**/*_T1w.nii.gz")):
        after = load_scan(path)
        before = load_scan(original_of(path, out_dir)[0])
        mask = load_mask(Path(str(path).replace("_T1w.nii.gz", "_mask.nii.gz")), after)
        stem = path.name.split("_desc-")[0]
        brain = load_mask(path.parent / f"{stem}_desc-brain_mask.nii.gz", after)
        views = Views(before.data, after.data, mask, brain, after.spacing_mm)
        found.append((path.name.removesuffix("_T1w.nii.gz"), _picture(strip(views, "sagittal", HEIGHT_PX))))
    return found


def labels(out_dir: Path) -> list[tuple[str, Image.Image]]:
    """Labels in colour over the original, in three planes through the middle of the brain."""
    colours = np.array([[0, 0, 0], *[np.multiply(colorsys.hsv_to_rgb(k * 0.381 % 1, 0.8, 1), 255) for k in range(207)]])
    found = []
    for path in sorted(out_dir.glob("sub-*/**/*_desc-original_dseg.nii.gz")):
        stored, affine = load_labels(path)
        image = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
        ids = np.asarray(image.dataobj)
        defaced = next(path.parent.glob(path.name.split("_desc-")[0] + "_desc-*_T1w.nii.gz"))
        scan = load_scan(original_of(defaced, out_dir)[0])
        centre = [round(c) for c in np.argwhere(ids > 0).mean(axis=0)]
        top, panels = np.percentile(scan.data, 99.5), []
        for axis in range(len(PLANES)):
            at = centre[axis] + (round(6 / scan.spacing_mm[0]) if axis == 0 else 0)
            grey = np.clip(np.take(scan.data, at, axis).T[::-1] / top * 255, 0, 255)[..., None].repeat(3, -1)
            plane = np.take(ids, at, axis).T[::-1]
            grey[plane > 0] = 0.55 * grey[plane > 0] + 0.45 * colours[np.minimum(plane[plane > 0], 207)]
            spacing = np.delete(scan.spacing_mm, axis)
            size = (round(HEIGHT_PX * grey.shape[1] * spacing[0] / (grey.shape[0] * spacing[1])), HEIGHT_PX)
            panels.append(Image.fromarray(grey.astype(np.uint8)).resize(size))
        row = Image.new("RGB", (sum(p.width for p in panels), HEIGHT_PX))
        for k, panel in enumerate(panels):
            row.paste(panel, (sum(p.width for p in panels[:k]), 0))
        found.append((path.name.split("_desc-")[0], row))
    return found


def _picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--labels", action="store_true", help="labels over the originals instead of edits")
    options = parser.parse_args()
    pictures = labels(options.out_dir) if options.labels else edits(options.out_dir)
    wide = max(picture.width for _, picture in pictures) + 6
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * wide, rows * (HEIGHT_PX + 18)), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (name, picture) in enumerate(pictures):
        x, y = k % COLUMNS * wide, k // COLUMNS * (HEIGHT_PX + 18)
        draw.text((x + 2, y + 2), name, "black")
        sheet.paste(picture, (x, y + 16))
    sheet.save(options.sheet)


if __name__ == "__main__":
    main()
