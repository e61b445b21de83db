"""Rays find the outer surface where it is, its normals, and no skin where the image ends."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from efface.privacy.skin_points import find_skin
from efface.spatial.types import Volume

RADII = np.array([60.0, 80.0, 70.0])
CENTRE = np.array([5.0, -10.0, -4.0])


def ellipsoid(turn=None, spacing=(2.0, 2.5, 3.0), reach=110.0, front=None):
    """An ellipsoid of 100, upright at `CENTRE`, in a scan turned by a rotation; cut off by the border at `front` mm."""
    turn = np.eye(3) if turn is None else turn
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)
    affine[:3, 3] = -reach
    shape = [int(2 * reach / step) for step in spacing]
    if front is not None:
        shape[1] = int((front + reach) / spacing[1])
    index = np.moveaxis(np.indices(shape), 0, -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    upright = world @ turn  # the inverse of a rotation
    inside = (((upright - CENTRE) / RADII) ** 2).sum(axis=-1)
    data = np.clip((1.03 - np.sqrt(inside)) * 20, 0, 1) * 100  # a soft edge, half-way at the surface
    pose = np.eye(4)
    pose[:3, :3] = turn
    return Volume(data.astype(np.float32), affine), pose


TURNED = Rotation.from_euler("zx", [20, -12], degrees=True).as_matrix()


@pytest.mark.parametrize("turn", [np.eye(3), TURNED], ids=["straight", "turned"])
def test_points_lie_on_the_surface_and_normals_point_outward(turn):
    volume, pose = ellipsoid(turn)
    skin = find_skin(volume, pose, 50.0)
    around = (skin.points - CENTRE) / RADII
    far = (np.linalg.norm(around, axis=1) - 1) * 70
    assert np.abs(far).mean() < 1.0
    assert np.abs(far).max() < 4.0
    expected = around / RADII
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (skin.normals * expected).sum(axis=1).min() > 0.9
    assert len(skin) > 3000


def test_only_the_front_is_met_from_the_front():
    volume, pose = ellipsoid()
    skin = find_skin(volume, pose, 50.0)
    assert skin.points[skin.from_front][:, 1].min() > CENTRE[1]
    assert (skin.normals[skin.from_front][:, 1] > 0).all()


def test_tissue_cut_by_the_border_is_no_skin():
    volume, pose = ellipsoid(front=40.0)
    skin = find_skin(volume, pose, 50.0)
    assert skin.points[:, 1].max() < 40.0
    flat = skin.from_front & (np.abs(skin.points[:, [0, 2]]) < 30).all(axis=1)
    assert not flat.any()


def test_specks_in_the_air_are_no_skin():
    volume, pose = ellipsoid()
    data = volume.data.copy()
    data[50:52, 80:82, 40:42] = 100.0
    np.testing.assert_array_equal(
        find_skin(Volume(data, volume.affine), pose, 50.0).points, find_skin(volume, pose, 50.0).points
    )
