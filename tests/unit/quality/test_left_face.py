"""Faces that are left are found in the image alone; what cannot be judged is not called clean."""

import functools

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import apply_edit, plan
from efface.io.scan import load_scan
from efface.quality.face_parts import PARTS, in_view
from efface.quality.left_face import FaceAnswer, find_face_in_mask, find_left_face, part_scores
from efface.quality.relief import find_relief, x_mm, z_mm
from efface.quality.relief_network import MIRRORED, part_logits
from efface.quality.scan_pose import ScanPose
from efface.spatial.affine import apply_affine
from efface.spatial.registration import AffineResult
from efface.spatial.resampling import resample

LOST = AffineResult(np.eye(4), 0.1, converged=False, reason="correlation is 0.10", dof=12, starts=1)


@functools.cache
def person():
    """A virtual person whose place is known."""
    return average_head.anatomy(average_head.person(1).data)


@functools.cache
def defaced(method):
    """That person's scan, defaced."""
    return apply_edit(person().scan, plan(person(), method, {}))


def found_in(scan, registration=average_head.IN_PLACE):
    return find_left_face(HeadAnatomy(scan, registration=registration))


def like(scan, data):
    return load_scan(nib.Nifti1Image(data.astype(np.int16), scan.affine))


def test_a_whole_face_is_a_face():
    found = find_left_face(person())
    assert found.answer is FaceAnswer.FACE
    assert {"nose", "mouth"} <= set(found.features)
    assert found.score > 0.9
    assert not found.is_clean


@pytest.mark.parametrize("method", ["quickshear", "pydeface", "mri_deface", "fsl_deface"])
def test_a_defaced_head_is_no_face(method):
    found = found_in(defaced(method))
    assert (found.answer, found.features) == (FaceAnswer.NO_FACE, ())
    assert found.is_clean


@pytest.mark.parametrize("part", ["nose", "mouth"])
def test_one_part_that_is_left_is_a_face(part):
    scan, cut = person().scan, defaced("quickshear")
    low_x, high_x, low_z, high_z = PARTS[part]
    x, y, z = np.moveaxis(apply_affine(scan.affine, np.moveaxis(np.indices(scan.shape), 0, -1)), -1, 0)
    place = (x > low_x) & (x < high_x) & (z > low_z) & (z < high_z) & (y > 30)
    found = found_in(like(scan, np.where(place, scan.data, cut.data)))
    assert found.answer is FaceAnswer.FACE
    assert part in found.features


def test_half_a_face_is_a_face_on_its_side():
    scan, cut = person().scan, defaced("pydeface")
    x = apply_affine(scan.affine, np.moveaxis(np.indices(scan.shape), 0, -1))[..., 0]
    found = found_in(like(scan, np.where(x > 0, scan.data, cut.data)))
    assert found.answer is FaceAnswer.FACE
    assert "left eye" not in found.features


def with_average_face(move_mm=0.0):
    """Even tissue with the surface of the average face, bent by a wave of so many mm; its brain has texture."""
    head, brain = templates.prior("head"), templates.prior("brain")
    x, y, z = np.indices(head.data.shape)
    moved = y - move_mm / 2.0 * np.sin(x / 4.0) * np.sin(z / 4.0)
    data = 400 * ndimage.map_coordinates(head.data, [x, moved, z], order=1)
    data = np.where(brain.data > 0.5, 300 + 60 * np.random.default_rng(5).standard_normal(data.shape), data)
    return load_scan(nib.Nifti1Image(data.astype(np.int16), head.affine))


def test_a_smooth_face_with_the_surface_of_the_average_one_is_the_average_face():
    found = found_in(with_average_face())
    assert found.answer is FaceAnswer.AVERAGE_FACE
    assert found.is_clean


def test_a_smooth_face_with_another_surface_is_a_face():
    assert found_in(with_average_face(4.0)).answer is FaceAnswer.FACE


def test_an_average_surface_over_real_tissue_is_not_the_average_face():
    scan = with_average_face()
    rough = scan.data.copy()
    rough[:, 95:] *= 1 + 0.3 * np.random.default_rng(6).standard_normal(rough[:, 95:].shape)  # in front of y = 50 mm
    assert found_in(like(scan, rough)).answer is FaceAnswer.FACE


def test_a_face_outside_the_field_of_view_is_no_face():
    scan = person().scan
    cut = scan.data[:, : int(np.searchsorted(scan.affine[1, 3] + scan.affine[1, 1] * np.arange(scan.shape[1]), 55.0))]
    found = found_in(load_scan(nib.Nifti1Image(cut.astype(np.int16), scan.affine)))
    assert found.answer is FaceAnswer.NO_FACE
    assert "field of view" in found.reason


def test_a_head_whose_pose_is_not_known_cannot_be_told_to_be_clean():
    rng = np.random.default_rng(3)
    noise = load_scan(nib.Nifti1Image(rng.normal(100, 20, (50, 56, 53)).astype(np.float32), np.diag([3.0, 3, 3, 1])))
    found = found_in(noise, LOST)
    assert found.answer is FaceAnswer.CANNOT_TELL
    assert not found.is_clean
    assert "correlation" in found.reason


def test_a_brain_without_its_head_is_no_face():
    whole = average_head.volume()
    brain = resample(templates.prior("brain"), whole.grid) > 0.5
    scan = load_scan(nib.Nifti1Image(np.where(brain, whole.data, 0).astype(np.int16), whole.affine))
    found = find_left_face(HeadAnatomy(scan, brain=brain))
    assert found.answer is FaceAnswer.NO_FACE
    assert "brain" in found.reason


def test_the_relief_of_a_plane_is_where_the_plane_is():
    grid = average_head.volume()
    y = grid.affine[1, 3] + np.arange(grid.data.shape[1]) * grid.affine[1, 1]
    wall = np.broadcast_to(np.clip((60 - y) / 3 + 0.5, 0, 1)[:, None] * 200, grid.data.shape).astype(np.float32)
    straight = np.diag(np.diag(grid.affine))
    straight[:3, 3] = grid.affine[:3, 3]
    relief = find_relief(type(grid)(wall, straight), np.eye(4), 100.0)
    middle = relief.depth[np.abs(x_mm()) < 40][:, np.abs(z_mm() + 50) < 30]
    np.testing.assert_allclose(middle, 60.0, atol=1.0)


def test_a_mirrored_head_has_mirrored_scores():
    relief = find_relief(person().image, np.eye(4), 300.0)
    straight, mirrored = part_logits(np.stack([relief.depth, relief.depth[:, ::1][::-1]]))
    np.testing.assert_allclose(mirrored, straight[MIRRORED], atol=1e-4)


def test_parts_out_of_view_have_no_score():
    data = person().image.data.copy()[:, :, 20:]  # the image ends below the eyes
    affine = person().image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 20
    relief = find_relief(type(person().image)(data, affine), np.eye(4), 300.0)
    assert in_view(relief, "mouth") < 0.5
    assert "mouth" not in part_scores(relief)


@pytest.mark.parametrize("method", ["quickshear", "pydeface", "mri_deface", "fsl_deface", "defacer"])
def test_no_face_is_read_off_the_mask_of_an_edit(method):
    mask = plan(person(), method, {}).mask
    found = find_face_in_mask(mask, HeadAnatomy(defaced(method), registration=average_head.IN_PLACE))
    assert (found.answer, found.features) == (FaceAnswer.NO_FACE, ())


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("kind", ["head", "face", "air before the face"])
def test_a_mask_that_follows_the_skin_is_a_face(kind, inverted):
    head, cut = person().head, plan(person(), "pydeface", {}).mask
    mask = {"head": head, "face": head & cut, "air before the face": cut & ~head}[kind]
    found = find_face_in_mask(mask ^ inverted, HeadAnatomy(defaced("pydeface"), registration=average_head.IN_PLACE))
    assert found.answer is FaceAnswer.FACE
    assert {"nose", "mouth"} <= set(found.features)
    assert "follows the skin" in found.reason


def test_of_a_mask_whose_image_cannot_be_placed_nothing_is_said(monkeypatch):
    monkeypatch.setattr("efface.quality.left_face.pose_of", lambda _: ScanPose(np.eye(4), "it turned over"))
    found = find_face_in_mask(person().head, person())
    assert found.answer is FaceAnswer.CANNOT_TELL
    assert not found.is_clean
