"""Time and memory of listing the T1w scans of a simulated BIDS data set.

``python benchmarks/bids_index.py [--subjects 10000 100000] [--peer]``: each size is a tree of empty files with the names
of a real data set (two sessions, six files each: T1w, FLAIR and two runs of bold, some with sidecars), indexed in a
process of its own. With ``--peer`` bids2table's own index of the same tree is measured too.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _markdown import put, table

FILES = (
    "anat/{stem}_T1w.nii.gz", "anat/{stem}_T1w.json", "anat/{stem}_FLAIR.nii.gz",
    "func/{stem}_task-rest_run-1_bold.nii.gz", "func/{stem}_task-rest_run-2_bold.nii.gz",
    "func/{stem}_task-rest_run-1_bold.json",
)  # fmt: skip
EFFACE = "from efface.bids.query import find_scans; found = find_scans(root)"
PEER = "import bids2table; found = bids2table.index_dataset(root)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where the trees are made (default: the temporary folder)")
    parser.add_argument("--peer", action="store_true", help="measure bids2table too")
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    parser.add_argument("--statement", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.statement:
        measure(options.statement, options.folder)
        return
    rows = []
    for subjects in options.subjects:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            root = Path(name, "bids")
            make_tree(root, subjects)
            programs = {"efface": EFFACE, **({"bids2table": PEER} if options.peer else {})}
            for program, statement in programs.items():
                words = [sys.executable, __file__, "--statement", statement, "--folder", str(root)]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                rows.append([f"{subjects:,}", program, *done.stdout.split()])
                print(*rows[-1], sep="\t", flush=True)
    made = table(("subjects", "program", "scans or files", "seconds", "peak MB"), rows)
    print(made)
    if options.write:
        put(options.write, "index", made)


def make_tree(root: Path, subjects: int) -> None:
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "simulated", "BIDSVersion": "1.10.0"}')
    for subject in range(subjects):
        for session in (1, 2):
            stem = f"sub-{subject:06d}_ses-{session}"
            folder = root / stem.replace("_", "/")
            for kind in ("anat", "func"):
                (folder / kind).mkdir(parents=True)
            for name in FILES:
                (folder / name.format(stem=stem)).touch()


def measure(statement: str, root: Path) -> None:
    start = time.perf_counter()
    names: dict[str, object] = {"root": root}
    exec(statement, names)
    seconds = time.perf_counter() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(names['found'])}\t{seconds:.1f}\t{peak_mb:.0f}")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
