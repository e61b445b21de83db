"""The space half-way between two sessions: halves of a move, a grid in the middle, and both images treated alike."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

import phantom
from efface.io.scan import load_scan
from efface.spatial.affine import apply_affine, invert
from efface.spatial.resampling import resample
from efface.spatial.types import Grid
from efface.study.halfway_space import half_of, halfway_space


def rigid(degrees, axis=(1, 0, 0), shift=(0, 0, 0)):
    matrix = np.eye(4)
    unit = np.array(axis) / np.linalg.norm(axis)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * unit).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def grid(shape=(40, 44, 36), spacing=(2.0, 2.0, 2.0), turn=None, origin=(-40, -44, -36)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, (np.eye(4) if turn is None else turn) @ affine)


MOVES = [rigid(0), rigid(0, shift=(3, -2, 1)), rigid(8, (1, 2, -1), (4, 0, -6)), rigid(70, (0, 0, 1), (10, 5, 0))]


@pytest.mark.parametrize("move", MOVES)
def test_two_halves_make_the_whole(move):
    half = half_of(move)
    np.testing.assert_allclose(half @ half, move, atol=1e-9)
    np.testing.assert_allclose(half[:3, :3] @ half[:3, :3].T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("other", [grid(), grid(origin=(-41.3, -44.6, -35.1)), grid(turn=rigid(12, (0, 1, 1)))])
def test_a_voxel_is_as_far_from_one_session_as_from_the_other(move, other):
    first = grid()
    space = halfway_space(first, other, move)
    np.testing.assert_allclose(space.to_first @ space.to_second, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(space.to_second @ invert(space.to_first), move, atol=1e-9)
    in_first = invert(first.affine) @ space.to_first @ space.grid.affine
    in_second = invert(other.affine) @ space.to_second @ space.grid.affine
    assert space.grid.shape == first.shape
    # Both from the centre of the grid, whose axes are those of the first session here.
    centre = np.eye(4)
    centre[:3, 3] = (np.array(first.shape) - 1) / 2
    maps = [invert(centre) @ found @ centre for found in (in_first, in_second)]
    np.testing.assert_allclose(maps[0] @ maps[1], np.eye(4), atol=1e-9)


def test_voxels_of_two_sizes_meet_in_the_middle():
    space = halfway_space(grid((80, 88, 72), (1, 1, 1)), grid((40, 44, 18), (2, 2, 4)), rigid(5))
    np.testing.assert_allclose(space.grid.spacing_mm, [2**0.5, 2**0.5, 2])
    covered = space.grid.spacing_mm * space.grid.shape
    assert (covered >= [80, 88, 72]).all()
    assert (covered < np.array([80, 88, 72]) + space.grid.spacing_mm).all()


def test_axes_are_those_of_a_loaded_scan_however_the_head_lies():
    oblique = grid(turn=rigid(44, (0, 0, 1)))
    space = halfway_space(oblique, oblique, rigid(20, (0, 0, 1)))
    image = nib.Nifti1Image(np.arange(np.prod(space.grid.shape), dtype=np.float32).reshape(space.grid.shape), np.eye(4))
    image.set_sform(space.grid.affine, 1)
    scan = load_scan(image)
    np.testing.assert_allclose(scan.affine, space.grid.affine, atol=1e-4)
    np.testing.assert_array_equal(scan.data, image.get_fdata())


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halfway")
    sharp = load_scan(phantom.write(folder / "a.nii.gz", "RAS").path)
    sharp.save_like(ndimage.gaussian_filter(sharp.data, 1.0), folder / "soft.nii.gz")  # noise would hide all else
    return load_scan(folder / "soft.nii.gz")


def test_a_moved_session_is_the_same_there_and_as_smooth(session, tmp_path):
    """The second session is made by a spline that hardly smooths: half-way, neither is smoother than the other."""
    move = rigid(4.0, (1, -1, 2), (2.0, -1.5, 1.0))  # first mm to second mm
    session.save_like(resample(session.volume, session.grid, invert(move), order=5), tmp_path / "second.nii.gz")
    second = load_scan(tmp_path / "second.nii.gz")
    space = halfway_space(session.grid, second.grid, move)
    one, two = space.first(session), space.second(second)
    assert one.shape == two.shape == space.grid.shape
    brain = resample(session.volume, space.grid, space.to_first, order=0) > 0
    off = np.abs(one.data - two.data)[brain].mean()
    apart = np.abs(session.data - second.data).mean()
    assert off < 0.5 * apart

    def roughness(data):
        return float(np.mean([np.diff(data, 2, axis=axis).std() for axis in range(3)]))

    assert 0.95 < roughness(one.data) / roughness(two.data) < 1.05
    one_sided = resample(second.volume, session.grid, move)
    assert roughness(one_sided) / roughness(session.data) < 0.95, "the paper's way smooths one of the two"


def test_the_control_shows_the_first_session_in_its_place(session):
    space = halfway_space(session.grid, session.grid, rigid(6.0, (0, 1, 1), (5, 4, 0)))
    one, control = space.first(session), space.control(session)
    assert control.sha256 != one.sha256
    assert space.control(session).sha256 == control.sha256
    wrong = resample(session.volume, space.grid, np.eye(4))
    off = [np.abs(data - one.data).mean() for data in (control.data, wrong)]
    assert off[0] < 0.6 * off[1]
    assert control.data.min() >= session.data.min()
    assert control.data.max() <= session.data.max()
    centre = apply_affine(space.to_first, np.array([[0.0, 0, 0]]))
    assert np.linalg.norm(centre) > 0.3, "half of the move"
