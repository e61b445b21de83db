"""Simulated MP2RAGE uniform images (UNI): pose, brain, edit and verdict against those of the T1w they are made from.

Run: ``python validation/mp2rage_noise.py HEAD OUT_DIR [--snr 12 25 50] [--method pydeface]``. HEAD is a T1w with dark
air, or ``average`` for the average head that ships with pydeface. Everything is found anew in the UNI: nothing is
passed on. The noise is seeded. Writes ``mp2rage.tsv`` and each UNI before and after. See docs/methods/index.md.
"""

import argparse
import csv
from pathlib import Path

import nibabel as nib
import numpy as np

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import Edit, apply_edit, plan
from efface.io.scan import Scan, load_scan
from efface.quality import judge
from efface.simulation.mp2rage import simulate
from efface.spatial.affine import apply_affine

SEED = 2014


def main() -> None:
    """Simulate, deface and judge; print one row an image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("head")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--snr", type=float, nargs="+", default=[12.0, 25.0, 50.0])
    parser.add_argument("--method", default="pydeface")
    args = parser.parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    scan = whole_head(args.head)
    anatomy = HeadAnatomy(scan)
    edit = plan(anatomy, args.method)
    white = float(np.percentile(scan.data[anatomy.brain], 80))
    rows = []
    for snr in args.snr:
        made = simulate(anatomy.image.data, white, snr, np.random.default_rng(SEED))
        uni = load_scan(nib.Nifti1Image(made.uni, scan.affine))
        row = {"snr": f"{snr:g}", **compared(anatomy, edit, uni, args.out_dir / f"uni_snr-{snr:g}", args.method)}
        print("\t".join(f"{key} {value}" for key, value in row.items()), flush=True)
        rows.append(row)
    with (args.out_dir / "mp2rage.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def whole_head(name: str) -> Scan:
    """A T1w from a file, or the average head."""
    if name != "average":
        return load_scan(name)
    average = templates.average_head()
    return load_scan(nib.Nifti1Image(average.data, average.affine))


def compared(truth: HeadAnatomy, edit: Edit, uni: Scan, stem: Path, method: str) -> dict[str, str]:
    """Deface and judge a UNI; how far everything is from the T1w's."""
    anatomy = HeadAnatomy(uni)
    found = plan(anatomy, method)
    defaced = apply_edit(uni, found)
    uni.save(stem.with_suffix(".nii.gz"), force=True)
    defaced.save(stem.with_name(f"{stem.name}_defaced.nii.gz"), force=True)
    points = apply_affine(np.linalg.inv(truth.average_to_scan), apply_affine(uni.affine, np.argwhere(truth.head)[::50]))
    off = apply_affine(anatomy.average_to_scan - truth.average_to_scan, points)
    verdict = judge(anatomy, defaced)
    return {
        "pose_off_mm": f"{np.sqrt((off**2).sum(axis=1).mean()):.2f}",
        "head_dice": f"{dice(anatomy.head, truth.head):.3f}",
        "brain_dice": f"{dice(anatomy.brain, truth.brain):.3f}",
        "edit_dice": f"{dice(found.mask, edit.mask):.3f}",
        "verdict": str(verdict.verdict),
        "undefaced": str(judge(anatomy, uni).verdict),
    }


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


if __name__ == "__main__":
    main()
