"""Run every command on the demo cohort and print a hash of each output: a refactoring must leave the list as it is.

    python validation/output_hashes.py WORK > before.tsv     # before a change
    python validation/output_hashes.py WORK > after.tsv      # after it, with the same WORK, emptied
    diff before.tsv after.tsv

Images are hashed as stored voxels and header, tables and text as bytes. Of JSON, HTML and what a command prints, the
seconds and the temporary names are left out. WORK must be absent: paths are part of some outputs, so use one path.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

METHODS = ("defacer", "quickshear", "mri_deface", "pydeface", "fsl_deface", "mri_reface", "reshape")
TIMES = ("_timing.json",)
SECONDS = re.compile(r"\b\d+(\.\d+)? s\b")
KEPT_OUT = {"InputState"}


def main() -> None:
    """Run the commands and print ``sha256<TAB>path`` for each file and each command's standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--hash-only", action="store_true", help="hash what WORK holds already")
    options = parser.parse_args()
    if not options.hash_only:
        options.work.mkdir(parents=True)
        run_all(options.work)
    for path in sorted(p for p in options.work.rglob("*") if p.is_file() and not p.is_symlink()):
        relative = path.relative_to(options.work).as_posix()
        if not relative.endswith(TIMES) and "/." not in f"/{relative}":
            print(f"{digest(path)}\t{relative}")


def run_all(work: Path) -> None:
    """Every command that computes something, on people who do not exist."""
    efface(work, "methods", "methods")
    efface(work, "demo", "demo", "demo", "--jobs", "2")
    scans = sorted((work / "demo" / "cohort").glob("sub-*/ses-*/anat/*_T1w.nii.gz"))
    first, second = (scan.relative_to(work).as_posix() for scan in scans[:2])
    for method in METHODS:
        out = f"{method}.nii.gz"
        more = ("--apply-to", second, f"{method}_other.nii.gz") if method == "pydeface" else ()
        efface(
            work,
            f"deface_{method}",
            "deface",
            first,
            out,
            "--method",
            method,
            "--mask-out",
            f"{method}_mask.nii.gz",
            *more,
        )
        efface(work, f"qc_{method}", "qc", first, out, "--json", f"{method}_qc.json")
    efface(
        work, "deface_unprotected", "deface", first, "unprotected.nii.gz", "--no-protect-brain", "--method", "mri_deface"
    )
    for segmenter in ("slant", "atlas"):
        efface(work, f"segment_{segmenter}", "segment", first, f"{segmenter}.nii.gz", "--segmenter", segmenter,
               "--volumes", f"{segmenter}.tsv")  # fmt: skip
    efface(work, "compare", "compare", "slant.nii.gz", "atlas.nii.gz", "--out", "compare.tsv")
    everything = ("study", "demo/cohort", "study")
    label = ("--participant-label", scans[0].name.split("_")[0].removeprefix("sub-"))
    efface(work, "study_participant", *everything, "participant", *label, "--methods", "all", "--segmenter", "atlas",
           "--measures", "dice,volume,distance", "--protect-brain", "--rescan", "rigid", "--jobs", "2")  # fmt: skip
    efface(work, "study_group", *everything, "group")
    efface(work, "report", "report", "study")


def efface(work: Path, name: str, *words: str) -> None:
    """Run a command in WORK; what it prints goes to ``NAME.out``, without seconds."""
    done = subprocess.run([sys.executable, "-m", "efface.cli", *words], cwd=work, capture_output=True, text=True)
    (work / f"{name}.out").write_text(SECONDS.sub("S s", f"exit code {done.returncode}\n{done.stdout}"))
    print(f"{name}: exit code {done.returncode}", file=sys.stderr)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)


def digest(path: Path) -> str:
    """SHA-256 of what a file says, whatever its compression."""
    sha = hashlib.sha256()
    if path.name.endswith((".nii.gz", ".nii")):
        image = nib.load(path)
        sha.update(image.header.binaryblock)
        sha.update(np.ascontiguousarray(np.asanyarray(image.dataobj.get_unscaled())).tobytes())
    elif path.suffix == ".json":
        sha.update(json.dumps(without(json.loads(path.read_text())), sort_keys=True).encode())
    elif path.suffix == ".html":
        sha.update(SECONDS.sub("S s", path.read_text()).encode())
    else:
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def without(value: object) -> object:
    """The JSON without what differs from run to run: seconds, and the state (time stamp, inode) of files."""
    if isinstance(value, dict):
        return {key: without(part) for key, part in value.items() if key not in KEPT_OUT}
    return [without(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
