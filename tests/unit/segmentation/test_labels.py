"""The label table against the atlas it describes."""

import numpy as np
import pytest

from efface.anatomy import templates
from efface.errors import InputError
from efface.segmentation import LABELS, REGIONS, region_of
from efface.segmentation.labels import BY_ID, LABEL_IDS, REGION_NAMES, index_lookup

ATLAS_ONLY = {46, 69}  # cerebrospinal fluid and optic chiasm


def test_there_are_132_labels_in_ascending_order():
    assert len(LABEL_IDS) == 132
    assert list(LABEL_IDS) == sorted(set(LABEL_IDS))
    assert [label.index for label in LABELS] == list(range(1, 133))
    assert LABEL_IDS[:4] == (4, 11, 23, 30)
    assert LABEL_IDS[-1] == 207


def test_labels_are_those_of_the_atlas_without_fluid_and_chiasm():
    labels, _ = templates.braincolor_labels()
    assert set(LABEL_IDS) == set(np.unique(labels).tolist()) - {0} - ATLAS_ONLY


def test_every_label_is_in_exactly_one_region():
    assert set(REGIONS) == {*REGION_NAMES, "other"}
    assert len(REGION_NAMES) == 9
    assert sorted(i for ids in REGIONS.values() for i in ids) == list(LABEL_IDS)
    assert all(label.id in REGIONS[label.region] for label in LABELS)


@pytest.mark.parametrize(
    ("label_id", "region"),
    [
        (4, "ventricles"),
        (52, "ventricles"),
        (36, "caudate"),
        (44, "cerebral WM"),
        (48, "cerebral GM"),
        (207, "cerebral GM"),
        (35, "brainstem"),
        (58, "putamen"),
        (59, "thalamus"),
        (72, "cerebellar GM"),
        (41, "cerebellar WM"),
        (62, "other"),
    ],
)
def test_known_labels_have_their_region(label_id, region):
    assert region_of(label_id) == region


def test_partners_are_mutual_and_differ_in_side_only():
    other = {"left": "right", "right": "left", "both": "both"}
    for label in LABELS:
        partner = BY_ID[label.partner]
        assert partner.partner == label.id
        assert partner.region == label.region
        assert partner.hemisphere == other[label.hemisphere]
        assert partner.name.replace("Left", "Right") == label.name.replace("Left", "Right")


def test_left_labels_are_on_the_left_of_the_atlas():
    labels, volume = templates.braincolor_labels()
    x = volume.affine[0, 0] * np.arange(labels.shape[0]) + volume.affine[0, 3]
    counts = np.stack([np.bincount(plane.ravel(), minlength=208) for plane in labels])
    mean_x = (x @ counts) / np.maximum(counts.sum(axis=0), 1)
    for label in LABELS:
        if label.hemisphere == "left":
            assert mean_x[label.id] < -2, label
        elif label.hemisphere == "right":
            assert mean_x[label.id] > 2, label
        else:
            assert abs(mean_x[label.id]) < 2, label


def test_index_lookup_numbers_the_labels_from_one():
    table = index_lookup()
    assert table[list(LABEL_IDS)].tolist() == list(range(1, 133))
    assert np.count_nonzero(table) == 132


def test_region_of_refuses_other_numbers():
    with pytest.raises(InputError, match="46 is not a BrainCOLOR label"):
        region_of(46)
