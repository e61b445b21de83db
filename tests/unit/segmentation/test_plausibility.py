"""Volumes that nobody has are told of; those of the reference are not."""

import numpy as np
import pytest

from efface.segmentation import LABELS, REGIONS
from efface.segmentation.plausibility import implausible, reference

BRAIN = 120_000
VOXEL_ML = 0.01


def labels(**factors):
    """Labels of a brain whose regions have the middle of their range, times a factor by label id."""
    shares = {region: (low * high) ** 0.5 for region, (low, high, _) in reference().items()}
    whole = sum(shares.values())
    values = []
    for region, ids in REGIONS.items():
        count = round(BRAIN * shares[region] / whole / len(ids))
        values += [np.full(round(count * factors.get(str(one), 1.0)), one) for one in ids]
    return np.concatenate([np.zeros(1000, int), *values]).astype(np.int32).reshape(-1, 1, 1)


def ids_of(region, side):
    return [str(one.id) for one in LABELS if one.region == region and one.hemisphere == side]


def test_a_brain_within_the_reference_is_plausible():
    assert implausible(labels(), VOXEL_ML) == ()


def test_the_reference_names_every_region_in_order():
    assert tuple(reference()) == tuple(REGIONS)
    assert all(low < high for low, high, _ in reference().values())


@pytest.mark.parametrize("region", ["caudate", "cerebral WM", "thalamus", "cerebellar GM"])
def test_a_region_that_is_lost_on_one_side_is_told_of(region):
    (line,) = implausible(labels(**dict.fromkeys(ids_of(region, "left"), 0.4)), VOXEL_ML)
    assert line.startswith(f"{region} has")
    assert "look at the labels" in line


def test_a_region_that_is_too_large_is_told_of_with_its_range():
    both = ids_of("putamen", "left") + ids_of("putamen", "right")
    (line,) = implausible(labels(**dict.fromkeys(both, 2.2)), VOXEL_ML)
    assert line.startswith("putamen has 1")
    assert "expected" in line


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_brain_of_no_human_size_is_told_of_alone(factor):
    (line,) = implausible(labels(), VOXEL_ML * factor)
    assert "expected 700 to 2100 ml" in line


def test_no_labels_at_all_are_told_of():
    assert "have 0 ml" in implausible(np.zeros((4, 4, 4), np.int32), 1.0)[0]
