"""reshape on average heads under random deformations: another face for each seed, and a known target."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
from efface import defacing
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_shape import skin_distance
from efface.anatomy.skin import GRID_MM, skin_threshold, smoothed
from efface.defacing import (
    apply_edit,
    protected_region,
    reshape,
    reshape_checks,
    reshape_skin,
    reshape_target,
    reshape_tissue,
)
from efface.defacing.reshape import Params
from efface.errors import AnatomyError, RegistrationError
from efface.io.scan import load_scan
from efface.spatial.affine import apply_affine
from efface.spatial.registration import AffineResult
from efface.spatial.shape_registration import volume_ratio
from efface.spatial.types import Volume

MM = 3.0
FRAME = reshape_target.FRAME


@pytest.fixture(scope="module", autouse=True)
def _coarser_frame():
    """Voxels of 4 mm instead of 2 mm: an eighth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reshape_target, "FRAME", halved(reshape_target.FRAME))
        patch.setattr(reshape, "SIGMAS_MM", (8.0,) * 6 + (4.0,) * 6)
        yield


def halved(grid):
    x, y, z = ((n + 1) // 2 for n in grid.shape)
    return type(grid)((x, y, z), grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))


def person(seed, mm=MM):
    return average_head.anatomy(average_head.person(seed, mm, rms_mm=3.0).data, mm)


@pytest.fixture(scope="module")
def anatomy():
    return person(3)


@pytest.fixture(scope="module")
def shapes(anatomy):
    return reshape_target.find_shapes(anatomy, 1.0, (3.0, 11.0))


@pytest.fixture(scope="module")
def displacement(shapes):
    return reshape.fitted(shapes)


@pytest.fixture(scope="module")
def edit(anatomy):
    return reshape.plan(anatomy, Params())


def off_average_mm(anatomy, data):
    """How far the skin of a face is off the average one, in the pose that fits, mm, at points of the face."""
    smooth, threshold = smoothed(Volume(data, anatomy.scan.affine), GRID_MM), skin_threshold(anatomy.image)
    pose = reshape_target.face_pose(smooth, threshold, anatomy.average_to_scan)
    own = skin_distance(smooth, threshold, reshape_target.FRAME, pose)
    average = reshape_target.average_shape()
    at = (np.abs(average) < 2) & reshape_target.core()
    return own[at] - average[at]


# What changes


@dataclass(frozen=True, eq=False)
class Reshaped:
    """A person at 2 mm, in the frame that is used: how far the skin is off the average one, and volumes after."""

    off_before: np.ndarray
    off_after: np.ndarray
    kept: dict[str, float]
    deep: np.ndarray


@pytest.fixture(scope="module")
def reshaped():
    """Two people."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reshape_target, "FRAME", FRAME)
        people = []
        for seed in (3, 8):
            anatomy = person(seed, 2.0)
            displacement = reshape.fitted(reshape_target.find_shapes(anatomy, 1.0, (3.0, 11.0)))
            with pytest.MonkeyPatch.context() as known:
                known.setattr(reshape, "fitted", lambda _, found=displacement: found)  # not to find it twice
                after = apply_edit(anatomy.scan, reshape.plan(anatomy, Params())).data
            off = [off_average_mm(anatomy, data) for data in (anatomy.scan.data, after)]
            ratio = volume_ratio(displacement, 2.0)
            kept = {name: mask.sum() / ratio[mask].sum() for name, mask in reshape_tissue.tissues().items()}
            people.append(Reshaped(*off, kept, 1 / ratio[deep_in_the_face()]))
    return people


def deep_in_the_face():
    """More than 8 mm below the average skin, between brow and chin."""
    x, y, z = reshape_target.frame_mm()
    return (reshape_target.average_shape() > 8) & (y > 10) & (z < -5) & (z > -115) & (np.abs(x) < 65)


def test_everybody_gets_the_average_face(reshaped):
    for one in reshaped:
        assert np.median(np.abs(one.off_before)) > 1.2
        assert np.median(np.abs(one.off_after)) < 0.4, "smoothing takes some of the tips, of everybody"
        assert np.percentile(np.abs(one.off_after), 90) < 1.0


def test_two_people_look_alike_afterwards(reshaped):
    one, other = reshaped
    assert np.median(np.abs(one.off_before - other.off_before)) > 1.2
    assert np.median(np.abs(one.off_after - other.off_after)) < 0.15
    assert np.percentile(np.abs(one.off_after - other.off_after), 90) < 0.4


def test_what_lies_below_the_face_keeps_its_volume(reshaped):
    for one in reshaped:
        assert set(one.kept) == {"orbit", "tongue", "jaw", "airway"}
        assert all(share == pytest.approx(1, abs=0.05) for share in one.kept.values()), one.kept
        assert np.percentile(one.deep, 5) > 0.85, "all that lies deep, voxel by voxel"
        assert np.percentile(one.deep, 95) < 1.15


@pytest.mark.parametrize("margin_mm", [0.0, 3.0, 10.0])
def test_nothing_near_the_brain_moves(anatomy, margin_mm):
    edit = reshape.plan(anatomy, Params(margin_mm=margin_mm))
    assert anatomy.brain_distance_mm[edit.mask].min() > margin_mm
    after = apply_edit(anatomy.scan, edit).data
    near = anatomy.brain_distance_mm <= margin_mm
    assert np.array_equal(after[near], anatomy.scan.data[near])


def test_protection_takes_out_what_a_margin_of_0_lets_in():
    anatomy = average_head.anatomy(mm=2.0)
    region = protected_region(anatomy)
    free = reshape.plan(anatomy, Params(margin_mm=0.0)).mask
    assert (free & region).any()
    safe = defacing.plan(anatomy, "reshape", {"margin_mm": 0.0})
    assert not (safe.mask & region).any()
    assert safe.protected_voxels > 0


def test_the_displacement_does_not_fold(shapes, displacement):
    assert volume_ratio(displacement, float(shapes.grid.spacing_mm[0])).min() >= 0.2


def test_the_back_of_the_head_stays(anatomy, edit):
    back = anatomy.head.copy()
    back[:, anatomy.scan.shape[1] // 4 :] = False
    assert back.sum() > 10_000
    assert not (edit.mask & back).any()


def test_tissue_is_moved_and_not_replaced(anatomy, edit):
    """A bright marker in the tongue is found again, near its place, with its size and brightness."""
    marked = np.array(anatomy.scan.data)
    at = np.moveaxis(np.indices(marked.shape), 0, -1) @ anatomy.scan.affine[:3, :3].T + anatomy.scan.affine[:3, 3]
    tongue = np.linalg.norm(at - [0.0, 60.0, -88.0], axis=-1) < 12
    marked[tongue] += 150
    head = average_head.anatomy(marked)
    head.__dict__["background"] = anatomy.background
    after = apply_edit(head.scan, reshape.plan(head, Params())).data - apply_edit(anatomy.scan, edit).data
    found = after > 75
    assert found.sum() == pytest.approx(tongue.sum(), rel=0.15)
    assert np.linalg.norm(at[found].mean(axis=0) - at[tongue].mean(axis=0)) < 8, "as far as a chin moves"
    assert np.median(after[found]) == pytest.approx(150, rel=0.1)


def face_front(shapes, scan):
    """Voxels of a scan between the sides of the face, forehead and chin, in front of the ears."""
    at = apply_affine(np.linalg.inv(shapes.to_scan) @ scan.affine, np.moveaxis(np.indices(scan.shape), 0, -1))
    return (at[..., 1] > 40) & (np.abs(at[..., 0]) < 45) & (at[..., 2] > -110) & (at[..., 2] < 0)


def test_air_in_front_of_the_new_face_stays_air(anatomy, edit, shapes):
    after = apply_edit(anatomy.scan, edit).data
    depth, _ = skin_depth(shapes, anatomy.scan)
    front = face_front(shapes, anatomy.scan) & (depth < -4.0)
    assert front.sum() > 1000
    assert (after[front] <= np.ceil(shapes.threshold)).all()  # stored as whole numbers
    inside = ndimage.binary_dilation(after > shapes.threshold, iterations=1)
    labels, _ = ndimage.label(inside)
    assert (np.bincount(labels.ravel())[1:] > 20).sum() == 1, "nothing hangs in the air"


# The new skin


def skin_depth(shapes, scan):
    """Depth below the wanted skin at the voxels of a scan, mm, and where the skin is made new alone."""
    matrix = np.linalg.inv(shapes.grid.affine) @ np.linalg.inv(shapes.to_scan) @ scan.affine
    depth, share = (
        ndimage.affine_transform(part, matrix[:3, :3], matrix[:3, 3], scan.shape, order=1, mode="constant")
        for part in (shapes.wanted, shapes.new_skin)
    )
    return depth, share > 0.98


def test_the_new_skin_is_even_and_begins_at_the_wanted_surface(anatomy, edit, shapes):
    after = apply_edit(anatomy.scan, edit).data
    depth, new = skin_depth(shapes, anatomy.scan)
    just_inside, outside = new & (depth > 1.9) & (depth < 2.4), new & (depth < -2.0)
    assert just_inside.sum() > 300
    assert np.median(after[just_inside]) == pytest.approx(2 * shapes.threshold, rel=0.05)
    assert (after[outside] < shapes.threshold + 1).all(), "but for rounding"
    near = new & (np.abs(depth) < 0.15)
    assert np.median(after[near]) == pytest.approx(shapes.threshold, rel=0.15)


def test_the_new_skin_shows_nothing_of_the_brightness_that_was_there(anatomy, shapes):
    depth, new = skin_depth(shapes, anatomy.scan)
    layer = new & (depth > 0.5) & (depth < reshape_skin.EVEN_MM)
    pulled = np.array(anatomy.scan.data)
    pulled[layer] *= np.where(np.indices(pulled.shape)[0] % 2, 3, 0)[layer]
    mask, values = reshape_skin.renewed(anatomy, shapes, pulled, 3.0)
    after = pulled.copy()
    after[mask] = values
    assert mask[layer].all()
    assert after[layer].std() < 0.25 * pulled[layer].std()


def test_what_sticks_out_of_the_new_face_becomes_air(anatomy, shapes):
    depth, new = skin_depth(shapes, anatomy.scan)
    far = new & (depth < -8.0) & (depth > -16.0)
    pulled = np.array(anatomy.scan.data)
    pulled[far] = 200
    mask, values = reshape_skin.renewed(anatomy, shapes, pulled, 3.0)
    after = pulled.copy()
    after[mask] = values
    assert far.sum() > 500
    assert (after[far] < shapes.threshold).all()


def test_the_noise_of_the_skin_is_that_of_the_scan_and_not_its_texture():
    rng = np.random.default_rng(0)
    data = np.zeros((60, 60, 60))
    data[5:-5, 5:-5, 5:-5] = 100
    data[15:45, 15:45, 15:45][:, ::8] += 80  # gyri
    data[15:45, 15:45, 15:45][::10] -= 40
    brain = np.zeros(data.shape, dtype=np.bool_)
    brain[12:48, 12:48, 12:48] = True
    for sigma in (1.0, 6.0):
        scan = load_scan(nib.Nifti1Image((data + sigma * rng.standard_normal(data.shape)).astype(np.float32), np.eye(4)))
        assert 0.6 * sigma < reshape_skin._noise(HeadAnatomy(scan, brain=brain)) < 1.1 * sigma


# Strength


def test_a_strength_of_0_changes_nothing(anatomy):
    edit = defacing.plan(anatomy, "reshape", {"strength": 0})
    assert np.array_equal(apply_edit(anatomy.scan, edit).stored, anatomy.scan.stored)
    assert any("nothing was changed" in warning for warning in edit.warnings)
    assert edit.leaves_face


def test_a_higher_strength_goes_further(anatomy, edit):
    half = reshape.plan(anatomy, Params(strength=0.5))
    assert half.leaves_face
    assert not edit.leaves_face
    assert any("strength is 0.5: a part of the person's face is left" in warning for warning in half.warnings)
    before, between, after = (
        np.median(np.abs(off_average_mm(anatomy, data)))
        for data in (
            anatomy.scan.data,
            apply_edit(anatomy.scan, half).data,
            apply_edit(anatomy.scan, edit).data,
        )
    )
    assert before > 1.2 * between > 1.2 * 1.2 * after


# The same for the same head


def test_the_same_scan_gets_the_same_values(edit):
    again = reshape.plan(person(3), Params())
    assert np.array_equal(again.mask, edit.mask)
    assert np.array_equal(again.values, edit.values)


@pytest.mark.parametrize(("own_mm", "expected_mm"), [(24.0, 24.0), (28.0, 28.0), (50.0, 31.0)])
def test_the_skin_is_not_moved_where_there_is_no_room_before_the_brain(own_mm, expected_mm):
    """A brain with a radius of 20 mm, and a wanted head that is hardly larger."""
    mm = float(reshape_target.FRAME.spacing_mm[0])
    index = np.indices((41, 41, 41)) - 20
    radius = mm * np.sqrt(np.square(index).sum(axis=0))
    wanted = reshape_target._with_room(22.0 - radius, own_mm - radius, np.maximum(radius - 20.0, 0))
    along = wanted[20, 20, 20:]
    assert np.interp(0, -along, radius[20, 20, 20:]) == pytest.approx(expected_mm, abs=1.5)
    far = reshape_target._with_room(60.0 - radius, own_mm - radius, np.maximum(radius - 20.0, 0))
    assert np.array_equal(far, (60.0 - radius).astype(np.float32)), "where there is room, it is what was wanted"


def test_the_pose_is_found_again_from_a_start_that_is_off(anatomy):
    turn = np.eye(4)
    turn[:3, 3] = (2.0, -3.0, 3.0)
    smooth, threshold = smoothed(anatomy.image, GRID_MM), skin_threshold(anatomy.image)
    straight, off = (reshape_target.face_pose(smooth, threshold, start) for start in (np.eye(4), turn))
    points = np.array([[0.0, 100, -60, 1], [50, 60, -30, 1], [-50, 60, -100, 1]])
    assert np.linalg.norm((points @ (straight - off).T)[:, :3], axis=1).max() < 1.0


def test_the_rigid_part_of_a_rotation_is_itself():
    turn = np.array([[0.0, -1, 0, 4], [1, 0, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]])
    np.testing.assert_allclose(reshape_target.rigid_part(turn), turn, atol=1e-12)
    stretched = turn @ np.diag([1.1, 0.9, 1.0, 1.0])
    np.testing.assert_allclose(reshape_target.rigid_part(stretched)[:3, :3], turn[:3, :3], atol=1e-12)


# Refusals


def without_face(anatomy, y_mm):
    data = np.array(anatomy.scan.data)
    first = int(np.ceil((y_mm - anatomy.scan.affine[1, 3]) / anatomy.scan.affine[1, 1]))
    data[:, first:, : data.shape[2] // 2] = 0
    return average_head.anatomy(data)


def test_a_face_that_is_gone_is_refused(anatomy):
    with pytest.raises(AnatomyError, match=r"behind an average one; .*defaced before, .*; take --method pydeface"):
        reshape.plan(without_face(anatomy, 70.0), Params())


def test_a_face_that_is_cut_by_the_border_is_refused(anatomy):
    end = int((102.0 - anatomy.scan.affine[1, 3]) / anatomy.scan.affine[1, 1])
    cut = load_scan(nib.Nifti1Image(anatomy.scan.data[:, :end].astype(np.int16), anatomy.scan.affine))
    head = HeadAnatomy(cut, anatomy.brain[:, :end], registration=average_head.IN_PLACE)
    with pytest.raises(AnatomyError, match=r"of the face lies at the border of the image; .*take --method pydeface"):
        reshape.plan(head, Params())


def test_a_fit_that_leaves_the_own_face_is_refused(shapes, displacement):
    with pytest.raises(RegistrationError, match=r"mm off the average one .*take --method pydeface"):
        reshape_checks.refuse_misfit(shapes, 0 * displacement)


def test_a_displacement_that_folds_is_refused(shapes, displacement):
    torn = displacement.copy()
    torn[20, 20, 20] = 40.0
    with pytest.raises(RegistrationError, match=r"folds .*take --method pydeface"):
        reshape_checks.refuse_misfit(shapes, torn)


def test_the_average_head_must_be_found(anatomy):
    lost = average_head.anatomy(
        registration=AffineResult(np.eye(4), 0.1, converged=False, reason="the score is 0.1", dof=12, starts=1)
    )
    with pytest.raises(RegistrationError, match=r"the score is 0\.1"):
        reshape.plan(lost, Params())
