"""Eyes, nose, ears and mouth: found where they are in the average head, and carried to any grid."""

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import average_head
import phantom
from efface.anatomy import landmark_network, templates
from efface.anatomy.head_networks import normalised
from efface.anatomy.landmark_network import GRID_MM, feature_probabilities, network_grid
from efface.anatomy.landmarks import EXPECTED, FacialLandmark, find_landmarks, missing
from efface.anatomy.templates import FEATURE_LABELS
from efface.errors import DataPackageError
from efface.io.scan import load_scan
from efface.spatial.resampling import resample
from efface.spatial.types import Grid, Volume

NEAR_MM = 12.0
SHAPE = (16, 24, 32)
"""Of a 5 mm volume that the network's grid leaves as it is."""
COARSE = np.array([[5.0, 0, 0, -40], [0, 5, 0, -50], [0, 0, 5, -60], [0, 0, 0, 1]])


class Given(torch.nn.Module):
    """A network whose answer is known: certain of these labels."""

    def __init__(self, labels: np.ndarray) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.logits = 9 * torch.nn.functional.one_hot(torch.from_numpy(labels).long(), 5).movedim(-1, 0)[None].float()

    def forward(self, x):
        assert x.shape[2:] == self.logits.shape[2:]
        return self.logits


def given_features(labels: np.ndarray) -> tuple[FacialLandmark, ...]:
    """What is found where a network is certain of these labels."""
    return find_landmarks(Volume(np.zeros(labels.shape, np.float32), COARSE), Given(labels))


def sphere(radius_mm: float = 18.0, centre_mm=(-3.0, 6.0, 11.0)) -> FacialLandmark:
    """A feature that is a sphere, its lead the distance to its surface."""
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    points = index @ COARSE[:3, :3].T + COARSE[:3, 3]
    lead = radius_mm - np.linalg.norm(points - centre_mm, axis=-1)
    return FacialLandmark("nose", np.array(centre_mm), 1.0, Volume(lead.astype(np.float32), COARSE))


def block(first: tuple[int, ...], last: tuple[int, ...]) -> FacialLandmark:
    """A feature that is a block of 5 mm voxels, the last ones included."""
    lead = np.full(SHAPE, -1.0, np.float32)
    lead[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = 1
    return FacialLandmark("mouth", np.zeros(3), 1.0, Volume(lead, COARSE))


def points_of(grid: Grid) -> np.ndarray:
    """World mm of every voxel, shape (x, y, z, 3)."""
    return np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def as_mask(at, grid: Grid) -> np.ndarray:
    mask = np.zeros(grid.shape, bool)
    mask[at] = True
    return mask


def upright(spacing_mm, shape, origin_mm=(-60.0, -61.0, -62.0)) -> Grid:
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    return Grid(shape, affine)


FINE = upright((1.0, 1.0, 1.0), (110, 130, 150))
THICK = upright((0.9, 1.7, 4.5), (120, 75, 33))


# The grid and the network


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 9)] * 3),
    degrees=st.sampled_from([0.0, 20.0, -70.0]),
)
def test_the_network_sees_the_whole_field_of_view_of_any_grid(shape, spacing, degrees):
    affine = phantom.rotation(degrees) @ np.diag([*spacing, 1.0])
    affine[:3, 3] = (-80, 30, 11)
    grid = network_grid(Grid(shape, affine))
    np.testing.assert_allclose(grid.spacing_mm, GRID_MM)
    assert all(side % 8 == 0 for side in grid.shape)
    corners = np.array(
        [[n - 0.5 if bit else -0.5 for n, bit in zip(shape, bits, strict=True)] for bits in np.ndindex(2, 2, 2)]
    )
    to_network = np.linalg.inv(grid.affine) @ affine
    index = corners @ to_network[:3, :3].T + to_network[:3, 3]
    assert (index > -0.5 - 1e-3).all()
    assert (index < np.array(grid.shape) - 0.5 + 1e-3).all()
    centre = (np.array(shape) - 1) / 2
    np.testing.assert_allclose(
        to_network[:3, :3] @ centre + to_network[:3, 3], (np.array(grid.shape) - 1) / 2, atol=1e-6
    )
    axes = grid.affine[:3, :3] / GRID_MM
    np.testing.assert_allclose(axes, affine[:3, :3] / np.array(spacing), atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((7, 8, 9), 1.0), ((61, 43, 9), 1.9), ((40, 48, 44), 4.5), ((3, 130, 2), 0.7)]
)
def test_probabilities_sum_to_one_for_a_volume_of_any_size(shape, spacing):
    values = np.random.default_rng(3).random(shape, dtype=np.float32)
    probabilities, grid = feature_probabilities(Volume(values, np.diag([spacing, spacing, spacing, 1])))
    assert probabilities.shape == (5, *grid.shape)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def test_the_features_found_do_not_depend_on_gain_and_offset():
    head = average_head.volume(4.0)
    first, _ = feature_probabilities(head)
    second, _ = feature_probabilities(Volume(3 * head.data + 100, head.affine))
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_a_constant_volume_is_normalised_to_zero():
    assert not normalised(np.full((4, 5, 6), 7.0, np.float32)).any()
    spread = normalised(np.arange(1000, dtype=np.float32).reshape(10, 10, 10))
    assert (spread.min(), spread.max()) == (0, 1)
    assert 10 <= (spread == 0).sum() <= 11


def test_missing_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(landmark_network, "WEIGHTS", tmp_path / "defacer.pt")
    with pytest.raises(DataPackageError, match=r"weights of Defacer are missing .*defacer\.pt.*install it again"):
        landmark_network.trained_network.__wrapped__()


# The trained network on the average head


def usual_centres() -> dict[str, list[np.ndarray]]:
    """Where the priors say that features are: left before right."""
    labels = templates.prior("features")
    to_mm = labels.affine
    centres = {}
    for name, number in FEATURE_LABELS.items():
        parts, count = ndimage.label(labels.data == number)
        sizes = np.bincount(parts.ravel())
        large = [i for i in range(1, count + 1) if sizes[i] > 0.3 * sizes[1:].max()]
        middles = [to_mm[:3, :3] @ np.argwhere(parts == i).mean(axis=0) + to_mm[:3, 3] for i in large]
        centres[name] = sorted(middles, key=lambda mm: mm[0])
    return centres


def stored_as(codes: str) -> Volume:
    head = average_head.volume(2.0)
    image = nib.Nifti1Image(head.data, head.affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(codes)))
    reoriented = image.as_reoriented(turn)
    assert "".join(nib.aff2axcodes(reoriented.affine)) == codes
    return load_scan(reoriented).volume


def turned(degrees: float) -> Volume:
    """The average head lying obliquely in a grid that is straight."""
    head, turn = average_head.volume(2.0), phantom.rotation(degrees)
    shape = np.array([110, 132, 130])
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    centre = turn @ head.affine @ np.append((np.array(head.data.shape) - 1) / 2, 1)
    affine[:3, 3] = centre[:3] - (shape - 1)
    return Volume(resample(head, Grid(tuple(shape), affine), np.linalg.inv(turn)), affine)


@pytest.mark.parametrize("how", ["RAS", "LAS", "LPS", "oblique storage", "turned", "turned back", "4 mm"])
def test_the_average_head_has_all_features_where_they_usually_are(how):
    pose = np.eye(4)
    if how in ("RAS", "LAS", "LPS"):
        volume = stored_as(how)
    elif how == "oblique storage":
        pose = phantom.rotation(25)
        head = average_head.volume(2.0)
        volume = load_scan(nib.Nifti1Image(head.data, pose @ head.affine)).volume
    elif how == "4 mm":
        volume = average_head.volume(4.0)
    else:
        degrees = 20 if how == "turned" else -20
        volume, pose = turned(degrees), phantom.rotation(degrees)
    found, back = find_landmarks(volume), np.linalg.inv(pose)
    assert missing(found) == {}
    for name, expected in usual_centres().items():
        parts = [back[:3, :3] @ f.centre_mm + back[:3, 3] for f in found if f.name == name]
        assert len(expected) == EXPECTED[name]
        np.testing.assert_allclose(sorted(parts, key=lambda mm: mm[0]), expected, atol=NEAR_MM, err_msg=name)


# From labels to features


def test_features_are_where_the_network_is_certain_of_them():
    labels = np.zeros(SHAPE, int)
    labels[3:5, 10:13, 20:24] = FEATURE_LABELS["nose"]
    labels[9:11, 2:4, 5:7] = FEATURE_LABELS["ears"]
    nose, ear = given_features(labels)
    assert (nose.name, ear.name) == ("nose", "ears")
    np.testing.assert_allclose(nose.centre_mm, np.array([3.5, 11, 21.5]) * 5 + COARSE[:3, 3])
    assert nose.volume_ml == pytest.approx(24 * 0.125)
    assert ear.volume_ml == pytest.approx(8 * 0.125)
    assert np.array_equal(nose.lead.data > 0, labels == FEATURE_LABELS["nose"])
    assert np.array_equal(ear.lead.data > 0, labels == FEATURE_LABELS["ears"])
    np.testing.assert_allclose(nose.lead.affine, COARSE)


@pytest.mark.parametrize(("size", "kept"), [(29, False), (30, True)])
def test_components_smaller_than_three_tenths_of_the_largest_are_dropped(size, kept):
    labels = np.zeros(SHAPE, int)
    labels[0:4, 0:5, 0:5] = FEATURE_LABELS["eyes"]
    labels[10, 10 : 10 + size // 5, 20:25] = FEATURE_LABELS["eyes"]
    labels[10, 10 + size // 5, 20 : 20 + size % 5] = FEATURE_LABELS["eyes"]
    assert (labels > 0).sum() == 100 + size
    found = given_features(labels)
    assert [f.volume_ml for f in found] == pytest.approx([12.5, size * 0.125] if kept else [12.5])


@pytest.mark.parametrize(("feature", "gap", "parts"), [("mouth", 4, 1), ("nose", 4, 1), ("nose", 5, 2), ("eyes", 1, 2)])
def test_a_nose_or_a_mouth_in_pieces_is_one_and_two_eyes_are_two(feature, gap, parts):
    labels = np.zeros(SHAPE, int)
    labels[3:6, 8:11, 9:12] = FEATURE_LABELS[feature]
    labels[6 + gap : 9 + gap, 8:11, 9:12] = FEATURE_LABELS[feature]
    found = given_features(labels)
    assert len(found) == parts
    assert sum(f.volume_ml for f in found) == pytest.approx(54 * 0.125)
    together = np.max([f.lead.data for f in found], axis=0)
    assert np.array_equal(together > 0, labels > 0)


@pytest.mark.parametrize(("hole", "parts"), [(5, 1), (10, 1), (11, 2)])
def test_the_hole_in_the_middle_of_a_mouth_is_part_of_it_unless_it_is_wider_than_a_mouth(hole, parts):
    labels = np.zeros(SHAPE, int)
    labels[3:6, 8:11, 9:12] = FEATURE_LABELS["mouth"]
    labels[3:6, 8:11, 12 + hole : 15 + hole] = FEATURE_LABELS["mouth"]
    found = given_features(labels)
    assert len(found) == parts
    together = np.max([f.lead.data for f in found], axis=0) > 0
    expected = labels > 0
    if parts == 1:
        expected[3:6, 8:11, 9 : 15 + hole] = True
    assert np.array_equal(together, expected)
    assert sum(f.volume_ml for f in found) == pytest.approx(expected.sum() * 0.125)


def test_a_speck_beyond_the_gap_makes_no_mouth_wider():
    labels = np.zeros(SHAPE, int)
    labels[3:6, 8:11, 9:12] = FEATURE_LABELS["mouth"]
    labels[12:14, 8:10, 9] = FEATURE_LABELS["mouth"]
    (mouth,) = given_features(labels)
    assert mouth.volume_ml == pytest.approx(27 * 0.125)


@pytest.mark.parametrize(("size", "kept"), [(3, False), (4, True)])
def test_specks_are_no_features(size, kept):
    labels = np.zeros(SHAPE, int)
    labels[5, 6, 7 : 7 + size] = FEATURE_LABELS["mouth"]
    assert len(given_features(labels)) == kept


def test_the_smallest_share_is_of_the_same_feature_only():
    labels = np.zeros(SHAPE, int)
    labels[0:8, 0:8, 0:8] = FEATURE_LABELS["nose"]
    labels[12:14, 12:14, 12:14] = FEATURE_LABELS["mouth"]
    assert [f.name for f in given_features(labels)] == ["nose", "mouth"]


def test_no_feature_takes_voxels_of_another_part_beside_it():
    labels = np.zeros(SHAPE, int)
    labels[4:8, 4:8, 4:8] = FEATURE_LABELS["ears"]
    labels[9:11, 4:8, 4:8] = FEATURE_LABELS["ears"]
    large, small = given_features(labels)
    grid = Grid(SHAPE, COARSE)
    for feature, where in ((large, slice(4, 8)), (small, slice(9, 11))):
        at, voxels = feature.voxels(grid)
        whole = np.zeros(SHAPE, bool)
        whole[at] = voxels
        assert np.array_equal(np.flatnonzero(whole.any(axis=(1, 2))), np.arange(where.start, where.stop))


# Features on other grids


@pytest.mark.parametrize("grid", [FINE, THICK], ids=["fine", "thick"])
@pytest.mark.parametrize("grow", [1.0, 1.33, 1.5])
def test_a_box_bounds_its_feature_and_grows_about_its_centre(grid, grow):
    first, last = np.array([4, 8, 9]), np.array([6, 13, 10])
    at = block(tuple(first), tuple(last)).box(grid, grow)
    low, high = COARSE[:3, 3] + 5 * (first - 0.5), COARSE[:3, 3] + 5 * (last + 0.5)
    middle, half = (low + high) / 2, (high - low) / 2 * grow
    expected = (np.abs(points_of(grid) - middle) <= half + 1e-9).all(axis=-1)
    assert expected.any()
    assert np.array_equal(as_mask(at, grid), expected)


def test_a_box_bounds_its_feature_on_an_oblique_grid():
    turn = phantom.rotation(30)
    grid = Grid(FINE.shape, turn @ FINE.affine)
    found = as_mask(sphere().box(grid), grid)
    inside = np.linalg.norm(points_of(grid) - (-3, 6, 11), axis=-1) <= 15
    assert found[inside].all()
    assert found.sum() < 10 * inside.sum()


def test_a_box_ends_where_the_grid_ends():
    grid = upright((2.0, 2.0, 2.0), (20, 20, 20), (-3.0, 6.0, 11.0))
    box = sphere().box(grid, 1.5)
    assert all(s.start == 0 and 5 < s.stop < 20 for s in box)
    outside = upright((2.0, 2.0, 2.0), (20, 20, 20), (300.0, 6.0, 11.0))
    at, voxels = sphere().voxels(outside)
    assert voxels.size == 0
    assert not as_mask(at, outside).any()


@pytest.mark.parametrize(
    "grid", [FINE, THICK, Grid(THICK.shape, phantom.rotation(30) @ THICK.affine)], ids=["fine", "thick", "oblique"]
)
def test_voxels_of_a_feature_are_in_the_right_place_on_any_grid(grid):
    at, voxels = sphere().voxels(grid)
    assert voxels.shape == as_mask(at, grid)[at].shape
    found = np.zeros(grid.shape, bool)
    found[at] = voxels
    distance = np.linalg.norm(points_of(grid) - (-3, 6, 11), axis=-1)
    assert found[distance < 16.5].all(), "interpolating on 5 mm loses 1.5 mm at most"
    assert not found[distance > 18.5].any()


# What is missing


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["eyes", "eyes", "nose", "ears", "ears", "mouth"], {}),
        (["eyes", "nose", "ears", "ears", "mouth"], {"eyes": 1}),
        (["eyes", "eyes", "nose", "ears", "ears", "ears"], {"ears": 3, "mouth": 0}),
        ([], {"eyes": 0, "nose": 0, "ears": 0, "mouth": 0}),
    ],
)
def test_what_is_missing_or_too_many_is_counted(names, expected):
    lead = Volume(np.zeros((1, 1, 1), np.float32), np.eye(4))
    assert missing(FacialLandmark(name, np.zeros(3), 1.0, lead) for name in names) == expected
