"""What `efface share` costs: one session of three images of 1 mm, a series of 300 volumes, and many sessions.

Run: ``python benchmarks/share_speed.py [--sessions N] [--many-mm MM]``. The images are the average head of the package
pydeface (1 mm): as it is, in another contrast, and in a third on another grid, moved. Prints wall seconds and the peak
memory of the largest worker; N sessions are compared with N times one session on one worker, in blocks of MM if asked.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from scipy import ndimage

from efface.anatomy import templates
from efface.spatial.resampling import block_mean, resample
from efface.spatial.types import Grid, Volume

SERIES, VOLUMES = (64, 64, 36), 300
WATCH_S = 0.2


def contrast(values: np.ndarray, power: float) -> np.ndarray:
    tissue = ndimage.gaussian_filter(values, 0.7) > 0.25 * np.percentile(values, 95)
    top = np.percentile(values, 99)
    return np.where(tissue, top * (1.2 - np.clip(values / top, 0, 1.1)) ** power, values).clip(0)


def write(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.rint(values).astype(np.int16), affine), path)


def make_session(folder: Path, stem: str, mm: float) -> None:
    head = block_mean(templates.average_head(), mm)
    noise = np.random.default_rng(len(stem)).normal(0, 2, head.data.shape)
    write(folder / f"anat/{stem}_T1w.nii.gz", (head.data + noise).clip(0), head.affine)
    write(folder / f"anat/{stem}_T2w.nii.gz", contrast(head.data, 1.0), head.affine)
    affine = head.affine.copy()
    affine[:3, 3] += (4.0, -3.0, 2.0)
    moved = resample(Volume(contrast(head.data, 0.5), head.affine), Grid(head.data.shape, affine))
    write(folder / f"anat/{stem}_FLAIR.nii.gz", moved, affine)


def add_series(folder: Path, stem: str) -> None:
    head = templates.average_head()
    sides = np.array(head.data.shape) * head.grid.spacing_mm / SERIES
    affine = np.diag([*sides, 1.0])
    affine[:3, 3] = head.affine[:3, 3] + (sides - 1) / 2
    mean = resample(Volume(contrast(head.data, 1.0), head.affine), Grid(SERIES, affine))
    rng = np.random.default_rng(0)
    volumes = np.stack([mean + rng.normal(0, 5, SERIES) for _ in range(VOLUMES)], axis=-1)
    image = nib.Nifti1Image(np.rint(volumes.clip(0)).astype(np.int16), affine)
    image.header.set_zooms((*sides, 2.0))
    (folder / "func").mkdir()
    nib.save(image, folder / f"func/{stem}_task-rest_bold.nii.gz")


def make(root: Path, sessions: int, mm: float = 1.0) -> Path:
    root.mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "Benchmark", "BIDSVersion": "1.9.0"}))
    first = root / "sub-001"
    make_session(first, "sub-001", mm)
    for number in range(2, sessions + 1):
        copy = root / f"sub-{number:03}/anat"
        copy.mkdir(parents=True)
        for path in (first / "anat").iterdir():
            shutil.copy(path, copy / path.name.replace("sub-001", f"sub-{number:03}"))
    return root


def timed(raw: Path, out: Path, *words: str) -> tuple[float, float]:
    """Wall seconds, and the peak memory of the largest process, GB."""
    shutil.rmtree(out, ignore_errors=True)
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "efface.cli", "share", str(raw), str(out), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None:
        try:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            peak = max(peak, *(one.memory_info().rss for one in family))
        except psutil.NoSuchProcess:
            pass
        time.sleep(WATCH_S)
    said = process.communicate()[0]
    counts = re.search(r"(\d+) defaced, \d+ copied, (\d+) withheld", said)
    print(f"  {said.splitlines()[0] if said else 'no output'}", flush=True)
    if process.returncode or counts is None:
        raise SystemExit(f"efface share ended with exit code {process.returncode}")
    return time.perf_counter() - start, peak / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--many-mm", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        one = make(root / "one", 1)
        session_s, session_gb = timed(one, root / "out")
        print(f"one session (T1w, T2w, FLAIR of 1 mm): {session_s:.0f} s, {session_gb:.1f} GB")
        add_series(one / "sub-001", "sub-001")
        series_s, series_gb = timed(one, root / "out")
        print(f"with a series of {VOLUMES} volumes of {SERIES}: {series_s - session_s:.0f} s more, {series_gb:.1f} GB")
        many = make(root / "many", options.sessions, options.many_mm)
        alone_s, _ = timed(make(root / "alone", 1, options.many_mm), root / "out", "--jobs", "1")
        many_s, _ = timed(many, root / "out", "--jobs", "1")
        ratio = many_s / (options.sessions * alone_s)
        print(
            f"{options.sessions} sessions on one worker: {many_s:.0f} s, "
            f"{ratio:.2f} of {options.sessions} x {alone_s:.0f} s"
        )


if __name__ == "__main__":
    main()
