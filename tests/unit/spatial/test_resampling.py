"""Sampling and averaging give what SciPy and NumPy give for the whole volume at once."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.anatomy.skin import smoothed
from efface.spatial.affine import invert
from efface.spatial.resampling import block_mean, resample
from efface.spatial.types import Affine, FloatVolume, Grid, Volume

GRID = Grid((31, 47, 26), np.diag([2.0, 1.5, 3.0, 1.0]))


def oblique(seed: int) -> Affine:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(rng=rng).as_matrix() * rng.uniform(0.5, 4.0, 3)
    affine[:3, 3] = rng.normal(0, 20, 3)
    return affine


def mostly_air(seed: int, value: float) -> FloatVolume:
    data = np.full((40, 33, 52), value, np.float32)
    data[3:15, 0:12, 20:52] = np.random.default_rng(seed).random((12, 12, 32))  # it touches two borders
    return data


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("fill", [0.0, 0.25])
def test_leaving_out_what_is_air_changes_nothing(seed, order, fill):
    volume = Volume(mostly_air(seed, fill), oblique(seed))
    matrix = invert(volume.affine) @ GRID.affine
    expected = ndimage.affine_transform(
        volume.data, matrix[:3, :3], matrix[:3, 3], GRID.shape, order=order, mode="grid-constant", cval=fill
    )
    np.testing.assert_allclose(resample(volume, GRID, order=order, fill=fill), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_volume_whose_inside_is_zero_and_whose_surroundings_are_not_is_sampled_as_a_whole(seed):
    data = np.ones((70, 75, 80), np.float32)
    data[8:62, 9:70, 10:75] = 0
    data[30:33, 30:35, 30:36] = np.random.default_rng(seed).random((3, 5, 6))
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_rotvec([0.1 * seed, 0.2, -0.1]).as_matrix()
    grid = Grid((81, 66, 73), np.diag([0.9, 1.1, 1.0, 1.0]))
    matrix = turned @ grid.affine
    expected = ndimage.affine_transform(
        data, matrix[:3, :3], matrix[:3, 3], grid.shape, order=1, mode="grid-constant", cval=1.0
    )
    np.testing.assert_allclose(resample(Volume(data, np.eye(4)), grid, turned, fill=1.0), expected, atol=1e-6)


def test_a_volume_of_air_alone_and_one_far_away_give_air():
    air = Volume(np.full((5, 6, 7), 3.0, np.float32), np.eye(4))
    far = Volume(np.ones((5, 6, 7), np.float32), np.diag([1.0, 1.0, 1.0, 1.0]) + np.eye(4, k=3) * 900)
    assert (resample(air, GRID, fill=3.0) == 3).all()
    assert (resample(far, GRID) == 0).all()


@pytest.mark.parametrize("mm", [1.0, 2.6, 5.0, 400.0])
def test_a_block_is_the_mean_of_its_voxels_and_the_last_ones_are_repeated(mm):
    data = np.random.default_rng(1).random((13, 18, 11)).astype(np.float32)
    spacing = np.array([1.0, 0.9, 2.5])
    step = np.minimum(np.maximum(1, np.round(mm / spacing)), data.shape).astype(int)
    padded = np.pad(data, [(0, -n % s) for n, s in zip(data.shape, step, strict=True)], mode="edge")
    expected = np.stack(
        [
            padded[x : x + step[0], y : y + step[1], z : z + step[2]].mean()
            for x in range(0, padded.shape[0], step[0])
            for y in range(0, padded.shape[1], step[1])
            for z in range(0, padded.shape[2], step[2])
        ]
    )
    found = block_mean(Volume(data, np.diag([*spacing, 1.0])), mm)
    np.testing.assert_allclose(found.data.ravel(), expected, rtol=1e-5)
    np.testing.assert_allclose(found.grid.spacing_mm, spacing * step)


@pytest.mark.parametrize("step_mm", [1.0, 4.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 2.0, 5.0)])
def test_smoothing_is_a_gaussian_mean_of_all_voxels(step_mm, spacing):
    data = np.random.default_rng(2).random((14, 9, 12)).astype(np.float32)
    found = smoothed(Volume(data, np.diag([*spacing, 1.0])), step_mm)
    expected = data.astype(np.float64)
    for axis, mm in enumerate(spacing):
        sigma = max(1.25, 0.9 * mm)
        at = found.affine[axis, 3] + step_mm * np.arange(found.data.shape[axis])
        weights = np.exp(-0.5 * ((at[:, None] - mm * np.arange(data.shape[axis])) / sigma) ** 2)
        expected = np.moveaxis(np.tensordot(expected, weights * mm / (sigma * np.sqrt(2 * np.pi)), (axis, 1)), -1, axis)
    np.testing.assert_allclose(found.data, expected, atol=1e-6)
