"""Seconds of one core that a verdict takes once head and brain are found: the first in a process, and the next ones.

Run: ``OMP_NUM_THREADS=1 python benchmarks/qc_speed.py HEADS --cache DIR [--subjects ..]`` (DIR keeps anatomies, as
`qc_validation.py` does). Each head is judged in a process of its own: nothing done, face removed, brain bitten, and
noise everywhere, which changes most of the brain. Imports are not counted, tables that are read at first use are.
"""

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.query import find_scans
from efface.io.scan import Scan, load_scan
from efface.quality import judge


def planted(anatomy: HeadAnatomy) -> list[np.ndarray]:
    """Intensities after four edits; the one with most to do comes first."""
    scan, brain = anatomy.scan, anatomy.brain
    to_average = np.linalg.inv(anatomy.average_to_scan) @ scan.affine
    y, z = (np.tensordot(to_average[a, :3], np.indices(scan.shape), 1) + to_average[a, 3] for a in (1, 2))
    level = float(np.median(scan.data[brain]))
    noise = 0.3 * level * np.random.default_rng(0).standard_normal(scan.shape)
    face = np.where((y > 60) & (z < -20) & ~brain, 0, scan.data)
    bitten = np.where((y > np.quantile(y[brain], 0.98)) & brain, 0, face)
    return [scan.data + noise, bitten, face, scan.data]


def one_head(stem: str, path: Path, cache: Path) -> None:
    from qc_validation import cached_anatomy

    anatomy = cached_anatomy(load_scan(path), stem, cache)
    scans = [with_data(anatomy.scan, data) for data in planted(anatomy)]
    seconds, verdicts = [], []
    for scan in [scans[1], scans[0], *scans[1:]]:
        start = time.process_time()
        verdicts.append(judge(anatomy, scan).verdict)
        seconds.append(time.process_time() - start)
    spacing = " x ".join(f"{mm:.2g}" for mm in anatomy.scan.spacing_mm)
    first, *rest = seconds
    print(
        f"{stem:16} {spacing:16} {first:6.2f} {max(rest):6.2f} {np.median(rest):6.2f}  {', '.join(verdicts[1:])}",
        flush=True,
    )


def with_data(scan: Scan, data: np.ndarray) -> Scan:
    import nibabel as nib

    found = load_scan(nib.Nifti1Image(np.asarray(data, np.float32), scan.affine))
    assert found.data.shape == scan.shape  # decoded before the clock runs
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("heads", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--subjects", nargs="*", default=[])
    options = parser.parse_args()
    print(f"{'scan':16} {'voxel, mm':16} {'first':>6} {'most':>6} {'median':>6}")
    for source in find_scans(options.heads):
        if not options.subjects or source.stem in options.subjects:
            process = multiprocessing.get_context("spawn").Process(
                target=one_head, args=(source.stem, source.path, options.cache)
            )
            process.start()
            process.join()


if __name__ == "__main__":
    main()
