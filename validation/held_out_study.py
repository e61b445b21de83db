"""The study of the development heads, each with priors made without it, and with networks that have not seen it.

Run: ``held_out_study.py BIDS_DIR WORK_DIR [--folds training/slant/fold*] [--landmarks DIR] [--methods A,B] [--jobs 2]``.

MRI_Deface, mri_reface and the quality check take priors from ``WORK_DIR/priors/HEAD``, made from all heads but this one.
SLANT's network for the whole brain has one fold only (docs/validation/models/slant-whole-brain.md says which heads it
did not see). With ``--folds``, the tile networks of 2 mm are used instead, for each head those of the fold that held it
out; a head that no fold held out is left out. With ``--landmarks``, the work folder of ``efface train defacer``,
each head's landmarks (Defacer, and warnings) are found by the network of the fold that held it out. Results are in
``WORK_DIR/out``, or in ``WORK_DIR/fold-N``; a run goes on where it was stopped. Prints the median (lowest) Dice of every
region and method, and the verdicts; the reports of ``efface study BIDS_DIR WORK_DIR/out group`` can be made afterwards.
"""

import argparse
import functools
import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from efface.anatomy import landmark_network, templates
from efface.bids.query import T1wScan, find_scans
from efface.defacing import METHODS
from efface.segmentation.labels import REGION_NAMES
from efface.spatial.types import Volume
from efface.study import Study
from efface.study.scan_job import ScanJob
from efface.study.settings import Settings
from efface.training import priors

MEAN = "mean of 132 labels"


def make_priors(bids: Path, work: Path) -> None:
    """Priors of every head, from all others."""
    missing = [scan.stem for scan in find_scans(bids) if not (work / "priors" / scan.stem / "air.nii.gz").is_file()]
    if not missing:
        return
    heads = list(priors.label_heads(bids, work / "located"))
    for stem in missing:
        priors.save(priors.build_priors([head for head in heads if head.name != stem]), work / "priors" / stem)
        print("priors without", stem, flush=True)


def use_priors(folder: Path) -> None:
    """Let every part of the package that asks for a prior get those of a folder; none of the heads is in the others."""
    installed = templates.prior

    @functools.cache
    def prior(name: str) -> Volume:
        return templates.read_prior(folder, name) if (folder / f"{name}.nii.gz").is_file() else installed(name)

    templates.prior = prior


def use_landmarks(checkpoint: Path) -> None:
    """Let landmarks be found by the network of a fold."""
    network = landmark_network.LandmarkNet()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["network"])
    landmark_network.trained_network = functools.cache(network.eval)


def landmark_folds(trained: Path) -> dict[str, Path]:
    """The checkpoint of the fold that held out each head, by the head's name."""
    scores = json.loads((trained / "scores.json").read_text())
    return {one["head"]: trained / f"fold-{one['fold']}" / "checkpoint.pt" for one in scores}


def run(job: tuple[T1wScan, Settings, Path, Path | None]) -> str:
    """All methods on one head, in a process of its own."""
    source, settings, folder, landmarks = job
    torch.set_num_threads(1)
    use_priors(folder / source.stem)
    if landmarks:
        use_landmarks(landmarks)
    scan_job = ScanJob(source, settings)
    if not scan_job.is_up_to_date():
        scan_job.run()
    return source.stem


def fold_settings(bids: Path, work: Path, folds: list[Path], methods: tuple[str, ...]) -> Iterator[tuple[str, Settings]]:
    """Every held-out subject, and a study with the networks of its fold."""
    for fold in folds:
        params = {"slant": {"networks": "tiles", "compact": str((fold / "weights").resolve())}}
        settings = Settings(bids, work / fold.name, methods=methods, rescan="none", segmenter_params=params)
        for subject in json.loads((fold / "split.json").read_text())["held"]:
            yield subject, settings


def take_defaced(source: T1wScan, work: Path, out: Path) -> None:
    """Defaced scans and masks are the same whatever segments them: take them over."""
    for folder in (work / "out").glob(f"**/sub-{source.subject}"):
        to = out / folder.relative_to(work / "out")
        if not to.exists():
            shutil.copytree(folder, to)


def table(dice: pd.DataFrame, methods: tuple[str, ...]) -> str:
    """Median (lowest) Dice, a row for each region, a column for each method."""
    labels = dice[dice.level == "label"].groupby(["scan", "method"], as_index=False).dice.mean().assign(region=MEAN)
    rows = pd.concat([dice[dice.level != "label"], labels])
    lines = ["| | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for region in ("whole brain", *REGION_NAMES, MEAN):
        of_region = rows[rows.region == region].groupby("method").dice
        cells = [f"{of_region.median().get(m, np.nan):.4f} ({of_region.min().get(m, np.nan):.4f})" for m in methods]
        lines.append(f"| {region} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(of_subject: Mapping[str, Settings]) -> None:
    """Print what came out."""
    tables = {settings.out_dir: Study(settings).tables() for settings in of_subject.values()}
    methods = next(iter(of_subject.values())).methods
    print(table(pd.concat([one.dice.rename(columns={"value": "dice"}) for one in tables.values()]), methods))
    quality = pd.concat([one.quality for one in tables.values()])
    print(quality.groupby(["method", "verdict"]).size().unstack(fill_value=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--folds", type=Path, nargs="+", default=[])
    parser.add_argument("--landmarks", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    methods = tuple(args.methods.split(","))
    make_priors(args.bids, args.work)
    sources = {f"sub-{scan.subject}": scan for scan in find_scans(args.bids)}
    whole = Settings(args.bids, args.work / "out", methods=methods, rescan="none")
    of_subject = dict(fold_settings(args.bids, args.work, args.folds, methods)) or dict.fromkeys(sources, whole)
    for out in {settings.out_dir: settings for settings in of_subject.values()}.values():
        Study(out)._prepare_output()
    if args.folds:
        for subject, settings in of_subject.items():
            take_defaced(sources[subject], args.work, settings.out_dir)
    trained = landmark_folds(args.landmarks) if args.landmarks else {}
    jobs = [
        (sources[subject], settings, args.work / "priors", trained[subject] if trained else None)
        for subject, settings in of_subject.items()
    ]
    with ProcessPoolExecutor(args.jobs, max_tasks_per_child=1) as pool:
        for stem in pool.map(run, jobs):
            print(stem, flush=True)
    summary(of_subject)


if __name__ == "__main__":
    main()
