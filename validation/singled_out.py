"""As which number of 1,001 what is left singles the originals of a study out, with controls.

Run: ``python validation/singled_out.py STUDY_OUT BIDS_DIR [--others 1]``. STUDY_OUT is the output folder of
`efface study`; the pose of each head is in its verdicts. Controls: the scan untouched; with noise of 3 %; cut flat; and,
for each method, another person's original in the place of the own one, which must come out at about 501 on average.
Prints one line a method: n/a (nothing is left), median, how many are number 1, and the mean of the other people.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import skin_threshold
from efface.anatomy.upright import rigid_of
from efface.io.scan import Scan, load_scan
from efface.privacy.controls import cut_flat, noisy
from efface.privacy.face_map import Map, face_map
from efface.privacy.placed_head import PlacedHead
from efface.privacy.singled_out import onto_mean, rank_of
from efface.quality.grid_matching import on_original_grid
from efface.spatial.types import Volume

ORIGINAL = "untouched"


def maps_of(subject: Path, study: Path) -> Mapping[str, Map]:
    """Maps of the original, of its controls and of its defaced scans, by name; empty without any defaced scan."""
    verdicts = [json.loads(path.read_text()) for path in sorted((study / subject.name).rglob("*_qc.json"))]
    poses = [one["from_average"] for one in verdicts if "from_average" in one]
    anatomy = HeadAnatomy(load_scan(next(subject.rglob("*_T1w.nii.gz"))))
    whole = anatomy.whole
    average_to_scan = np.array(poses[0]) if poses else whole.average_to_scan
    threshold = skin_threshold(whole.image)
    pose = rigid_of(average_to_scan)
    pose = pose @ onto_mean(face_map(whole.image, pose, threshold))

    def seen(scan: Scan) -> Map:
        placed, _ = on_original_grid(anatomy.scan, scan, whole.background.air)
        placed = placed if anatomy.wrap is None else anatomy.wrap.whole(placed)
        image = whole.background.image(whole.background.signal(placed))
        return face_map(Volume(image, whole.scan.affine), pose, threshold)

    flat = cut_flat(PlacedHead(whole.image, average_to_scan, "", threshold)).image
    found = {
        ORIGINAL: seen(anatomy.scan),
        "noisy": seen(noisy(anatomy.scan)),
        "cut flat": face_map(flat, pose, threshold),
    }
    for path in sorted((study / subject.name).rglob("*_desc-*_T1w.nii.gz")):
        found[path.name.split("_desc-")[1].split("_")[0]] = seen(load_scan(path))
    return found


def ranks(maps: Mapping[str, Mapping[str, Map]], kind: str, others: int) -> Iterator[tuple[float, list[float]]]:
    """Rank of each person's original, NaN where nothing is left, and those of some other people in its place."""
    names = sorted(maps)
    for i, name in enumerate(names):
        if kind not in maps[name]:
            continue
        face = maps[name][ORIGINAL]
        left = np.where(np.isfinite(face), maps[name][kind], np.nan)
        rank = rank_of(left, face).rank
        chosen = np.random.default_rng(i).permutation([j for j in range(len(names)) if j != i])[:others]
        wrong = [] if rank is None else [rank_of(left, maps[names[j]][ORIGINAL]).rank for j in chosen]
        yield np.nan if rank is None else rank, [float(one) for one in wrong if one is not None]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--others", type=int, default=1, help="other people's originals for each defaced scan")
    options = parser.parse_args()
    maps = {subject.name: maps_of(subject, options.study) for subject in sorted(options.bids_dir.glob("sub-*"))}
    for kind in dict.fromkeys(kind for one in maps.values() for kind in one):
        found = list(ranks(maps, kind, options.others))
        own = np.array([rank for rank, _ in found])
        there, wrong = own[np.isfinite(own)], [rank for _, some in found for rank in some]
        print(
            f"{kind}: {len(own)} scans, n/a {np.isnan(own).sum()}, "
            f"median {np.median(there) if there.size else np.nan:.0f}, "
            f"number 1: {(np.round(there) == 1).sum()}, <= 10: {(there <= 10).sum()}, <= 50: {(there <= 50).sum()}; "
            f"other people: mean {np.mean(wrong) if wrong else np.nan:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
