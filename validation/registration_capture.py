"""Does the average head find heads that were rotated, shifted and stored in other orientations?

Run: ``python validation/registration_capture.py BIDS_DIR [copies per head]``. Prints, per case that is off, the RMS
distance over a brain-sized ball to the transform found for the untouched scan, and the counts at the end.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from efface.anatomy import templates
from efface.anatomy.head_pose import find_pose
from efface.spatial import pose_search
from efface.spatial.types import Volume

ORIENTATIONS = ("RAS", "LAS", "LPS", "PSR", "SRA", "IPL")


def load(path: Path) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.load(path))


def volume(image: nib.Nifti1Image) -> Volume:
    return Volume(np.ascontiguousarray(image.get_fdata(dtype=np.float32)), image.affine)


def moved(image: nib.Nifti1Image, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """A copy under another world transform and storage order, seen through its closest-canonical view."""
    code = ORIENTATIONS[rng.integers(len(ORIENTATIONS))]
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(code))
    stored = image.as_reoriented(turn)
    axis, direction = rng.normal(size=(2, 3))
    pose = np.eye(4)
    angle = np.deg2rad(rng.uniform(0, 40))
    pose[:3, :3] = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    pose[:3, 3] = rng.uniform(0, 80) * direction / np.linalg.norm(direction)
    return volume(nib.as_closest_canonical(nib.Nifti1Image(stored.get_fdata(), pose @ stored.affine))), pose


def head(job: tuple[Path, int, int]) -> list[tuple[str, float, bool, float]]:
    path, copies, seed = job
    image = load(path)
    average = templates.average_head()
    reference = find_pose(volume(image))
    brain = np.random.default_rng(0).normal(scale=35.0, size=(1000, 3)) + (average.affine @ [88, 128, 150, 1])[:3]
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(copies):
        copy, pose = moved(image, rng)
        found = find_pose(copy)
        error = pose_search.rms_distance_mm(found.matrix, pose @ reference.matrix, brain)
        rows.append((path.name, error, found.converged, found.score))
    return rows


def main() -> None:
    paths = sorted(Path(sys.argv[1]).glob("sub-*/anat/*_T1w.nii.gz"))
    copies = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    with ProcessPoolExecutor(2) as pool:
        rows = [row for rows in pool.map(head, [(p, copies, i) for i, p in enumerate(paths)]) for row in rows]
    for name, error, converged, score in rows:
        if error > 5 or not converged:
            print(f"{name}: {error:.1f} mm, converged {converged}, correlation {score:.3f}")
    errors = np.array([row[1] for row in rows])
    silent = sum(row[1] > 5 and row[2] for row in rows)
    print(f"{len(rows)} cases, {(errors <= 5).mean():.1%} within 5 mm, {silent} wrong and not reported")
    print(f"error mm: median {np.median(errors):.2f}, 95% {np.quantile(errors, 0.95):.2f}, max {errors.max():.1f}")


if __name__ == "__main__":
    main()
