"""Registration of the average head with moved copies of itself: the truth is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import phantom
from efface.anatomy import templates
from efface.errors import InputError
from efface.spatial import pose_search, registration, resampling
from efface.spatial.types import Grid, Volume


@pytest.fixture(scope="module")
def head() -> Volume:
    return resampling.block_mean(templates.average_head(), 2.0)


def moved_copy(head: Volume, degrees: float, shift_mm: float, seed: int) -> tuple[Volume, np.ndarray]:
    """The head under another affine, and the true transform from `head` mm to the copy's mm."""
    rng = np.random.default_rng(seed)
    axis, direction = rng.normal(size=(2, 3))
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    truth[:3, 3] = shift_mm * direction / np.linalg.norm(direction)
    return Volume(head.data, truth @ head.affine), truth


def brain_points() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=40.0, size=(500, 3))


@pytest.mark.parametrize(("degrees", "shift_mm", "seed"), [(0, 0, 0), (20, 80, 1), (40, 40, 2), (40, 80, 3)])
def test_affine_finds_a_moved_head(head, degrees, shift_mm, seed):
    moving, truth = moved_copy(head, degrees, shift_mm, seed)
    found = registration.register_affine(head, moving)
    assert found.converged, found.reason
    assert pose_search.rms_distance_mm(found.matrix, truth, brain_points()) < 2.0


def test_affine_is_deterministic(head):
    moving, _ = moved_copy(head, 15, 10, 4)
    first, second = (registration.register_affine(head, moving).matrix for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("degrees", "shift_mm", "seed"), [(0, 0, 0), (4, 6, 1), (6, 4, 2)])
def test_refinement_finds_a_head_from_nearby(head, degrees, shift_mm, seed):
    moving, truth = moved_copy(head, degrees, shift_mm, seed)
    found = registration.refine_affine(head, moving, np.eye(4))
    assert found.converged, found.reason
    assert pose_search.rms_distance_mm(found.matrix, truth, brain_points()) < 2.0


def test_refinement_is_deterministic(head):
    moving, _ = moved_copy(head, 4, 4, 4)
    first, second = (registration.refine_affine(head, moving, np.eye(4)).matrix for _ in range(2))
    assert np.array_equal(first, second)


def test_refinement_of_a_head_that_is_not_there_is_not_converged(head):
    far = np.eye(4)
    far[:3, 3] = 400.0
    assert not registration.refine_affine(head, head, far).converged


def test_noise_is_reported_as_not_converged(head):
    noise = np.random.default_rng(5).normal(size=head.data.shape).astype(np.float32)
    found = registration.register_affine(head, Volume(noise, head.affine))
    assert not found.converged
    assert "expected" in found.reason


@pytest.mark.parametrize("dof", [0, 7, 9])
def test_wrong_dof_is_refused(head, dof):
    with pytest.raises(InputError, match=f"received {dof}"):
        registration.register_affine(head, head, dof=dof)


def test_wrong_shaped_weight_is_refused(head):
    with pytest.raises(InputError, match="shape"):
        registration.register_affine(head, head, weight=np.ones((3, 4, 5), bool))


def test_resample_by_identity_returns_the_same_values(head):
    assert np.array_equal(resampling.resample(head, head.grid, order=0), head.data)


def test_resample_follows_world_coordinates():
    data = np.zeros((7, 8, 9), np.float32)
    data[3, 4, 5] = 1.0
    flipped = Grid((7, 8, 9), np.diag([-1.0, 1, 1, 1]) + np.array([[0, 0, 0, 6.0]] + [[0] * 4] * 3))
    out = resampling.resample(Volume(data, np.eye(4)), flipped, order=0)
    assert np.argwhere(out == 1.0).tolist() == [[3, 4, 5]]
    shifted = np.eye(4)
    shifted[0, 3] = 2.0
    out = resampling.resample(Volume(data, np.eye(4)), Grid((7, 8, 9), np.eye(4)), shifted, order=0)
    assert np.argwhere(out == 1.0).tolist() == [[1, 4, 5]]


def test_deformable_undoes_a_smooth_deformation(head):
    small = resampling.block_mean(head, 4.0)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in small.data.shape], indexing="ij"), axis=-1)
    bump = 6.0 * np.exp(-((index - np.array(small.data.shape) / 2) ** 2).sum(axis=-1) / 100.0)
    field = np.zeros((*small.data.shape, 3), np.float32)
    field[..., 1] = bump
    bent = resampling.resample(small, small.grid, resampling.Warp(field, small.grid, np.eye(4)))
    warp = registration.register_deformable(Volume(bent, small.affine), small, np.eye(4))
    restored = resampling.resample(small, small.grid, warp)
    assert np.abs(restored - bent).mean() < 0.5 * np.abs(small.data - bent).mean()


def test_missing_data_package_says_what_to_install():
    with pytest.raises(FileNotFoundError, match="pip install no_such_package"):
        templates.data_file("no_such_package", "x.nii.gz")


def test_discriminating_voxels_decide_between_rival_poses(head, monkeypatch):
    """A pose that the whole image likes a little better loses when what cannot have been removed contradicts it."""
    moving, truth = moved_copy(head, 10, 5, 6)
    on_its_back = np.eye(4)
    on_its_back[:3, :3] = Rotation.from_euler("x", -80, degrees=True).as_matrix()
    monkeypatch.setattr(registration, "initial_poses", lambda pair: [truth @ on_its_back, truth])
    upper = np.zeros(head.data.shape, bool)
    upper[:, :, head.data.shape[2] // 2 :] = True
    found = registration.register_affine(head, moving, discriminating_mask=upper)
    assert pose_search.rms_distance_mm(found.matrix, truth, brain_points()) < 2.0


def test_nearly_equal_poses_count_once(head):
    pair = pose_search.ImagePair.prepare(head, head, None, 8.0)
    near, far = np.eye(4), np.eye(4)
    near[0, 3], far[0, 3] = 5.0, 60.0
    assert len(pose_search.different([np.eye(4), near, far], pair)) == 2


def test_a_turned_head_is_averaged_over_the_same_blocks():
    data = np.random.default_rng(0).random((31, 42, 53), dtype=np.float32)
    straight = np.diag([2.0, 2.0, 2.0, 1.0])
    turned = phantom.rotation(20.0) @ straight
    assert not np.array_equal(Volume(data, turned).grid.spacing_mm, [2, 2, 2]), "the rounding errors must be there"
    a, b = resampling.block_mean(Volume(data, straight), 5.0), resampling.block_mean(Volume(data, turned), 5.0)
    assert np.array_equal(a.data, b.data)
