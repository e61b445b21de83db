"""The segmenter with one network: grids, intensities, and labels in the right place, with a network that is made up."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from efface.errors import AnatomyError
from efface.segmentation.slant import whole_brain
from efface.segmentation.slant.millimetre_unet import MULTIPLE, SCORES, cell_voxels, cells_near
from efface.segmentation.slant.whole_brain import is_own_grid, label_indices, millimetre_grid, z_scores
from efface.segmentation.slant.whole_weights import Chunk
from efface.spatial.types import Grid, Volume

LEFT, RIGHT, TOP = 5, 6, 7


def turned(degrees, axis=(1.0, 0, 0), spacing=(1, 1, 1)):
    """Voxel to scan mm of a grid with these voxels, turned about an axis."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * np.array(axis)).as_matrix() * np.array(spacing)
    return affine


class ByPosition:
    """In place of the network: left, right and top of the template are labels; nothing where no brain is seen."""

    def scores(self, z, mask, to_template, *, mirror=False, beside=1):
        index = np.moveaxis(np.indices(z.shape), 0, -1)
        mm = index @ to_template[:3, :3].T + to_template[:3, 3]
        label = np.where(mm[..., 2] > 10, TOP, np.where(mm[..., 0] < 0, LEFT, RIGHT))
        label[~mask] = 0
        chosen = cells_near(torch.from_numpy(mask)[None, None], beside)
        scores = torch.nn.functional.one_hot(torch.from_numpy(label), SCORES).float().movedim(-1, 0)[None] * 9
        yield Chunk(chosen, cell_voxels(scores)[chosen])


def ball(affine, shape, radius_mm=28):
    """z-scores and mask of a ball around the origin of the scan."""
    centred = affine.copy()
    centred[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    mm = np.moveaxis(np.indices(shape), 0, -1) @ centred[:3, :3].T + centred[:3, 3]
    mask = np.linalg.norm(mm, axis=-1) < radius_mm
    return Volume(np.where(mask, mm[..., 1] / 20, 0).astype(np.float32), centred), mask, mm


@pytest.mark.parametrize(
    ("affine", "shape", "to_template"),
    [
        (turned(0), (61, 63, 65), np.eye(4)),
        (turned(0, spacing=(2, 2, 2)), (31, 32, 33), np.eye(4)),
        (turned(0, spacing=(1, 1, 3)), (61, 62, 23), np.eye(4)),
        (turned(8, (0, 0.6, 0.8), (0.7, 0.7, 0.7)), (84, 86, 88), np.eye(4)),
        (turned(0), (62, 62, 62), turned(90, (0, 1, 0))),  # a head that lies on its side
        (turned(0, spacing=(2, 2, 2)), (32, 32, 32), turned(170, (0, 0, 1))),
    ],
    ids=["1 mm", "2 mm", "thick slices", "oblique", "on its side", "turned round"],
)
def test_labels_are_where_the_template_says(affine, shape, to_template):
    z, mask, mm = ball(affine, shape)
    found = label_indices(z, mask, to_template, ByPosition())
    in_template = mm @ to_template[:3, :3].T
    expected = np.where(in_template[..., 2] > 10, TOP, np.where(in_template[..., 0] < 0, LEFT, RIGHT))
    border = (np.abs(in_template[..., 2] - 10) < 1.6) | (np.abs(in_template[..., 0]) < 1.6)
    assert not found[~mask].any()
    core = np.linalg.norm(mm, axis=-1) < 26  # beside the mask, this network finds nothing
    assert (found == expected)[core & ~border].mean() > 0.998
    assert (found > 0)[mask].mean() > 0.97


def test_a_scan_of_1_mm_is_not_resampled():
    z, mask, _ = ball(turned(5), (61, 63, 65))
    seen = []

    class Watching(ByPosition):
        def scores(self, z, mask, to_template, **options):
            seen.append((z, mask))
            yield from super().scores(z, mask, to_template, **options)

    label_indices(z, mask, np.eye(4), Watching())
    given, inside = seen[0]
    assert all(n % 16 == 0 for n in given.shape)
    np.testing.assert_array_equal(given[inside], z.data[mask])


@pytest.mark.parametrize(
    ("spacing", "tilt_deg", "own"),
    [
        ((1, 1, 1), 0, True),
        ((0.9, 1, 1.1), 15, True),
        ((0.8, 1, 1), 0, False),
        ((1, 1, 1.2), 0, False),
        ((2, 2, 2), 0, False),
        ((1, 1, 1), 25, False),
    ],
)
def test_which_grids_are_used_as_they_are(spacing, tilt_deg, own):
    assert is_own_grid(Grid((10, 10, 10), turned(0, spacing=spacing)), turned(tilt_deg)) is own


@pytest.mark.parametrize("degrees", [0, 12, 70])
def test_the_millimetre_grid_is_upright_and_holds_the_brain(degrees):
    z, mask, _ = ball(turned(0, spacing=(2, 2, 2)), (32, 40, 36))
    to_template = turned(degrees) * 1.1
    to_template[3, 3] = 1
    grid = millimetre_grid(z.grid, mask, to_template)
    np.testing.assert_allclose(grid.spacing_mm, 1)
    assert np.linalg.det(grid.affine[:3, :3]) > 0
    upright = to_template[:3, :3] @ grid.affine[:3, :3] / 1.1
    np.testing.assert_allclose(upright, np.eye(3) if degrees == 70 else turned(degrees)[:3, :3], atol=1e-9)
    at = (np.argwhere(mask) @ z.affine[:3, :3].T + z.affine[:3, 3] - grid.affine[:3, 3]) @ grid.affine[:3, :3]
    assert (at > 1).all()
    assert (at < np.array(grid.shape) - 1.9).all()


def test_z_scores_are_those_of_the_brain():
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 20, 20), dtype=np.bool_)
    mask[3:17, 3:17, 3:17] = True
    values = np.where(mask, rng.normal(300, 20, mask.shape), 5000).astype(np.float32)
    found = z_scores(values, mask, np.ones(3), bias=False)
    assert abs(found[mask].mean()) < 0.01
    assert abs(found[mask].std() - 1) < 0.01
    assert not found[~mask].any()


@pytest.mark.parametrize(
    ("values", "side", "message"),
    [
        (np.full((20, 20, 20), 7, np.float32), 14, "all voxels of the brain have the same intensity"),
        (np.random.default_rng(0).random((20, 20, 20)).astype(np.float32), 4, "has 64 mm³; expected at least 1000"),
    ],
)
def test_what_cannot_be_a_brain_is_refused(values, side, message):
    mask = np.zeros(values.shape, dtype=np.bool_)
    mask[:side, :side, :side] = True
    with pytest.raises(AnatomyError, match=message):
        z_scores(values, mask, np.ones(3), bias=False)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.5, 0.8, 3.0)])
def test_a_mask_that_is_wider_does_not_move_the_cells_of_the_network(spacing):
    scan = Grid((150, 130, 140), np.diag([*spacing, 1.0]) + np.eye(4, k=3) * -40)
    corner = scan.affine[:3, 3]
    begins = []
    for start in (20, 21, 25, 33):
        box = tuple(slice(start, 100) for _ in range(3))
        grid = millimetre_grid(scan.cropped(box), np.ones((100 - start,) * 3, np.bool_), np.eye(4), corner)
        begins.append(grid.affine[:3, 3])
        off = (begins[-1] - begins[0]) / MULTIPLE
        np.testing.assert_allclose(off, np.rint(off), atol=1e-6)
        low = scan.affine[:3, :3] @ np.full(3, start - 0.5) + corner
        assert (grid.affine[:3, 3] - 0.5 <= low).all()


def test_the_box_of_a_brain_begins_on_the_lattice_of_the_network():
    box = whole_brain._from_lattice((slice(0, 9), slice(17, 40), slice(32, 50)))
    assert [one.start for one in box] == [0, 16, 32]
    assert [one.stop for one in box] == [9, 40, 50]
