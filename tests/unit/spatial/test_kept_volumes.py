"""Displacements that keep the volume of tissue, on balls that get smaller: what they squeeze is known."""

import numpy as np
import pytest

from efface.spatial.kept_volumes import keep_volumes
from efface.spatial.shape_registration import volume_ratio

SHAPE, MM = (40, 44, 48), 2.0
AXES = [MM * (axis - n / 2) for axis, n in zip(np.indices(SHAPE, dtype=np.float32), SHAPE, strict=True)]
RADIUS = np.sqrt(sum(np.square(axis) for axis in AXES))
FREE, CORE = RADIUS < 30, RADIUS < 14


def growing(share):
    """Everything is pulled from farther out (or in) by a share of its distance, up to the ball, and less beyond."""
    size = share * np.clip((38 - RADIUS) / 8, 0, 1)
    return np.stack([size * axis for axis in AXES], axis=-1).astype(np.float32)


def kept(displacement, mask):
    return mask.sum() / volume_ratio(displacement, MM)[mask].sum()


@pytest.mark.parametrize("share", [0.08, -0.08])
def test_tissue_keeps_its_volume(share):
    before = growing(share)
    after = keep_volumes(before, CORE.astype(np.float32), FREE, MM)
    assert abs(kept(before, CORE) - 1) > 0.2
    assert kept(after, CORE) == pytest.approx(1, abs=0.03)
    ratio = volume_ratio(after, MM)
    assert np.percentile(np.abs(ratio[CORE] - 1), 95) < 0.1  # every voxel of it, not only the whole
    assert ratio.min() > 0.5


def test_nothing_changes_where_it_may_not():
    before = growing(0.08)
    after = keep_volumes(before, CORE.astype(np.float32), FREE, MM)
    assert np.array_equal(after[~FREE], before[~FREE])
    assert not np.array_equal(after[FREE], before[FREE])


def test_volumes_that_are_kept_already_stay_as_they_are():
    shifted = np.zeros((*SHAPE, 3), np.float32)
    shifted[..., 1] = 3.0
    after = keep_volumes(shifted, CORE.astype(np.float32), FREE, MM)
    assert np.abs(after - shifted).max() < 1e-4


def test_an_axis_is_not_taken_for_another():
    stretched = np.zeros((*SHAPE, 3), np.float32)
    stretched[..., 2] = growing(0.2)[..., 2]
    change = keep_volumes(stretched, CORE.astype(np.float32), FREE, MM) - stretched
    along = [np.corrcoef(change[CORE][:, a], AXES[a][CORE])[0, 1] for a in range(3)]
    assert max(along) < -0.5  # all three give way, each along itself
    assert np.abs(change[CORE][:, 2]).mean() > np.abs(change[CORE][:, :2]).mean()


@pytest.mark.parametrize(("held", "free"), [(0.0, True), (1.0, False)], ids=["nothing is held", "nothing may change"])
def test_nothing_to_do(held, free):
    before = growing(0.08)
    after = keep_volumes(before, np.full(SHAPE, held, np.float32), np.full(SHAPE, free), MM)
    assert np.array_equal(after, before)
