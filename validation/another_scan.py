"""Are people found again by another scan than the one that was defaced?

Run: ``python validation/another_scan.py sessions BIDS_DIR WORK_DIR --person decubitus [--study STUDY_DIR]``
or: ``python validation/another_scan.py simulated BIDS_DIR WORK_DIR``; both with ``[--attacks A,B] [--jobs 2]``.

``sessions``: a person with several sessions is looked for among all people of BIDS_DIR. Each session in turn is the
person's scan in the gallery; the others, untouched and defaced by six methods, are the probes. With the defaced scans of
a study, of other people, ranks are relative to all probes too, as in ``efface privacy``. Prints ranks and distances.

``simulated``: the gallery holds another scan of each person of BIDS_DIR, made from the original: turned by 1 to 4
degrees, shifted by 1 to 6 mm, on a grid of other voxels, with another contrast, bias field and noise. Not a bit of skin
is then the same; its shape is, which in another scan of a real person it is not quite. The probes are the originals,
untouched and defaced by all methods. Prints rates and intervals, and those with the originals themselves in the gallery.

Everything drawn is seeded. What was defaced, drawn and seen is kept in WORK_DIR.
"""

import argparse
import dataclasses
import pickle
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.query import find_scans
from efface.defacing import METHODS, apply_edit, plan
from efface.errors import EffaceError
from efface.io.scan import Scan, load_scan
from efface.privacy.attack import Attack
from efface.privacy.cohort import ANOTHER_SCAN, CONTROLS, SAME_SCAN, Cohort, Measured
from efface.privacy.looks import ORIGINAL, UNTOUCHED, HeadFile, Look, look_at
from efface.privacy.registry import ATTACKS, chosen_attacks
from efface.quality import judge
from efface.simulation.acquisition import acquire, bias_field, draw_session, field_grid, stored_image
from efface.simulation.anatomy_model import BaseHead, Person
from efface.spatial.affine import apply_affine
from efface.spatial.resampling import antialiased, resample
from efface.spatial.types import Grid, Volume
from efface.statistics.identification import identification
from efface.study.privacy_scans import cohort_of
from efface.study.tables import load_tables

GEOMETRY = "geometry_face,geometry_head"
COARSER = 1.2
"""Edge of the voxels of a simulated scan, as a share of that of the original's."""
PAD_VOX = 12
SNR, GAMMA = (25.0, 40.0), (0.85, 1.15)
"""As in the demo cohort."""


# What attacks see, kept in the work folder.


def looked(
    files: Sequence[HeadFile], attacks: Sequence[Attack], work: Path, *, add_noise: bool = False, jobs: int = 1
) -> list[Look]:
    """Look at every scan, with noise in the untouched control or without; what was seen before is read."""
    names = [attack.name for attack in attacks]
    folder = work / "looks" / "-".join(names)
    folder.mkdir(parents=True, exist_ok=True)
    kept = [folder / f"{file.scan}_{file.method}{'_noise' if add_noise and file.method == ORIGINAL else ''}.pkl"
            for file in files]  # fmt: skip
    missing = [(file, names, add_noise, path) for file, path in zip(files, kept, strict=True) if not path.is_file()]
    with ProcessPoolExecutor(jobs) as pool:
        for said in pool.map(_look, missing):
            print(said, flush=True)
    seen = [pickle.loads(path.read_bytes()) for path in kept]
    return [dataclasses.replace(look, file=file) for look, file in zip(seen, files, strict=True)]


def _look(job: tuple[HeadFile, list[str], bool, Path]) -> str:
    """Look at a scan and keep what was seen, in a process of its own."""
    file, names, add_noise, path = job
    torch.set_num_threads(1)
    look = look_at(file, names, add_noise=add_noise)
    path.write_bytes(pickle.dumps(look))
    return f"{file.scan} {file.method} {dict(look.reasons)} {look.doubt}"


def _originals(bids: Path) -> list[HeadFile]:
    return [HeadFile(s.subject, s.session or "", s.stem, ORIGINAL, s.path) for s in find_scans(bids)]


# A real person with several sessions.


def defaced_sessions(sessions: Sequence[HeadFile], work: Path) -> Iterator[HeadFile]:
    """Every session by every method, the brain not protected, as in the study of the development heads."""
    for file in sessions:
        anatomy = HeadAnatomy(load_scan(file.path))
        for method in METHODS:
            path = work / "defaced" / f"{file.scan}_desc-{method.replace('_', '')}_T1w.nii.gz"
            if path.is_file() or _deface(file.scan, anatomy, method, path):
                yield dataclasses.replace(file, method=method, path=path, implementation="native")


def _deface(scan: str, anatomy: HeadAnatomy, method: str, path: Path) -> bool:
    """Deface, judge and save; whether the method did not refuse."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        edit = plan(anatomy, method, protect_brain=False)
    except EffaceError as error:
        print(f"{scan} {method}: not defaced: {error}", flush=True)
        return False
    defaced = apply_edit(anatomy.scan, edit)
    defaced.save(path, force=True)
    print(f"{scan} {method}: {judge(anatomy, defaced).verdict}", flush=True)
    return True


def distances(probes: Sequence[Look], roles: Sequence[str], gallery: Sequence[Look], attack: Attack) -> pd.DataFrame:
    """Of every probe to every original, a row a probe, a column an original's scan; NaN where nothing is left."""
    rows = []
    for look, role in zip(probes, roles, strict=True):
        seen = look.seen.get((attack.name, role))
        kept = [one.seen.get((attack.name, ORIGINAL)) for one in gallery]
        rows.append([np.nan if seen is None or k is None else attack.distance(seen, k) for k in kept])
    index = pd.MultiIndex.from_tuples([(p.file.scan, r) for p, r in zip(probes, roles, strict=True)])
    return pd.DataFrame(rows, index, [one.file.scan for one in gallery])


def ranks(table: pd.DataFrame, person: Sequence[str], method: str) -> Iterator[dict[str, object]]:
    """Every session of a person in the gallery in turn; the others are probes, beside all probes of other people."""
    rows = table.xs(method, level=1)
    for enrolled in person:
        columns = [scan for scan in table.columns if scan == enrolled or scan not in person]
        probes = [scan for scan in rows.index if scan != enrolled]
        chosen = rows.loc[probes, columns]
        missing = chosen.columns[chosen.isna().all()]  # originals that have no face to be found
        chosen = chosen.drop(columns=missing)
        if enrolled not in chosen:
            continue
        own = np.array([chosen.columns.get_loc(enrolled if scan in person else scan) for scan in probes])
        found = identification(chosen.to_numpy(), own, np.ones(len(probes), dtype=bool))
        for scan, relative in zip(probes, found.ranks, strict=True):
            if scan in person:
                row = chosen.loc[scan]
                yield {
                    "method": method, "gallery": enrolled, "probe": scan, "people": len(columns) - len(missing),
                    "rank": np.nan if row.isna().all() else 1 + (row < row[enrolled]).sum(), "relative": relative,
                    "own": row[enrolled], "nearest other": row.drop(enrolled).min(),
                }  # fmt: skip


def sessions(args: argparse.Namespace) -> None:
    """Deface, look, compare and print for a person with several sessions."""
    attacks = chosen_attacks(tuple(args.attacks.split(",")))
    originals = _originals(args.bids)
    mine = [file for file in originals if file.subject == args.person]
    others = cohort_of(args.study, load_tables(args.study)).defaced if args.study else ()
    seen = looked([*originals, *defaced_sessions(mine, args.work), *others], attacks, args.work, jobs=args.jobs)
    known = {args.person, *(file.subject for file in others)}
    probes = [look for look in seen if look.file.subject in known]
    roles = [UNTOUCHED if look.file.method == ORIGINAL else look.file.method for look in probes]
    for attack in attacks:
        table = distances(probes, roles, seen[: len(originals)], attack)
        table.to_pickle(args.work / f"{args.person}_{attack.name}.pkl")
        person = [file.scan for file in mine]
        rows = pd.DataFrame([row for method in (UNTOUCHED, *METHODS) for row in ranks(table, person, method)])
        rows.to_csv(args.work / f"{args.person}_{attack.name}.tsv", sep="\t", index=False, float_format="%.3f")
        wanted = {file.scan for file in mine if not args.gallery or file.session in args.gallery}
        rows = rows[rows.gallery.isin(wanted)]
        print(f"\n{attack.title}: {rows.people.max()} people; the person's in the gallery: {', '.join(sorted(wanted))}")
        for method, of_method in rows.groupby("method", sort=False):
            print(_line(str(method), of_method), flush=True)


def _line(method: str, rows: pd.DataFrame) -> str:
    """A row of a table: how often at rank 1, which ranks, which distances; alone and relative to all probes."""
    cells = [method]
    for kind in ("rank", "relative"):
        found = rows[kind].dropna()
        cells += [f"{(found == 1).sum()} of {len(rows)}", f"{found.median():g} ({found.min():g} to {found.max():g})"]
    for kind in ("own", "nearest other"):
        cells.append(f"{rows[kind].median():.2f} ({rows[kind].min():.2f} to {rows[kind].max():.2f})")
    return "| " + " | ".join(cells) + " |"


# Another scan, simulated.


def scanned_again(scan: Scan, rng: np.random.Generator) -> nib.Nifti1Image:
    """The head of a scan in another pose, on another grid, with another contrast, bias field and noise."""
    low, high = np.percentile(scan.data, (5, 99))
    padded = np.pad(scan.data, PAD_VOX, mode="edge")  # tissue that the border cuts goes on to the new border
    affine = scan.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, PAD_VOX)
    centre = apply_affine(scan.affine, np.array(scan.shape) / 2)
    white = float(np.percentile(scan.data[scan.data > (low + high) / 4], 80))
    volume = Volume(antialiased(padded, np.full(3, COARSER)), affine)
    base = BaseHead(volume, volume, centre, white)
    nothing = np.zeros((2, 2, 2, 3), dtype=np.float32)
    person = Person(0, nothing, scan.grid, np.eye(4), rng.uniform(*GAMMA), rng.uniform(*SNR), "RAS", np.eye(4), 0.0)
    session = draw_session(base, person, rng)
    grid = _other_grid(scan.grid, rng)
    nodes = field_grid(grid)
    head = np.maximum(resample(volume, grid, session.pose, order=3), 0)
    gain = session.intensity * (1 + bias_field(session, nodes, grid, rng))
    values = acquire(head, gain, base, person, rng)
    return stored_image(values * (4000 / white), grid, "RAS")


def _other_grid(grid: Grid, rng: np.random.Generator) -> Grid:
    """About the same field of view, in coarser voxels that begin somewhere else."""
    affine = grid.affine.copy()
    affine[:3, :3] *= COARSER
    affine[:3, 3] += grid.affine[:3, :3] @ rng.uniform(0, COARSER, 3)
    x, y, z = (int(n / COARSER) for n in grid.shape)
    return Grid((x, y, z), affine)


def rescans(originals: Sequence[HeadFile], work: Path) -> Iterator[HeadFile]:
    """A simulated scan of every person, drawn from the name of the scan."""
    for file in originals:
        scan = f"{file.scan}_rescan"
        path = work / "rescans" / f"{scan}_T1w.nii.gz"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(zlib.crc32(file.scan.encode()))
            nib.save(scanned_again(load_scan(file.path), rng), path)
        yield dataclasses.replace(file, scan=scan, path=path)


def simulated(args: argparse.Namespace) -> None:
    """Simulate, look, compare and print for the people of a study."""
    attacks = chosen_attacks(tuple(args.attacks.split(",")))
    originals = _originals(args.bids)
    with ProcessPoolExecutor(args.jobs) as pool:
        defaced = [file for one in pool.map(_defaced_head, originals, [args.work] * len(originals)) for file in one]
    again = list(rescans(originals, args.work))
    for title, gallery in (("the originals themselves", []), ("another scan, simulated,", again)):
        cohort = Cohort([*gallery, *originals], defaced)
        seen = looked(cohort.files(), attacks, args.work, add_noise=not gallery, jobs=args.jobs)
        found = cohort.compare(seen, attacks, jobs=args.jobs)
        for attack in attacks:
            print(f"\n{ATTACKS[attack.name].title}: {title} of each of {len(cohort.gallery)} people")
            _print_groups(found, attack.name, ANOTHER_SCAN if gallery else SAME_SCAN)


def _print_groups(found: Measured, attack: str, gallery_scan: str) -> None:
    """A row of a table for every method and control."""
    probes = pd.DataFrame([(p.file.method, p.own, p.nearest_other) for p in found.probes if p.attack == attack])
    median = probes.groupby(0).median()
    for group in (g for g in found.groups if g.attack == attack and g.gallery_scan == gallery_scan):
        f = group.found
        name = f"{group.method} (control)" if group.method in CONTROLS else METHODS[group.method].title
        own, other = median.loc[group.method]
        cells = [
            name, f"{f.rank1:.0%} ({f.rank1_low:.0%} to {f.rank1_high:.0%})",
            f"{f.auc:.2f} ({f.auc_low:.2f} to {f.auc_high:.2f})", f"{np.isnan(f.ranks).sum()} without a rank",
            f"{own:.2f}", f"{other:.2f}", group.unusable,
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |", flush=True)


def _defaced_head(file: HeadFile, work: Path) -> list[HeadFile]:
    """One head by every method, in a process of its own."""
    torch.set_num_threads(1)
    return list(defaced_sessions([file], work))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    real = commands.add_parser("sessions")
    real.add_argument("bids", type=Path)
    real.add_argument("--person", required=True)
    real.set_defaults(run=sessions)
    made = commands.add_parser("simulated")
    made.set_defaults(run=simulated)
    made.add_argument("bids", type=Path)
    real.add_argument("--study", type=Path)
    real.add_argument("--gallery", nargs="+", default=[], help="sessions of the person to print (default: all)")
    for command in (real, made):
        command.add_argument("work", type=Path)
        command.add_argument("--attacks", default=GEOMETRY)
        command.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
