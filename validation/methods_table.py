"""Every method on every head of a BIDS data set: what it changed, what of the face it reached, and how long it took.

Run: ``python validation/methods_table.py HEADS OUT.tsv [--pictures DIR]``. Unprotected, as published; anatomy is
shared by the methods of a head, and timed apart. Pictures are 3-D renders before and after, to be looked at.
"""

import argparse
import csv
import resource
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import head_surface
from efface.anatomy.templates import FEATURE_LABELS
from efface.bids.query import find_scans
from efface.defacing import METHODS, Edit, apply_edit, plan
from efface.errors import EffaceError
from efface.io.scan import load_scan
from efface.spatial import resampling
from efface.visualization.face_rendering import render_view

COLUMNS = ("scan", "method", "seconds", "voxels", "ml", "head_ml", "brain_voxels", *FEATURE_LABELS, "note")
VIEWS = ("frontal", "three_quarter_left", "profile_right")
PARAMS = {"defacer": {"incomplete": "edit"}}
"""So that a head whose mouth lies outside the field of view still gives a row; the note says it."""


def feature_skin(anatomy: HeadAnatomy) -> dict[str, np.ndarray]:
    """Of each feature the voxels at the surface of the head: the average head's label, grown, on the scan's grid."""
    back = np.linalg.inv(anatomy.average_to_scan)
    labels = resampling.resample(templates.prior("features"), anatomy.scan.grid, back, order=0)
    depth = ndimage.distance_transform_edt(anatomy.head, sampling=anatomy.scan.spacing_mm)
    skin = anatomy.head & (depth < 6.0)
    return {name: (labels == number) & skin for name, number in FEATURE_LABELS.items()}


def row(anatomy: HeadAnatomy, edit: Edit, seconds: float, skin: dict[str, np.ndarray]) -> dict[str, object]:
    ml = float(np.prod(anatomy.scan.spacing_mm)) / 1000
    shares = {name: f"{edit.mask[where].mean():.2f}" if where.any() else "n/a" for name, where in skin.items()}
    return {
        "method": edit.method,
        "seconds": f"{seconds:.1f}",
        "voxels": int(edit.mask.sum()),
        "ml": f"{edit.mask.sum() * ml:.0f}",
        "head_ml": f"{(edit.mask & anatomy.head).sum() * ml:.0f}",
        "brain_voxels": int((edit.mask & anatomy.brain).sum()),
        **shares,
        "note": "; ".join(edit.warnings),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heads", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for renders; of real people: not to be shared")
    parser.add_argument("--subjects", nargs="*", default=[])
    options = parser.parse_args()
    with options.out.open("w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS, delimiter="\t")
        table.writeheader()
        for source in find_scans(options.heads):
            if options.subjects and source.stem not in options.subjects:
                continue
            start = time.perf_counter()
            anatomy = HeadAnatomy(load_scan(source.path))
            shared = (anatomy.head, anatomy.brain, anatomy.average_to_scan, anatomy.brain_distance_mm)
            spent = time.perf_counter() - start
            table.writerow({"scan": source.stem, "method": "(anatomy)", "seconds": f"{spent:.1f}", "note": len(shared)})
            pictures = [views(anatomy, anatomy.scan.volume, None)] if options.pictures else []
            skin = feature_skin(anatomy)
            for name in METHODS:
                start = time.perf_counter()
                try:
                    edit = plan(anatomy, name, PARAMS.get(name, {}), protect_brain=False)
                except EffaceError as error:
                    table.writerow({"scan": source.stem, "method": name, "note": str(error)})
                    continue
                defaced = apply_edit(anatomy.scan, edit)
                seconds = time.perf_counter() - start
                spent += seconds
                table.writerow({"scan": source.stem, **row(anatomy, edit, seconds, skin)})
                stream.flush()
                if options.pictures:
                    pictures.append(views(anatomy, defaced.volume, head_surface(anatomy.scan.volume).threshold))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"{source.stem}: {spent:.1f} s for all, peak so far {peak:.2f} GB", flush=True)
            if options.pictures:
                save(options.pictures / f"{source.stem}.png", pictures)


def views(anatomy: HeadAnatomy, volume: object, threshold: float | None) -> np.ndarray:
    surface = head_surface(volume, threshold=threshold)
    return np.hstack([render_view(surface, view, anatomy.average_to_scan)[::2, ::2] for view in VIEWS])


def save(path: Path, pictures: list[np.ndarray]) -> None:
    from matplotlib import image

    path.parent.mkdir(parents=True, exist_ok=True)
    if len(pictures) % 2:
        pictures = [*pictures, np.zeros_like(pictures[0])]
    rows = [np.hstack(pictures[i : i + 2]) for i in range(0, len(pictures), 2)]
    image.imsave(path, np.vstack(rows))


if __name__ == "__main__":
    main()
