"""One head with odd headers, and as DICOM series with lost slices: what `efface deface` says, and what changes.

``python validation/odd_inputs.py SCAN WORK``: makes the inputs of a T1w scan in WORK, defaces each with PyDeface and
prints a table: exit code, what was said, and how many of the voxels outside the edit differ from the input.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import nibabel as nib
import numpy as np
from _markdown import table

import dicom_series
from efface.cli import main as efface

SFORM, QUATERNION, QFORM_CODE = slice(280, 328), slice(256, 268), slice(252, 254)
TINY, HUGE = 0.02, 40.0
MOST_LETTERS = 230

Change = Callable[[bytearray], None]


def zero_sform(raw: bytearray) -> None:
    """Leave the sform's code, and no matrix."""
    raw[SFORM] = bytes(48)


def bad_quaternion(raw: bytearray) -> None:
    """Make the qform no rotation."""
    raw[QUATERNION] = np.full(3, 5, "<f4").tobytes()


def both(raw: bytearray) -> None:
    """Leave no valid affine."""
    zero_sform(raw)
    bad_quaternion(raw)


def thin(raw: bytearray) -> None:
    """Shrink one axis by 1,000, with no qform beside it."""
    matrix = np.frombuffer(bytes(raw[SFORM]), "<f4").reshape(3, 4).copy()
    matrix[:, 2] /= 1000
    raw[SFORM], raw[QFORM_CODE] = matrix.tobytes(), bytes(2)


HEADERS: dict[str, tuple[float, str, Change | None]] = {
    "mm": (1.0, "mm", None),
    "metres": (1e-3, "meter", None),
    "microns": (1e3, "micron", None),
    "no unit": (1.0, "unknown", None),
    "says metres, is mm": (1.0, "meter", None),
    "says mm, is metres": (1e-3, "mm", None),
    "says mm, is microns": (1e3, "mm", None),
    "sform of zeros": (1.0, "mm", zero_sform),
    "bad qform": (1.0, "mm", bad_quaternion),
    "both bad": (1.0, "mm", both),
    "one axis a thousandth": (1.0, "mm", thin),
    "40 times as large": (HUGE, "mm", None),
    "a fiftieth": (TINY, "mm", None),
}
"""Scale of the affine, unit, and what else is done to the header."""
LOST = {"whole": (), "one slice lost": (0.5,), "three slices lost": (0.3, 0.5, 0.51)}
"""Slices that are left out, as parts of the height."""


def write_nifti(image: nib.Nifti1Image, path: Path, scale: float, unit: str, change: Change | None) -> None:
    """Write a head with another header."""
    affine = np.diag([scale] * 3 + [1.0]) @ image.affine
    made = nib.Nifti1Image(np.asarray(image.dataobj, np.int16), affine)
    made.header.set_xyzt_units(unit)
    made.set_sform(affine, 1)
    made.set_qform(affine, 1)
    raw = bytearray(made.to_bytes())
    if change:
        change(raw)
    path.write_bytes(raw)


def write_dicom(image: nib.Nifti1Image, folder: Path, lost: tuple[float, ...]) -> None:
    """Write a head as axial slices, some of them left out."""
    affine = np.diag([*image.header.get_zooms()[:3], 1.0]).astype(float)
    affine[:3, 3] = image.affine[:3, 3]
    data = np.asarray(image.dataobj, np.float64)
    values = np.rint(data / data.max() * 4095).astype(np.uint16)
    dicom_series.write(folder, values=values, affine=affine)
    files = sorted(folder.glob("*.dcm"))
    for part in lost:
        files[int(part * len(files))].unlink()


def defaced(source: Path, out: Path, *words: str) -> tuple[int, str]:
    """Exit code, and the lines on stderr or, where there are none, the first on stdout."""
    said, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error):
        mask = str(out.with_suffix(".mask.nii"))
        try:
            code = efface(["deface", str(source), str(out), "--force", "--header", "keep", "--mask-out", mask, *words])
        except SystemExit as stop:
            code = int(str(stop.code))
        except Exception as fault:  # noqa: BLE001 - what a user would see as a traceback
            return 1, f"traceback: {fault!r}"[:MOST_LETTERS]
    text = (error.getvalue() or said.getvalue().splitlines()[0]).replace(f"{source.parent}/", "")
    return code, " / ".join(text.splitlines())[:MOST_LETTERS]


def changed_outside(source: Path, out: Path) -> str:
    """How many voxels outside the edit differ, and whether the header does."""
    before, after = source.read_bytes(), out.read_bytes()
    mask = np.asarray(nib.load(out.with_suffix(".mask.nii")).dataobj) > 0
    start = len(before) - 2 * mask.size
    stored = [np.frombuffer(raw[start:], "<i2").reshape(mask.shape, order="F") for raw in (before, after)]
    different = int((stored[0] != stored[1])[~mask].sum())
    return f"{different} voxels, header {'the same' if before[:start] == after[:start] else 'changed'}"


def main() -> None:
    """Make the inputs, deface them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    image = nib.as_closest_canonical(nib.load(options.scan))
    rows = []
    for name, header in HEADERS.items():
        path, out = options.work / f"{name}.nii", options.work / f"{name}_out.nii"
        write_nifti(image, path, *header)
        code, said = defaced(path, out)
        rows.append((name, code, said, changed_outside(path, out) if code == 0 else "none written"))
    for name, lost in LOST.items():
        folder, out = options.work / f"DICOM, {name}", options.work / f"dicom_{name}.nii"
        write_dicom(image, folder, lost)
        for words in ((), ("--allow-gaps",)) if lost else ((),):
            code, said = defaced(folder, out, *words)
            rows.append((f"{folder.name} {' '.join(words)}", code, said, ""))
    print(table(("input", "exit code", "said", "differs outside the edit"), rows))


if __name__ == "__main__":
    main()
