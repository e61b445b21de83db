"""The shapes of the average head, and the priors that are made with them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import average_head
from efface.anatomy import templates
from efface.anatomy.head_mask import head_mask
from efface.anatomy.templates import FEATURE_LABELS, PRIOR_GRID
from efface.spatial.types import Grid
from efface.training import priors
from efface.training.landmarks import FEATURES, face_zone
from efface.training.priors import BRAIN_CLEARANCE_MM, Located, label_head, pinnae, removal_mask, save


@pytest.fixture(scope="module")
def located() -> Located:
    """The average head, each of its voxels where it is."""
    volume = average_head.volume(2.0)
    points = np.moveaxis(np.indices(volume.data.shape), 0, -1) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    head = head_mask(volume)
    return Located(volume, head, np.zeros_like(head), points, np.eye(4))


@pytest.fixture(scope="module")
def labelled(located):
    return label_head(located, "average")


# Shapes


def test_features_agree_with_the_shapes_they_were_drawn_from():
    labels = templates.prior("features")
    for name, shapes in FEATURES.items():
        index = np.argwhere(labels.data == FEATURE_LABELS[name])
        points = index @ labels.affine[:3, :3].T + labels.affine[:3, 3]
        inside = np.any([shape.contains(points) for shape in shapes], axis=0)
        assert inside.mean() > 0.6, name


def test_the_face_zone_is_in_front_and_below_the_brow():
    points = np.array([[1.0, 90, -60], [1.0, 90, 20], [1.0, -60, -60], [1.0, 90, -150]])
    assert face_zone(points).tolist() == [True, False, False, False]


# Labels of one head


@pytest.mark.parametrize("side", [-1, 1], ids=["left", "right"])
@pytest.mark.parametrize("name", ["ears", "eyes"])
def test_both_sides_of_the_average_head_are_labelled(labelled, side, name):
    there = (labelled.features == FEATURE_LABELS[name]) & (side * (labelled.points[..., 0] - 1) > 0)
    volume_ml = there.sum() * np.prod(labelled.volume.grid.spacing_mm) / 1000
    assert 5 < volume_ml < 40
    middle = labelled.points[there].mean(axis=0)
    expected = {"ears": (-80, -6, -47) if side < 0 else (70, -16, -48), "eyes": (side * 30, 76, -31)}[name]
    np.testing.assert_allclose(middle, expected, atol=6)


def test_ears_are_near_the_skin_and_eyes_are_whole(labelled):
    depth = ndimage.distance_transform_edt(labelled.head, sampling=labelled.volume.grid.spacing_mm)
    assert np.percentile(depth[labelled.features == FEATURE_LABELS["ears"]], 90) <= priors.EAR_DEPTH_MM
    assert depth[labelled.features == FEATURE_LABELS["eyes"]].max() > 15


def test_the_face_has_eyes_nose_and_mouth_but_no_ears(labelled):
    for name in ("eyes", "nose", "mouth"):
        assert labelled.face[labelled.features == FEATURE_LABELS[name]].all(), name
    assert labelled.face[labelled.features == FEATURE_LABELS["ears"]].mean() < 0.05


@pytest.mark.parametrize(("side", "kept"), [(4, False), (6, True)])
def test_a_sliver_at_the_edge_of_the_field_of_view_is_no_feature(located, side, kept):
    mouth = FEATURES["mouth"][0].contains(located.points) & located.head
    middle = np.rint(np.argwhere(mouth).mean(axis=0)).astype(int)
    left = np.zeros_like(mouth)
    left[tuple(slice(m - side // 2, m - side // 2 + side) for m in middle)] = True
    left_ml = (mouth & left).sum() * np.prod(located.volume.grid.spacing_mm) / 1000
    assert left_ml > 0
    assert (left_ml >= priors.LEAST_ML) == kept
    found = label_head(replace(located, head=located.head & (~mouth | left)), "cut")
    assert (found.features == FEATURE_LABELS["mouth"]).any() == kept
    assert (found.features == FEATURE_LABELS["nose"]).any()


def test_what_stands_out_is_ear_and_nose_not_brow(located):
    standing_out = pinnae(located.volume, located.head)
    for point, expected in (((-85, -20, -45), True), ((0, 40, 60), False), ((-30, 0, 20), False)):
        near = np.linalg.norm(located.points - point, axis=-1) < 8
        assert standing_out[near].any() == expected, point


def test_a_located_head_is_read_back_as_it_was_written(located, tmp_path):
    located.save(tmp_path / "head.npz")
    again = Located.load(tmp_path / "head.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["head.npz"]
    for name in ("head", "brain", "points", "average_to_scan"):
        assert np.array_equal(getattr(again, name), getattr(located, name)), name
    assert np.array_equal(again.volume.data, located.volume.data)
    assert np.array_equal(again.volume.affine, located.volume.affine)


# Priors of all heads


def ball(centre_mm, radius_mm):
    x, y, z = (
        np.arange(n) * s + o
        for n, s, o in zip(PRIOR_GRID.shape, PRIOR_GRID.spacing_mm, PRIOR_GRID.affine[:3, 3], strict=True)
    )
    squares = (x[:, None, None] - centre_mm[0]) ** 2 + (y[:, None] - centre_mm[1]) ** 2 + (z - centre_mm[2]) ** 2
    return (squares <= radius_mm**2).astype(np.float32)


def test_what_is_removed_holds_face_and_ears_and_their_air_and_is_clear_of_the_brain():
    face, brain = ball((0, 80, -60), 30), ball((0, 30, -20), 55)
    ears = ball((-75, -20, -45), 12) + ball((75, -20, -45), 12)
    mask = removal_mask(face, ears, brain)
    from_brain = ndimage.distance_transform_edt(brain == 0, sampling=PRIOR_GRID.spacing_mm)
    assert (face * (brain > 0)).any(), "they must overlap"
    assert not mask[from_brain <= BRAIN_CLEARANCE_MM].any()
    clear = from_brain > BRAIN_CLEARANCE_MM
    assert mask[(face > 0) & clear].all()
    assert mask[(ears > 0) & clear].all()
    before, beside = ball((0, 122, -60), 4) > 0, ball((110, -20, -45), 4) > 0
    assert mask[before].all()
    assert mask[beside].all()
    assert not mask[ball((0, -20, -100), 20) > 0].any()
    assert not mask[ball((0, 160, -60), 5) > 0].any(), "air far before the face stays"


def test_splatting_conserves_weight_and_its_centre():
    rng = np.random.default_rng(4)
    points = rng.uniform(1, np.array(PRIOR_GRID.shape) - 2, (5, 6, 7, 3))
    weight = rng.random((5, 6, 7))
    total = priors._splat(points, weight)
    assert total.shape == PRIOR_GRID.shape
    assert total.sum() == pytest.approx(weight.sum())
    centre = [np.sum(total.sum(axis=tuple({0, 1, 2} - {a})) * np.arange(n)) for a, n in enumerate(PRIOR_GRID.shape)]
    np.testing.assert_allclose(centre, (points * weight[..., None]).sum(axis=(0, 1, 2)))


def test_a_point_on_a_voxel_stays_there_and_points_outside_are_left_out():
    points = np.array([[3.0, 4.0, 5.0], [-9.0, 4.0, 5.0], [3.0, 4.0, PRIOR_GRID.shape[2] + 1.0]])
    total = priors._splat(points, np.array([2.0, 1.0, 1.0]))
    assert np.argwhere(total).tolist() == [[3, 4, 5]]
    assert total[3, 4, 5] == pytest.approx(2)


def test_half_as_probable_as_usual_is_decided_on_each_side():
    probability = np.zeros((10, 3, 3), np.float32)
    probability[1], probability[2], probability[8] = 0.8, 0.3, 0.3
    assert np.flatnonzero(priors._where_usual(probability)[:, 0, 0]).tolist() == [1, 8]


def test_any_evidence_is_kept_in_bytes():
    assert priors._as_bytes(np.array([0, 0.0005, 0.0015, 0.5, 1.0])).tolist() == [0, 0, 1, 128, 255]


def test_priors_are_written_the_same_byte_for_byte(tmp_path, monkeypatch):
    values = {"brain": np.arange(60, dtype=np.uint8).reshape(3, 4, 5)}
    grid = Grid((3, 4, 5), PRIOR_GRID.affine)
    written = []
    for now, folder in ((1e9, "a"), (1.5e9, "b")):
        monkeypatch.setattr("time.time", lambda now=now: now)
        save(values, tmp_path / folder, grid)
        written.append((tmp_path / folder / "brain.nii.gz").read_bytes())
    assert written[0] == written[1]
    assert written[0][4:8] == bytes(4)
