"""How large a report is and how long it takes, on a made-up study: ``python benchmarks/report_size.py [SCANS] [DIR]``.

Images are tiny (a phantom of 4 mm), tables are of full size: six methods, 132 labels, rescans of a quarter of the scans.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from efface.bids.derivatives import ORIGINAL, GroupPaths, UnitPaths
from efface.defacing import METHODS
from efface.io.scan import load_scan
from efface.metrics.dice import NINE_REGIONS, WHOLE_BRAIN
from efface.report import build_report
from efface.segmentation.labels import LABELS
from efface.study.records import write_table

SHAPE = (44, 56, 52)
REGIONS = (*((WHOLE_BRAIN, WHOLE_BRAIN),), *(("region", r) for r in NINE_REGIONS), *(("label", x.name) for x in LABELS))


def make(out_dir: Path, scans: int) -> None:
    """Write tables and images of a study that nobody ran."""
    rng = np.random.default_rng(0)
    names = [(f"{i // 2:03d}", str(1 + i % 2), f"sub-{i // 2:03d}_ses-{1 + i % 2}") for i in range(scans)]
    raw = out_dir.parent / "raw"
    raw.mkdir(parents=True)
    out_dir.mkdir(parents=True)
    images(out_dir, raw, names, rng)
    content = {
        "Name": "made up", "GeneratedBy": [{"Name": "efface", "Version": "0"}], "DatasetLinks": {"raw": raw.as_uri()},
        "Efface": {"Methods": list(METHODS), "Segmenter": "atlas", "ProtectBrain": False, "MethodParameters": {}},
    }  # fmt: skip
    paths = GroupPaths(out_dir)
    paths.description.write_text(json.dumps(content))
    keys = ["subject", "session", "scan"]
    cost = dict(zip(METHODS, (0.001, 0.006, 0.002, 0.0015, 0.003, 0.0025), strict=True))
    rows = [
        (*n, m, "native", "atlas", "dice", level, region, 1 - cost[m] * rng.gamma(2))
        for n in names for m in METHODS for level, region in REGIONS
    ]  # fmt: skip
    more = ["method", "implementation", "segmenter", "measure", "level", "region", "value"]
    dice = pd.DataFrame(rows, columns=[*keys, *more])
    write_table(paths.dice, dice)
    edits = [(*n, m, "native", *rng.gamma(2, (100, 90, 0.3))) for n in names for m in METHODS]
    ml = ["edited_ml", "edited_head_ml", "edited_brain_ml"]
    write_table(paths.edits, pd.DataFrame(edits, columns=[*keys, "method", "implementation", *ml]))
    failed = [(*names[0], "pydeface", "native", "atlas", "deface", "failed", "the average head was not found")]
    columns = [*keys, "method", "implementation", "segmenter", "measure", "status", "reason"]
    write_table(paths.failures, pd.DataFrame(failed, columns=columns))
    pairs = names[: scans // 4 * 2]
    again = [
        (*n, "rescan-2-1" if n[1] == "1" else "rescan-1-2", "affine", "atlas", "dice", *where, 1 - 0.02 * rng.gamma(4))
        for n in pairs for where in REGIONS
    ]  # fmt: skip
    again += [
        (*n, "resampled", "resample", "atlas", "dice", level, region, 1 - 0.01 * rng.gamma(4))
        for n in pairs[::2] for level, region in REGIONS
    ]  # fmt: skip
    first = dice[dice.scan.isin([n[2] for n in pairs[::2]])]
    write_table(out_dir / "rescan.tsv", pd.concat([first, pd.DataFrame(again, columns=[*keys, *more])]))


def images(out_dir: Path, raw: Path, names: list[tuple[str, str, str]], rng: np.random.Generator) -> None:
    """A ball with a nose for every scan, its nose cut by every method."""
    import nibabel as nib

    i, j, k = np.indices(SHAPE)
    distance = np.sqrt(((i - 22) / 18) ** 2 + ((j - 26) / 24) ** 2 + ((k - 26) / 22) ** 2)
    brain = distance < 0.75
    labels = np.where(brain, np.where(distance < 0.4, 44, 100), 0).astype(np.int32)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-88, -104, -104)
    for subject, session, stem in names:
        unit = UnitPaths(out_dir, subject, session, stem)
        (unit.folder / "anat").mkdir(parents=True)
        noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1) * 60
        data = np.where(distance < 1, 120 + 60 * brain + noise, 2).clip(0, 255).astype(np.int16)
        nib.save(nib.Nifti1Image(data, affine), raw / f"{stem}_T1w.nii.gz")
        scan = load_scan(raw / f"{stem}_T1w.nii.gz")
        scan.save_like(brain, unit.brain())
        scan.save_like(labels, unit.segmentation(ORIGINAL, "atlas"))
        for number, method in enumerate(METHODS):
            cut = (j > 40 - number) & (k < 26)
            scan.save_like(cut, unit.mask(method))
            nib.save(nib.Nifti1Image(np.where(cut, 0, data).astype(np.int16), affine), unit.defaced(method))
            changed = np.where(ndimage.binary_dilation(cut) & brain, 0, labels).astype(np.int32)
            scan.save_like(changed, unit.segmentation(method, "atlas"))
            record = {"Sources": [str(scan.path)], "Implementation": "native", "Warnings": []}
            recipe = {"input_sha256": scan.sha256, "versions": {"efface": "0"}}
            path = unit.defaced(method)
            path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({**record, "Recipe": recipe}))


def main(scans: int, folder: Path) -> None:
    """Make the study, build its report twice, and print sizes and seconds."""
    start = time.perf_counter()
    make(folder / "out", scans)
    print(f"{scans} scans made up in {time.perf_counter() - start:.0f} s in {folder}")
    for originals in (False, True):
        start = time.perf_counter()
        report = build_report(folder / "out", include_originals=originals)
        pages = list((folder / "out").rglob("*_report.html"))
        mean_kb = sum(p.stat().st_size for p in pages) / len(pages) / 1e3
        print(
            f"{'with' if originals else 'without'} originals: report.html {report.stat().st_size / 1e6:.2f} MB, "
            f"{len(pages)} pages of {mean_kb:.0f} kB, {time.perf_counter() - start:.0f} s"
        )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 179
    if len(sys.argv) > 2:
        main(count, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(count, Path(name))
