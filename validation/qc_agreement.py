"""Automatic verdicts against the eyes of a reader who has not seen them: contact sheets, votes, comparison.

    python validation/qc_agreement.py edits HEADS OUT --cache DIR [--protect-brain] [--subjects 01 02]
    python validation/qc_agreement.py misplaced HEADS OUT --cache DIR     # edits that went wrong, of known methods
    python validation/qc_agreement.py sheets SHEETS OUT.. --cache DIR     # pictures of every case, in random order
    python validation/qc_agreement.py record SHEETS OUT.. --votes FILE    # what was seen, into each study's votes
    python validation/qc_agreement.py judge OUT.. --cache DIR             # automatic verdicts, where there are none yet
    python validation/qc_agreement.py compare OUT.. --reviewer NAME --table FILE.tsv

OUT is the output of ``efface study HEADS OUT participant``, or of ``edits`` (all methods, as a study does them, without
segmentation; Defacer edits what it finds) or ``misplaced``. A sheet shows eight cases without name, method or verdict:
the face before and after, from two sides, and four slices of the original with the edit's outline. Two cases whose
voxels are the same are one picture; the vote on it is recorded for both. FILE holds a line for each picture:
``03.5 2 brain cut at the temporal pole``, that is sheet and place, the key of the verdict (1 Success, 2 Failure I,
3 Failure II), and a note. Votes are recorded as the review page records them, blind, in the study's append-only log; a
case that has a vote of that name is refused.

The sheets show faces: keep them to yourself. The table holds numbers only.
"""

import argparse
import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from qc_validation import TUNED_ON, auroc, cached_anatomy
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import head_surface
from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.bids.query import T1wScan, find_scans
from efface.defacing import METHODS, apply_edit, plan
from efface.errors import EffaceError
from efface.io.label_images import load_mask
from efface.io.scan import Scan, load_scan
from efface.metrics import cohen_kappa
from efface.quality import judge
from efface.review import Session
from efface.spatial.registration import AffineResult
from efface.study.provenance import write_recipe
from efface.study.quality_tables import read_quality, write_quality
from efface.study.ratings import VERDICTS, current_ratings
from efface.study.records import NOT_AVAILABLE
from efface.study.verdicts import write_verdict
from efface.visualization.face_rendering import render_view
from efface.visualization.slices import brightest

VIEWS = ("frontal", "three_quarter_left")
TILE_PX, GAP_PX, HEADER_PX = 190, 2, 16
COLUMNS, ROWS = 2, 4
WINDOW_MM = 110.0
NEAR_MM = 5.0
OUTLINE = (255, 150, 0)
MISPLACED_BY = ("pydeface", "mri_deface", "fsl_deface")
TURN_DEG, SHIFT_MM = 8.0, 10.0
SEED = 20251
NUMBERS = ("score", "brain_damaged_ml", "brain_edited_ml", "face_changed", "features_left")


# Edits that went wrong


def edits(heads: Path, out: Path, cache: Path, subjects: list[str], *, protect_brain: bool) -> None:
    """Every method on every head."""
    describe(out, heads, METHODS, "every method", protect_brain=protect_brain)
    for source in find_scans(heads):
        if subjects and source.subject.removeprefix("sub-") not in subjects:
            continue
        anatomy = cached_anatomy(load_scan(source.path), source.stem, cache)
        for method in METHODS:
            chosen = {"incomplete": "edit"} if method == "defacer" else {}
            keep(source, anatomy, anatomy, method, out, {}, protect_brain=protect_brain, **chosen)
        print(source.stem, flush=True)


def misplaced(heads: Path, out: Path, cache: Path) -> None:
    """Two methods a head, given a position of the average head that is off: turned and shifted at random."""
    describe(out, heads, MISPLACED_BY, "misplaced edits", protect_brain=False)
    for source in find_scans(heads):
        anatomy = cached_anatomy(load_scan(source.path), source.stem, cache)
        rng = np.random.default_rng([SEED, anatomy.scan.seed])
        for method in rng.choice(MISPLACED_BY, 2, replace=False):
            off = np.eye(4)
            off[:3, :3] = Rotation.from_rotvec(rng.normal(0, TURN_DEG, 3), degrees=True).as_matrix()
            off[:3, 3] = rng.normal(0, SHIFT_MM, 3)
            wrong = HeadAnatomy(anatomy.scan, anatomy.brain, registration=moved(anatomy.registration, off))
            wrong.registration_mi = moved(anatomy.registration_mi, off)
            about = {"average_head_off_by": off.tolist()}
            keep(source, anatomy, wrong, str(method), out, about, protect_brain=False)
        print(source.stem, flush=True)


def describe(out: Path, heads: Path, methods: Sequence[str], what: str, *, protect_brain: bool) -> None:
    """Make the folder look like a study's."""
    out.mkdir(parents=True, exist_ok=True)
    settings = {"Methods": list(methods), "Segmenter": "atlas", "ProtectBrain": protect_brain, "MethodParameters": {}}
    content = {"Name": f"efface: {what}", "Efface": settings, "DatasetLinks": {"raw": heads.as_uri()}}
    GroupPaths(out).description.write_text(json.dumps(content))


def keep(
    source: T1wScan, anatomy: HeadAnatomy, believed: HeadAnatomy, method: str, out: Path, about: dict[str, object],
    *, protect_brain: bool, **params: object,
) -> None:  # fmt: skip
    """Write what a method does where the anatomy is believed to be so; a method that refuses is said."""
    paths = UnitPaths(out, source.subject, source.session, source.stem)
    (paths.folder / "anat").mkdir(parents=True, exist_ok=True)
    anatomy.scan.save_like(anatomy.brain, paths.brain(), force=True)
    try:
        edit = plan(believed, method, params, protect_brain=protect_brain)
    except EffaceError as error:
        print(source.stem, method, error)
        return
    anatomy.scan.save_like(edit.mask, paths.mask(method), force=True)
    apply_edit(anatomy.scan, edit).save(paths.defaced(method), force=True)
    write_recipe(paths.defaced(method), {"method": method, **about}, Sources=[str(source.path)], Implementation="native",
                 Parameters=dict(edit.params), Warnings=list(edit.warnings))  # fmt: skip


def moved(found: AffineResult, off: np.ndarray) -> AffineResult:
    return dataclasses.replace(found, matrix=found.matrix @ off)


# Sheets


def sheets(folder: Path, studies: list[Path], cache: Path) -> None:
    """Draw every case, and keep apart which picture is which."""
    folder.mkdir(parents=True)
    pictures: dict[tuple[str, str], np.ndarray] = {}
    shown: dict[tuple[str, str], list[tuple[str, str]]] = {}
    cases = [(study, case) for study in studies for case in Session(study).cases.values()]
    for stem in dict.fromkeys(case.paths.stem for _, case in cases):
        mine = [(study, case) for study, case in cases if case.paths.stem == stem]
        before = load_scan(mine[0][1].original()[0])
        anatomy = cached_anatomy(before, stem, cache)
        surface = head_surface(before.volume)
        whole = faces(before, surface.threshold, anatomy.average_to_scan)
        for study, case in mine:
            after = load_scan(case.defaced)
            key = (stem, after.sha256)
            shown.setdefault(key, []).append((study.name, case.id))
            if key not in pictures:
                brain = load_mask(case.paths.brain(), before)
                now = faces(after, surface.threshold, anatomy.average_to_scan)
                pictures[key] = np.vstack([np.hstack(whole + now), np.hstack(slices(before, after, brain))])
        print(stem, flush=True)
    order = np.random.default_rng(SEED).permutation(len(pictures))
    keys, known = list(pictures), {}
    per_sheet = COLUMNS * ROWS
    for number in range(-(-len(keys) // per_sheet)):
        chosen = [keys[i] for i in order[number * per_sheet : (number + 1) * per_sheet]]
        names = [f"{number + 1:02}.{place + 1}" for place in range(len(chosen))]
        known |= {name: shown[key] for name, key in zip(names, chosen, strict=True)}
        sheet(names, [pictures[key] for key in chosen]).save(folder / f"sheet-{number + 1:02}.png")
    (folder / "key.json").write_text(json.dumps(known, indent=1))
    print(f"{len(cases)} cases, {len(keys)} different pictures")


def sheet(names: list[str], pictures: list[np.ndarray]) -> Image.Image:
    high, wide = (n + g for n, g in zip(pictures[0].shape[:2], (HEADER_PX + 6, 10), strict=True))
    page = Image.new("RGB", (COLUMNS * wide, ROWS * high), "white")
    draw = ImageDraw.Draw(page)
    for place, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        x, y = place % COLUMNS * wide, place // COLUMNS * high
        draw.text((x + 2, y + 2), name, "black")
        page.paste(Image.fromarray(picture), (x, y + HEADER_PX))
    return page


def faces(scan: Scan, threshold: float, average_to_scan: np.ndarray) -> list[np.ndarray]:
    surface = head_surface(scan.volume, threshold=threshold)
    size = (TILE_PX + 30, TILE_PX)
    return [render_view(surface, view, average_to_scan, size_px=size)[15:-15] for view in VIEWS]


def slices(before: Scan, after: Scan, brain: np.ndarray, *, tile_px: int = TILE_PX) -> list[np.ndarray]:
    """The middle of the head, and in three planes the place where most is edited near the brain, closer."""
    edited = before.data != after.data
    away = ndimage.distance_transform_edt(~brain, sampling=before.spacing_mm)
    closest = float(away[edited].min()) if edited.any() else 0.0
    interface = edited & (away <= max(NEAR_MM, closest + NEAR_MM))
    top = brightest(before.data)
    middle = round(float(np.argwhere(brain)[:, 0].mean()))
    panels = [panel(before, edited, 0, middle, None, top, tile_px)]
    for axis in range(3):
        profile = interface.sum(axis=tuple(a for a in range(3) if a != axis)) if edited.any() else brain.sum((1, 2))
        at = int(np.argmax(profile))
        plane = np.argwhere(np.take(interface if edited.any() else brain, at, axis=axis))
        panels.append(panel(before, edited, axis, at, plane.mean(axis=0), top, tile_px))
    return panels


def panel(scan: Scan, edited: np.ndarray, axis: int, at: int, centre: np.ndarray | None, top: float, size_px: int):
    """One slice of the original with the edit's outline; around a centre (voxels of the plane), or the whole."""
    spacing = np.delete(scan.spacing_mm, axis)
    grey, mask = (np.take(volume, at, axis=axis) for volume in (scan.data / top * 255, edited))
    side = WINDOW_MM
    if centre is None:
        centre, side = (np.array(grey.shape) - 1) / 2, float((np.array(grey.shape) * spacing).max())
    mm = (np.arange(size_px) + 0.5) / size_px * side - side / 2
    at_voxels = np.meshgrid(*(c + mm / s for c, s in zip(centre, spacing, strict=True)), indexing="ij")
    drawn = ndimage.map_coordinates(grey, at_voxels, order=1)
    inside = ndimage.map_coordinates(mask.astype(np.float32), at_voxels, order=0) > 0.5
    line = inside & ~ndimage.binary_erosion(inside, border_value=1)
    picture = np.repeat(np.clip(drawn, 0, 255)[..., None], 3, axis=-1)
    picture[line] = OUTLINE
    picture[:, -GAP_PX:] = 255
    return np.asarray(np.flip(picture.swapaxes(0, 1), 0), np.uint8)


# Votes


def record(folder: Path, studies: list[Path], votes: Path, reviewer: str) -> None:
    """Put what was seen into the logs of the studies, as a blind reviewer of the page."""
    known: dict[str, list[tuple[str, str]]] = json.loads((folder / "key.json").read_text())
    seen = {}
    for line in votes.read_text().splitlines():
        if line.strip():
            name, key, *note = line.split(maxsplit=2)
            seen[name] = (VERDICTS[int(key) - 1], note[0] if note else "")
    if set(seen) != set(known):
        raise SystemExit(f"pictures without a vote, or votes without a picture: {sorted(set(seen) ^ set(known))}")
    sessions = {study.name: Session(study, blind=True, reviewer=reviewer) for study in studies}
    if any(row[-2] for session in sessions.values() for row in session.study(reviewer)["cases"]):
        raise SystemExit(f"{reviewer} has voted here before")
    for name, (verdict, note) in seen.items():
        for study, case in known[name]:
            sessions[study].vote(case, reviewer, verdict, f"{name} {note}".strip())
    print(f"{sum(map(len, known.values()))} votes of {reviewer} on {len(seen)} pictures")


def judge_all(studies: list[Path], cache: Path) -> None:
    """Give every case a verdict that has none, and write the tables."""
    for study in studies:
        cases = [case for case in Session(study).cases.values() if not case.evidence.is_file()]
        for stem in dict.fromkeys(case.paths.stem for case in cases):
            mine = [case for case in cases if case.paths.stem == stem]
            anatomy = cached_anatomy(load_scan(mine[0].original()[0]), stem, cache)
            for case in mine:
                names = {"subject": case.paths.subject, "session": case.paths.session or "", "scan": stem}
                unit = {**names, "method": case.method, "implementation": "native"}
                write_verdict(case.evidence, judge(anatomy, load_scan(case.defaced)), unit, {})
        write_quality(study)


# Comparison


def compare(studies: list[Path], reviewer: str, table: Path) -> None:
    """Print how far the verdicts agree with the reviewer, and write one row a case."""
    rows = []
    for study in studies:
        votes = {vote.case: vote for vote in current_ratings(study) if vote.reviewer == reviewer}
        quality, _ = read_quality(study)
        for row in quality.to_dict("records"):
            vote = votes[row["scan"], row["method"]]
            rows.append({"set": study.name, **{name: row[name] for name in ("scan", "method")}, reviewer: vote.verdict,
                         "automatic": row["verdict"], **{name: row[name] for name in NUMBERS},
                         "image": vote.image, "note": vote.note})  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["note"] = frame["note"].where(frame[reviewer] != frame["automatic"], "")
    kept = frame.drop(columns="image").replace("", NOT_AVAILABLE)
    kept.to_csv(table, sep="\t", index=False, float_format="%.4g", na_rep=NOT_AVAILABLE, quoting=csv.QUOTE_NONE)
    for name in dict.fromkeys(frame["set"]):
        say(name, frame[frame["set"] == name], reviewer)
    methods = frame[frame["set"] != "misplaced"]
    say("all but misplaced", methods, reviewer)
    say("the same, equal images once", methods.drop_duplicates(["scan", "image"]), reviewer)
    say("everything, equal images once", frame.drop_duplicates(["scan", "image"]), reviewer)
    say(
        "the same, heads nothing was set on",
        frame[~frame.scan.isin(TUNED_ON)].drop_duplicates(["scan", "image"]),
        reviewer,
    )
    print("\nDisagreements")
    for row in frame[frame[reviewer] != frame["automatic"]].to_dict("records"):
        print(*row.values(), sep="\t")


def say(name: str, frame: pd.DataFrame, reviewer: str) -> None:
    seen, found = frame[reviewer], frame["automatic"]
    counts = pd.crosstab(seen, found).reindex(index=VERDICTS, columns=VERDICTS).fillna(0).astype(int)
    kappa, low, high = cohen_kappa(counts.to_numpy(dtype=np.intp))
    same = int((seen == found).sum())
    print(f"\n{name}: the same in {share(same, len(frame))}; kappa {kappa:.3f} ({low:.3f} to {high:.3f})")
    print(f"{reviewer} \\ automatic".ljust(20), *(f"{verdict:>11}" for verdict in VERDICTS))
    for verdict in VERDICTS:
        print(verdict.ljust(20), *(f"{n:>11}" for n in counts.loc[verdict]))
    for what, positive in (("any failure", VERDICTS[1:]), *((verdict, (verdict,)) for verdict in VERDICTS[1:])):
        truth, flagged = seen.isin(positive), found.isin(positive)
        hit, spared = (flagged & truth).sum(), (~flagged & ~truth).sum()
        print(f"{what}: sensitivity {share(hit, truth.sum())}, specificity {share(spared, (~truth).sum())}")
    failed = list(seen != VERDICTS[0])
    if 0 < sum(failed) < len(failed):
        print(f"AUROC of the score, failure against success: {auroc(list(frame['score']), failed):.3f}")


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part} of {whole})" if whole else "n/a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    wanted = {
        "edits": ("heads", "out", "--cache"), "misplaced": ("heads", "out", "--cache"),
        "sheets": ("folder", "studies", "--cache"),
        "record": ("folder", "studies", "--votes", "--reviewer"), "judge": ("studies", "--cache"),
        "compare": ("studies", "--reviewer", "--table"),
    }  # fmt: skip
    for name, arguments in wanted.items():
        command = commands.add_parser(name)
        for argument in arguments:
            kind = str if argument == "--reviewer" else Path
            must = {"required": True} if argument.startswith("--") else {}
            command.add_argument(argument, type=kind, **must, **({"nargs": "+"} if argument == "studies" else {}))
        if name == "edits":
            command.add_argument("--protect-brain", action="store_true")
            command.add_argument("--subjects", nargs="*", default=[])
    options = parser.parse_args()
    if options.command == "edits":
        heads = options.heads.resolve()
        edits(heads, options.out, options.cache, options.subjects, protect_brain=options.protect_brain)
    elif options.command == "misplaced":
        misplaced(options.heads.resolve(), options.out, options.cache)
    elif options.command == "sheets":
        sheets(options.folder, options.studies, options.cache)
    elif options.command == "record":
        record(options.folder, options.studies, options.votes, options.reviewer)
    elif options.command == "judge":
        judge_all(options.studies, options.cache)
    else:
        compare(options.studies, options.reviewer, options.table)


if __name__ == "__main__":
    main()
