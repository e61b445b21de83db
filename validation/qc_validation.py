"""Planted cases for quality control: what was done is known, and the right answer is fixed before the verdict is asked.

Run: ``python validation/qc_validation.py HEADS OUT_DIR [--cache DIR] [--subjects ..]``. HEADS is a BIDS data set of
whole heads; where it has ``derivatives/dlmuse`` those labels, which quality control never sees, say what is brain.
Where features are comes from Defacer's network, not from the priors that quality control uses. See
docs/explanation/quality-check.md.

The right answers: a bite of 0.5 ml or more out of the brain is Failure II, one of 0.1 ml is within tolerance. A plane
that shaves 0.1 or 0.5 ml off a pole takes one layer of 2 mm voxels or less, which is where brain masks differ: no right
answer; 2 ml and more are Failure II. Noise is a change of the
brain at 30 % of its intensity and none at 3 %. A face is left where two of eyes, nose and mouth are, or one with two
thirds of the face around it; with noise of 10 % or a blur of 2 mm (standard deviation) it is still there, blurred by
10 mm or replaced by noise it is gone. Shifted and mirrored masks are judged by what geometry says they remove; where
it says between 0.1 and 0.5 ml, or between 35 and 65 % of a feature that decides, there is no right answer, and the
case is counted apart.
"""

import argparse
import csv
import pickle
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.landmarks import find_landmarks
from efface.bids.query import find_scans
from efface.io.scan import Scan, load_scan
from efface.quality import QualityClass, judge
from efface.spatial import resampling

TUNED_ON = ("sub-01", "sub-04", "sub-07", "sub-11", "sub-child")
GROW_MM = {"eyes": 10.0, "nose": 8.0, "mouth": 8.0, "ears": 10.0}
CUTS_ML = (0.1, 0.5, 2.0, 10.0)
POLES = {"frontal pole": (0.15, 1.0, 0.0), "temporal pole": (0.45, 0.25, -0.45), "cerebellum": (0.2, -0.6, -1.0)}
SHIFTS_MM = {
    "up 15": (0, 0, 15),
    "left 40": (-40, 0, 0),
    "forward 25": (0, 25, 0),
    "back 30": (0, -30, 0),
    "down 60": (0, 0, -60),
}
OK, ONE, TWO = QualityClass.SUCCESS, QualityClass.FAILURE_I, QualityClass.FAILURE_II


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a head without quality control."""

    anatomy: HeadAnatomy
    brain: np.ndarray
    features: dict[str, np.ndarray]
    points_mm: np.ndarray
    """Average head mm of each voxel, shape (3, x, y, z)."""

    @property
    def ml(self) -> float:
        return float(np.prod(self.anatomy.scan.spacing_mm)) / 1000

    def away_mm(self, mask: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.distance_transform_edt(~mask, sampling=self.anatomy.scan.spacing_mm))


def known(anatomy: HeadAnatomy, labels: Path) -> Truth:
    scan = anatomy.scan
    brain = anatomy.brain
    if labels.is_file():
        image = nib.as_closest_canonical(nib.load(labels))
        brain = np.asarray(image.dataobj).reshape(scan.shape) > 0
    masks = {name: np.zeros(scan.shape, bool) for name in GROW_MM}
    for feature in find_landmarks(scan.volume):
        at, voxels = feature.voxels(scan.grid)
        masks[feature.name][at] |= voxels
    to_average = np.linalg.inv(anatomy.average_to_scan) @ scan.affine
    index = np.indices(scan.shape, dtype=np.float32).reshape(3, -1)
    points = (to_average[:3, :3] @ index + to_average[:3, 3:]).reshape(3, *scan.shape)
    return Truth(anatomy, brain, masks, points)


def face_region(points: np.ndarray) -> np.ndarray:
    """In front of the ears and below the brow, in the average head."""
    return (points[1] > 45) & (points[2] < -16 + 0.3 * (points[1] - 95)) | (points[1] > 102) & (points[2] < 0)


def cases(truth: Truth, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, QualityClass | None]]:
    """Name, intensities, and the right answer (None: there is none)."""
    scan, brain = truth.anatomy.scan, truth.brain
    data, level = scan.data, float(np.median(scan.data[truth.anatomy.brain]))
    yield "nothing done", data, ONE
    near = {name: truth.away_mm(mask) <= GROW_MM[name] for name, mask in truth.features.items() if mask.any()}
    guarded = truth.away_mm(truth.anatomy.brain | brain) <= 3.0
    for name in ("ears", "eyes", "nose", "mouth"):
        if name in near:
            rest = sum(other in near for other in ("eyes", "nose", "mouth") if other != name)
            yield f"only {name} removed", cut(data, near[name] & ~guarded), ONE if rest > 1 else None
    region = face_region(truth.points_mm)
    well = region & ~guarded
    clean = cut(data, well)
    yield "face removed well", clean, OK
    for number, (pole, direction) in enumerate(POLES.items()):
        for shape in ("ball", "plane"):
            for volume in CUTS_ML:
                side = -1 if (number + int(volume * 10)) % 2 else 1
                away = brain_order(truth, np.array(direction) * (side, 1, 1), shape)
                limit = np.partition(away[brain], count := max(1, round(volume / truth.ml)))[count]
                answer = TWO if volume > 1 else None if shape == "plane" else OK if volume < 0.3 else TWO
                yield f"brain cut {volume} ml, {pole}, {shape}", cut(clean, away < limit), answer
                if volume == 2.0 and pole == "frontal pole" and shape == "ball":
                    yield f"brain cut {volume} ml, face left", cut(data, away < limit), TWO
    middle = truth.points_mm[1][brain].mean()
    mirrored = truth.points_mm.copy()
    mirrored[1] = 2 * middle - mirrored[1]
    back = face_region(mirrored)
    yield "mirrored to the back", cut(data, back), by_geometry(truth, back)
    for name, shift in SHIFTS_MM.items():
        moved = face_region(truth.points_mm - np.array(shift, np.float32)[:, None, None, None])
        yield f"shifted {name} mm", cut(data, moved), by_geometry(truth, moved)
    for sigma, answer in ((2.0, ONE), (10.0, OK)):
        soft = ndimage.gaussian_filter(data, sigma / scan.spacing_mm)
        yield f"face blurred by {sigma:.0f} mm", np.where(well, soft, data), answer
    noise = level * rng.standard_normal(scan.shape).astype(np.float32)
    yield "noise of 10% in the face", np.where(well, data + 0.1 * noise, data), ONE
    yield "noise of 3% everywhere", data + 0.03 * noise, ONE
    yield "noise of 30% everywhere", data + 0.3 * noise, TWO
    yield "face replaced by noise", np.where(well, level * rng.random(scan.shape), data).astype(np.float32), OK


def cut(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask, np.float32(0), data)


def brain_order(truth: Truth, direction: np.ndarray, shape: str) -> np.ndarray:
    """Smallest where a cut at a pole begins: distance from the pole's tip, or depth behind a plane before it."""
    unit = (direction / np.linalg.norm(direction)).astype(np.float32)
    along = np.tensordot(unit, truth.points_mm, 1)
    if shape == "plane":
        return -along
    inside = np.argwhere(truth.brain)
    tip = truth.points_mm[(slice(None), *inside[np.argmax(along[truth.brain])])]
    return np.asarray(np.linalg.norm(truth.points_mm - tip[:, None, None, None], axis=0))


def by_geometry(truth: Truth, removed: np.ndarray) -> QualityClass | None:
    """The right answer for a mask, by what it takes."""
    really = removed & (np.abs(truth.anatomy.scan.data) > 0)
    taken_ml = float((really & truth.brain).sum()) * truth.ml
    if taken_ml >= 0.5:
        return TWO
    if taken_ml > 0.1:
        return None
    share = {n: float(removed[m].mean()) for n, m in truth.features.items() if n != "ears" and m.any()}
    if any(0.35 < s < 0.65 for s in share.values()):
        return None
    left = sum(s < 0.5 for s in share.values())
    if left != 1:
        return ONE if left > 1 else OK
    back = np.linalg.inv(truth.anatomy.average_to_scan)
    face = resampling.resample(templates.prior("face"), truth.anatomy.scan.grid, back) > 0.25
    depth = ndimage.distance_transform_edt(truth.anatomy.head, sampling=truth.anatomy.scan.spacing_mm)
    gone = float(removed[face & (depth > 0) & (depth < 4)].mean())
    return None if 0.2 < gone < 0.45 else ONE if gone < 1 / 3 else OK


def cached_anatomy(scan: Scan, stem: str, folder: Path | None) -> HeadAnatomy:
    """The anatomy, kept on disk between runs."""
    path = folder / f"{stem}_anatomy.pkl" if folder else None
    if path and path.is_file():
        found = pickle.loads(path.read_bytes())
        return HeadAnatomy(scan, found["brain"], registration=found["registration"])
    anatomy = HeadAnatomy(scan)
    found = {"brain": anatomy.brain, "registration": anatomy.registration}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(found))
    return anatomy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("heads", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--subjects", nargs="*", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "planted.tsv").open("w", newline="") as stream:
        table = csv.writer(stream, delimiter="\t")
        table.writerow(
            (
                "scan",
                "case",
                "expected",
                "verdict",
                "score",
                "brain_score",
                "face_score",
                "damaged_ml",
                "left",
                "changed",
                "seconds",
            )
        )
        for source in find_scans(options.heads):
            if options.subjects and source.stem not in options.subjects:
                continue
            anatomy = cached_anatomy(load_scan(source.path), source.stem, options.cache)
            labels = next(iter((options.heads / "derivatives/dlmuse").rglob(f"{source.stem}*.nii.gz")), Path())
            truth = known(anatomy, labels)
            rng = np.random.default_rng(anatomy.scan.seed)
            for name, data, answer in cases(truth, rng):
                image = nib.Nifti1Image(np.asarray(data, np.float32), anatomy.scan.affine)
                start = time.process_time()
                verdict = judge(anatomy, load_scan(image))
                seconds = time.process_time() - start
                brain, face = verdict.brain, verdict.face
                table.writerow((
                    source.stem, name, answer or "none", verdict.verdict, f"{verdict.score:.3f}", f"{brain.score:.3f}",
                    f"{face.score:.3f}", f"{brain.damaged_ml:.3f}",
                    ",".join(face.left), f"{face.changed:.2f}", f"{seconds:.2f}",
                ))  # fmt: skip
            stream.flush()
            print(source.stem, "done", flush=True)
    report(options.out / "planted.tsv")


def report(path: Path) -> None:
    """Accuracy, AUROC, confusion matrix, and every wrong case."""
    with path.open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for group, chosen in (
        ("all heads", rows),
        ("heads parameters were set on", [r for r in rows if r["scan"].split("_")[0] in TUNED_ON]),
        ("other heads", [r for r in rows if r["scan"].split("_")[0] not in TUNED_ON]),
    ):
        judged = [r for r in chosen if r["expected"] != "none"]
        if not judged:
            continue
        right = sum(r["expected"] == r["verdict"] for r in judged)
        failed = [r["expected"] != OK for r in judged]
        print(
            f"\n{group}: {right} of {len(judged)} right ({right / len(judged):.2%}); "
            f"{len(chosen) - len(judged)} more have no right answer"
        )
        print(f"AUROC of the score, failure against success: {auroc([float(r['score']) for r in judged], failed):.4f}")
        counts = Counter((r["expected"], r["verdict"]) for r in judged)
        print("expected \\ verdict".ljust(20), *(f"{c!s:>11}" for c in QualityClass))
        for expected in QualityClass:
            print(expected.ljust(20), *(f"{counts[expected, verdict]:>11}" for verdict in QualityClass))
    print()
    for row in rows:
        if row["expected"] not in ("none", row["verdict"]):
            print("wrong:", *row.values(), sep="\t")
    seconds = [float(r["seconds"]) for r in rows]
    print(f"\nseconds of one core: median {np.median(seconds):.2f}, largest {max(seconds):.2f}")


def auroc(scores: list[float], positive: list[bool]) -> float:
    """Probability that a failure scores above a success (ties count half)."""
    from scipy.stats import rankdata

    ranks, is_positive = rankdata(scores), np.array(positive)
    n = int(is_positive.sum())
    return float((ranks[is_positive].sum() - n * (n + 1) / 2) / max(n * (len(scores) - n), 1))


if __name__ == "__main__":
    main()
