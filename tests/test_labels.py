"""The label table against the atlas it describes."""

import csv
from importlib import resources

import numpy as np

from efface import templates


def rows() -> list[dict[str, str]]:
    text = resources.files("efface.segment").joinpath("labels.tsv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def test_there_are_132_labels_in_ascending_order():
    ids = [int(row["id"]) for row in rows()]
    assert len(ids) == 132
    assert ids == sorted(set(ids))
    assert ids[:4] == [4, 11, 23, 30]
    assert ids[-1] == 207


def test_every_label_is_in_the_atlas():
    labels, _ = templates.braincolor_labels()
    assert {int(row["id"]) for row in rows()} <= set(np.unique(labels).tolist())


def test_every_label_has_a_region():
    assert all(row["region"] for row in rows())
