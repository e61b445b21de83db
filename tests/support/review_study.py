"""The output of a study of phantoms, as `efface study` lays it out, without running one: something to review.

Methods differ in what they do: quickshear cuts the face off, defacer cuts into the brain, pydeface leaves the face.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

import phantom
from efface.bids.derivatives import ORIGINAL, UNNAMED_SEGMENTER, UnitPaths, recipe_of
from efface.io.scan import Scan, load_scan
from efface.quality import FACE_FEATURES, BrainEvidence, FaceEvidence, FeatureEvidence, QualityClass, Verdict
from efface.study.verdicts import write_verdict

METHODS = ("quickshear", "mri_deface", "pydeface")
VERDICTS = {"quickshear": ("Success", 0.05), "mri_deface": ("Failure II", 0.93), "pydeface": ("Failure I", 0.8)}


def make(root: Path, subjects: int = 2, *, verdicts: bool = True, name: str = "sub-{:02}") -> Path:
    """Originals in root/bids, results in root/out; every scan in another orientation."""
    out = root / "out"
    out.mkdir(parents=True)
    settings = {"Methods": list(METHODS), "Segmenter": UNNAMED_SEGMENTER, "ProtectBrain": False, "MethodParameters": {}}
    description = {"Name": "efface: phantoms", "Efface": settings, "DatasetLinks": {"raw": (root / "bids").as_uri()}}
    (out / "dataset_description.json").write_text(json.dumps(description))
    for number in range(subjects):
        folder = root / "bids" / name.format(number) / "anat"
        folder.mkdir(parents=True)
        orientation = phantom.ORIENTATIONS[number % len(phantom.ORIENTATIONS)]
        path = phantom.write(folder / f"{name.format(number)}_T1w.nii.gz", orientation).path
        one_scan(out, load_scan(path), verdicts=verdicts)
    return out


def one_scan(out: Path, scan: Scan, *, verdicts: bool = True) -> UnitPaths:
    """All results of one phantom."""
    stem = scan.path.name.rsplit("_", 1)[0]
    paths = UnitPaths(out, stem.removeprefix("sub-"), None, stem)
    (paths.folder / "anat").mkdir(parents=True)
    truth = phantom.head()
    face = truth.inside & ~truth.brain
    face[:, :28] = False
    scan.save_like(truth.brain, paths.brain())
    labels = np.where(truth.brain, np.where(scan.data > 120, 44, 45), 0).astype(np.int32)
    scan.save_like(labels, paths.segmentation(ORIGINAL, UNNAMED_SEGMENTER))
    for method in METHODS:
        mask = {"quickshear": face, "mri_deface": face | (truth.brain & np.roll(face, -6, 1))}.get(method)
        mask = phantom.ellipsoid((75, -5, -10), (14, 20, 24)) if mask is None else mask
        scan.save_like(mask, paths.mask(method))
        stored = scan.stored.copy()
        stored[scan.ras_to_stored(mask)] = 0
        after = scan.with_stored(stored)
        after.save(paths.defaced(method))
        scan.save_like(np.where(mask, 0, labels), paths.segmentation(method, UNNAMED_SEGMENTER))
        recipe = {"Sources": [str(scan.path)], "Implementation": "native", "Parameters": {"buffer": 10}, "Warnings": []}
        recipe_of(paths.defaced(method)).write_text(json.dumps(recipe))
        if verdicts:
            write_evidence(paths, method)
    return paths


def multiply(out: Path, scans: int) -> None:
    """As many scans as asked for, all alike: files are links to those of the first."""
    first = out / "sub-00" / "anat"
    names = [(path.name.removeprefix("sub-00"), path) for path in sorted(first.iterdir())]
    for number in range(1, scans):
        folder = out / f"sub-x{number:04}" / "anat"
        folder.mkdir(parents=True)
        for rest, path in names:
            (folder / f"sub-x{number:04}{rest}").hardlink_to(path)


def write_evidence(paths: UnitPaths, method: str) -> None:
    """The evidence of an automatic verdict, as quality control writes it."""
    verdict, score = VERDICTS[method]
    cut, left = verdict == "Failure II", verdict == "Failure I"
    where = ("frontal pole, left", (-10.0, 55.0, 20.0), ((-15.0, 50.0, 15.0), (-5.0, 60.0, 25.0)))
    damage = BrainEvidence(cut, score, 1.25, 12, 2.0, 20, 7.1, *where)
    whole = BrainEvidence(False, 0.0, 0.0, 0, 2.0, 20, 0.9, "", None, None)
    features = {part: FeatureEvidence(None, None, None, 0.0, None) for parts in FACE_FEATURES.values() for part in parts}
    moved = (0.02, 0.1) if left else (1.0, 12.0)
    features["nose"] = FeatureEvidence(left, *moved, 9.0, (-3.0, 105.0, -37.0))
    features["left ear"] = FeatureEvidence(True, 0.0, 0.0, 4.0, None)
    face = FaceEvidence(left, score if left else 0.1, 0.03 if left else 0.97, ("nose",) if left else (), features)
    reason = {"Success": "the face is gone and the brain whole", "Failure I": "the nose is left",
              "Failure II": "1.25 ml of brain are damaged"}[verdict]  # fmt: skip
    found = Verdict(QualityClass(verdict), score, reason, damage if cut else whole, face, np.eye(4), 30.0)
    unit = {"subject": paths.subject, "session": paths.session or "", "scan": paths.stem, "method": method}
    write_verdict(paths.quality(method), found.to_json(), {**unit, "implementation": "native"}, {})


class Door(NamedTuple):
    """What a browser has after it opened the address: the page's own address, and a cookie."""

    url: str
    cookie: str


def enter(url: str) -> Door:
    """Open an address as a browser does."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        place = re.search(r'url=(/[^"]+/)"', answer.read().decode())[1]
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    return Door("http://" + urlsplit(url).netloc + place, cookie)


def next_address(server) -> str:
    """The address for another browser, which is printed when one was opened."""
    while not (line := server.stdout.readline()).startswith("opened; for another browser: "):
        if not line:
            raise AssertionError(server.stderr.read())
    return line.split()[-1]


@contextmanager
def serving(out: Path, *options: str, browser: bool = False):
    """A server of its own process: gives the process and the address it printed; ends it if it still runs."""
    command = [sys.executable, "-m", "efface.cli", "review", str(out), *options, *([] if browser else ["--no-browser"])]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        line = server.stdout.readline()
        if not line.startswith("review: http://127.0.0.1:"):
            raise AssertionError(line + server.stderr.read())
        yield server, line.split()[1]
    finally:
        with server:  # closes the pipes and waits
            server.kill()
