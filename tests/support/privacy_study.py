"""A study of heads that are numbers, for tests of privacy: who is found is known, and nothing takes time."""

import json
import os

import pandas as pd

from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.errors import InputError
from efface.metrics.dice import NINE_REGIONS, WHOLE_BRAIN
from efface.privacy import looks
from efface.privacy.attack import Attack
from efface.study.records import write_table

ATTACK = Attack(
    name="geometry_face", title="Shape of the face region", summary="numbers", reference="nobody",
    enrol=lambda head: head, look=lambda head: head, distance=lambda one, other: abs(one - other) + 1e-3,
)  # fmt: skip
METHODS = ("quickshear", "pydeface")


class Head(float):
    """The number of a person; quickshear keeps it, pydeface gives everybody the same."""

    doubt = ""


def stand_in(monkeypatch) -> None:
    """Let the files of `make` be read as numbers."""

    def load(path):
        try:
            return float(path.read_text())
        except ValueError as error:
            msg = f"{path.name} is no image"
            raise InputError(msg) from error

    monkeypatch.setattr(looks, "load_scan", load)
    monkeypatch.setattr(looks, "noisy", lambda scan: scan + 0.5)
    monkeypatch.setattr(looks, "place", Head)
    monkeypatch.setattr(looks, "cut_flat", lambda head: Head(1000.0))
    monkeypatch.setattr(looks, "ATTACKS", {ATTACK.name: ATTACK})
    monkeypatch.setattr("efface.study.privacy_tables.chosen_attacks", lambda names: (ATTACK,))


def make(root, people: int = 12):
    """A data set and a study of so many people; returns the output folder."""
    raw, out = root / "bids", root / "out"
    out.mkdir(parents=True)
    edits, dice = [], []
    for i in range(people):
        subject, scan = f"{i:02d}", f"sub-{i:02d}"
        original = raw / scan / "anat" / f"{scan}_T1w.nii.gz"
        original.parent.mkdir(parents=True)
        original.write_text(str(10.0 * i))
        unit = UnitPaths(out, subject, None, scan)
        (unit.folder / "anat").mkdir(parents=True)
        unit.results.write_text("")
        for method in METHODS:
            defaced = unit.defaced(method)
            defaced.write_text(str(10.0 * i + 1 if method == "quickshear" else 500.0))
            source = f"bids:raw:{scan}/anat/{original.name}"
            defaced.with_name(defaced.name.replace(".nii.gz", ".json")).write_text(json.dumps({"Sources": [source]}))
            about = {"subject": subject, "session": "", "scan": scan, "method": method, "implementation": "native"}
            edits.append({**about, "edited_ml": 1.0, "edited_head_ml": 100.0 + i, "edited_brain_ml": 0.0})
            for region in (WHOLE_BRAIN, *NINE_REGIONS):
                level = "whole brain" if region == WHOLE_BRAIN else "region"
                row = {"segmenter": "slant", "measure": "dice", "level": level, "region": region}
                dice.append({**about, **row, "value": 0.99 - 0.001 * i - 0.01 * (method == "pydeface")})
    description = {"DatasetLinks": {"raw": os.path.relpath(raw, out)}, "Efface": {"Segmenter": "slant"}}
    GroupPaths(out).description.write_text(json.dumps(description))
    write_table(out / "edits.tsv", pd.DataFrame(edits))
    write_table(out / "dice.tsv", pd.DataFrame(dice))
    columns = ["subject", "session", "scan", "method", "implementation", "segmenter", "measure", "status", "reason"]
    write_table(out / "failures.tsv", pd.DataFrame(columns=columns))
    return out
