"""Would niimath's affine (`-allineate`) be a fallback where our own search refuses a pose?

    python validation/second_registration.py OUT.tsv CUT_HEADS.tsv BIDS_DIR [BIDS_DIR ...] [--niimath PROGRAM]
        [--heads NAME ...] [--accepted 12]

Cases of `cut_heads.py` (their numbers and outcomes from CUT_HEADS.tsv, as it wrote it for the same folders) are made
again: those that our search refused, and for comparison the first so many that it accepted. niimath registers the
average head to each; its matrix is compared with the truth, as it is, and after our own refinement from there. `passed`
says whether our checks (correlation, stretch, landmarks or network, plausible) would let it through.
"""

import argparse
import csv
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from cut_heads import WRONG_MM, Case, error_mm, make, untouched

from efface.anatomy import templates
from efface.anatomy.head_pose import _checked, similarity
from efface.anatomy.landmarks import upright_landmarks
from efface.anatomy.pose_network import predict
from efface.io.scan import load_scan
from efface.spatial.pose_search import ImagePair
from efface.spatial.registration import CONVERGED_SCORE, FINE_MM, AffineResult, _judged, register_near
from efface.spatial.types import Affine, Volume


def allineate(program: str, volume: Volume, folder: Path) -> Affine | None:
    """Average head mm to scan mm, by niimath with its defaults; None where it gave no matrix."""
    image = nib.Nifti1Image(volume.data, volume.affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, folder / "scan.nii.gz")
    matrix = folder / "matrix.json"
    matrix.unlink(missing_ok=True)
    average = templates.data_file("pydeface", "data/mean_reg2mean.nii.gz")
    words = [program, "scan.nii.gz", "-allineate", str(average), "-savemat", matrix.name, "registered.nii.gz"]
    subprocess.run(words, cwd=folder, check=False, capture_output=True)
    return np.array(json.loads(matrix.read_text())["fixed_to_moving"]) if matrix.is_file() else None


def checked(volume: Volume, found: AffineResult) -> AffineResult:
    """The verdict of our checks on a pose."""
    seen = predict(volume)
    return _checked(found, seen, similarity(seen), volume, upright_landmarks)


def judged(volume: Volume, matrix: Affine) -> AffineResult:
    """Correlation and stretch of a pose."""
    pair = ImagePair.prepare(templates.average_head(), volume, None, FINE_MM)
    return _judged(matrix, pair, CONVERGED_SCORE, 12, 1)


def measured(case: Case, program: str, folder: Path) -> dict[str, object]:
    """One case: error and verdict of niimath's pose, and of ours from there."""
    started = time.perf_counter()
    matrix = allineate(program, case.volume, folder)
    seconds = round(time.perf_counter() - started, 1)
    row: dict[str, object] = {"seconds": seconds}
    if matrix is None:
        return row | {"error_mm": "no matrix"}
    refined = register_near(templates.average_head(), case.volume, matrix)
    for name, found in (("", judged(case.volume, matrix)), ("refined_", refined)):
        result = checked(case.volume, replace(found)) if found.converged else found
        row |= {f"{name}error_mm": round(error_mm(case, found.matrix), 1), f"{name}passed": result.converged}
        row[f"{name}reason"] = result.reason
    return row


def chosen(table: Path, heads: list[str], accepted: int) -> list[dict[str, str]]:
    """Rows of the refused cases of these heads, and of the first accepted ones."""
    with table.open() as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if not heads or row["head"].split("_")[0] in heads]
    refused = [row for row in rows if row["outcome"] == "refused"]
    return refused + [row for row in rows if row["outcome"] == "right"][:accepted]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("bids", type=Path, nargs="+")
    parser.add_argument("--niimath", default=shutil.which("niimath"))
    parser.add_argument("--heads", nargs="*", default=[])
    parser.add_argument("--accepted", type=int, default=12)
    options = parser.parse_args()
    if not options.niimath:
        parser.error("niimath is not on PATH: pip install niimath, or give --niimath PROGRAM")
    paths = sorted(p for root in options.bids for p in root.rglob("anat/*_T1w.nii.gz") if "decubitus" not in p.name)
    cache = options.out.parent / "untouched"
    cache.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for known in chosen(options.cases, options.heads, options.accepted):
            number = int(known["case"])
            path = paths[number % len(paths)]
            assert path.name == known["head"], "the table was made with other folders"
            case = make(load_scan(path).volume, untouched(path, cache), number)
            about = {name: known[name] for name in ("case", "head", "cut", "distance_mm", "tilt_deg", "outcome")}
            rows.append(about | measured(case, options.niimath, Path(folder)))
            print(rows[-1], flush=True)
    with options.out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(max(rows, key=len)), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    for outcome in ("refused", "right"):
        summary(outcome, [row for row in rows if row["outcome"] == outcome and "passed" in row])


def summary(outcome: str, rows: list[dict[str, object]]) -> None:
    """Count right and wrong poses, all of them and those that pass our checks."""
    for name in ("", "refined_"):
        right = [float(str(row[f"{name}error_mm"])) <= WRONG_MM for row in rows]
        passed = [bool(row[f"{name}passed"]) for row in rows]
        both = sum(r and p for r, p in zip(right, passed, strict=True))
        print(
            f"cases that our search has {outcome}: {len(rows)}; niimath {name or 'as it is'}: {sum(right)} right; "
            f"of {sum(passed)} that pass our checks {both} are right"
        )


if __name__ == "__main__":
    main()
