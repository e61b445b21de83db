"""Files of weights, arrays and labels with random damage through their loaders, and files made to do harm.

``python validation/weights_fuzz.py [--files 3000] [--seed 1] [--write PAGE]``: published networks in both formats of
PyTorch, our networks, their label prior and card, label maps and brain masks. A file passes where it is read whole and
finite, or is refused by an `InputError` of one line; anything else is printed, and the script fails. Then a file of half
a megabyte that inflates to 512 MB, and the hostile state dicts of tests/support/state_dicts.py.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

import torch
from _markdown import put, table

import loader_fuzz
import state_dicts
from efface.errors import InputError
from efface.segmentation.slant.checkpoints import load_compact
from slant_weights import TINY_COMPACT

HEADER = ("what", "files", "read", "refused in one line", "otherwise")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def made_to_harm(folder: Path) -> tuple[list[object], list[str]]:
    """A row of the table, and what went wrong."""
    good = [state_dicts.saved({"trust": torch.arange(4.0)}, legacy=legacy) for legacy in (False, True)]
    files = {**state_dicts.hostile(*good, folder / "never"), "512 MB in half a megabyte": state_dicts.bomb()}
    wrong = []
    for name, raw in files.items():
        path, before, start = folder / "hostile.pt", peak_mb(), time.perf_counter()
        path.write_bytes(raw)
        try:
            load_compact(path, TINY_COMPACT)
            wrong.append(f"{name}: read")
        except InputError as error:
            wrong += [] if str(error).isprintable() else [f"{name}: {error!r}"]
        except BaseException as error:  # noqa: BLE001 - this is what is looked for
            wrong.append(f"{name}: {error!r}")
        if peak_mb() - before > 64 or time.perf_counter() - start > 10:
            wrong.append(f"{name}: {peak_mb() - before:.0f} MB, {time.perf_counter() - start:.1f} s")
    if (folder / "never").exists():
        wrong.append("code in a file was run")
    return ["state dicts made to do harm", len(files), 0, len(files) - len(wrong), len(wrong)], wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="a page that takes the table between its marks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, before = Path(name), peak_mb()
        harm, wrong = made_to_harm(folder)
        found = loader_fuzz.fuzz(options.files, options.seed, folder)
    rows: list[list[object]] = []
    for kind in loader_fuzz.KINDS:
        read, refused = found.read[kind], found.refused[kind]
        broken = sum(one[0] == kind for one in found.broken)
        rows.append([kind, read + refused + broken, read, refused, broken])
    rows.append(["all", options.files, found.read.total(), found.refused.total(), len(found.broken)])
    rows.append(harm)
    text = (
        table(HEADER, rows)
        + f"\n\nslowest file {found.slowest_s:.1f} s; peak {peak_mb():.0f} MB, {before:.0f} MB at the start"
    )
    print(text)
    print(*(f"{kind}, file {number}: {said}" for kind, number, said in found.broken), *wrong, sep="\n")
    if options.write:
        put(options.write, "weights", text)
    return 1 if found.broken or wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
