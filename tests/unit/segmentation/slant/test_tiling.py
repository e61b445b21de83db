"""Tiles of SLANT and their fusion, against brute force."""

from collections import Counter

import numpy as np
import pytest

from efface.errors import InputError
from efface.segmentation.slant.tiling import EMBEDDED, PUBLISHED, Geometry, fuse
from efface.spatial.types import Grid

SMALL = Geometry("small", Grid((7, 8, 9), np.eye(4)), (3, 4, 5), ((0, 2, 4), (0, 2, 4), (0, 2, 4)), np.eye(4))
GAPPED = Geometry("gapped", Grid((9, 8, 7), np.eye(4)), (3, 4, 2), ((0, 5), (1, 3), (0, 1, 4)), np.eye(4))


def random_tiles(geometry, seed=0, high=133):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, high, geometry.tile_shape) for name in geometry.names}


def brute_force(tiles, geometry):
    votes = [Counter() for _ in range(np.prod(geometry.grid.shape))]
    index = np.arange(len(votes)).reshape(geometry.grid.shape)
    for name, labels in tiles.items():
        i, j, k = (int(n) - 1 for n in name.split("_"))
        start = geometry.origins[0][i], geometry.origins[1][j], geometry.origins[2][k]
        for at, label in np.ndenumerate(labels):
            votes[index[tuple(np.add(start, at))]][int(label)] += 1
    best = [min(v, key=lambda label: (-v[label], label)) if v else 0 for v in votes]
    return np.array(best).reshape(geometry.grid.shape)


@pytest.mark.parametrize("geometry", [SMALL, GAPPED], ids=lambda g: g.name)
@pytest.mark.parametrize("high", [2, 4, 133])
def test_fusion_is_the_majority_and_the_smallest_of_equals(geometry, high):
    tiles = random_tiles(geometry, seed=high, high=high)
    fused = fuse(tiles, geometry)
    np.testing.assert_array_equal(fused, brute_force(tiles, geometry))
    assert fused.dtype == np.int32


def test_voxels_without_a_tile_are_background():
    fused = fuse({name: np.full(GAPPED.tile_shape, 7) for name in GAPPED.names}, GAPPED)
    assert (fused[3:5] == 0).all()
    assert (fused[:3, 1:7, :2] == 7).all()


def test_sampled_voxels_of_the_published_grid_agree_with_counting():
    tiles = random_tiles(PUBLISHED, high=5)
    fused = fuse(tiles, PUBLISHED)
    for voxel in np.random.default_rng(1).integers(0, PUBLISHED.grid.shape, (300, 3)):
        votes = Counter()
        for name, labels in tiles.items():
            local = voxel - [s.start for s in PUBLISHED.box(name)]
            if (local >= 0).all() and (local < labels.shape).all():
                votes[int(labels[tuple(local)])] += 1
        assert fused[tuple(voxel)] == min(votes, key=lambda label: (-votes[label], label))


@pytest.mark.parametrize("geometry", [PUBLISHED, EMBEDDED], ids=lambda g: g.name)
def test_tiles_cover_the_whole_grid_from_edge_to_edge(geometry):
    assert len(geometry.names) == 27
    fused = fuse({name: np.ones(geometry.tile_shape, np.uint8) for name in geometry.names}, geometry)
    assert (fused == 1).all()


def test_geometry_is_the_published_one():
    assert PUBLISHED.box("3_1_2") == (slice(76, 172), slice(0, 128), slice(34, 122))
    assert PUBLISHED.box("2_3_1") == (slice(38, 134), slice(92, 220), slice(0, 88))
    assert EMBEDDED.box("1_2_3") == (slice(0, 48), slice(23, 87), slice(34, 78))


def test_the_embedded_grid_is_symmetric_about_the_midline():
    x = EMBEDDED.grid.affine[0, 3] + 2.0 * np.arange(EMBEDDED.grid.shape[0])
    np.testing.assert_allclose(x, -x[::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("2_1_3"), r"missing 2_1_3"),
        (lambda t: t.update({"4_1_1": t["1_1_1"]}), r"unknown 4_1_1"),
        (
            lambda t: t.update({"1_1_1": np.zeros((5, 4, 3), int)}),
            r"tile 1_1_1 .*\(3, 4, 5\).*int64.*\(5, 4, 3\)",
        ),
        (lambda t: t.update({"1_2_1": np.zeros((3, 4, 5))}), r"tile 1_2_1 must be integer.*float64"),
        (lambda t: t.update({"1_1_2": np.full((3, 4, 5), 133)}), r"0 to 132; received 133 to 133"),
        (lambda t: t.update({"1_1_2": np.full((3, 4, 5), -1)}), r"0 to 132; received -1 to -1"),
    ],
)
def test_what_cannot_be_fused_is_refused_in_one_line(change, message):
    tiles = random_tiles(SMALL)
    change(tiles)
    with pytest.raises(InputError, match=message) as caught:
        fuse(tiles, SMALL)
    assert "\n" not in str(caught.value)


def test_a_tile_that_leaves_the_grid_is_refused():
    with pytest.raises(InputError, match="along y expected origins from 0 to 4"):
        Geometry("wrong", Grid((7, 8, 9), np.eye(4)), (3, 4, 5), ((0,), (5,), (0,)), np.eye(4))


def test_unknown_tile_name_is_refused():
    with pytest.raises(InputError, match="no tile '0_1_1'"):
        SMALL.box("0_1_1")
