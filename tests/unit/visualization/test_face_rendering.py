"""Pictures of faces: geometry against formulas, sides against a head with one ear, edits seen where they are."""

import functools

import numpy as np
import pytest
from scipy import ndimage

from efface.anatomy.skin import head_surface
from efface.anatomy.templates import average_head
from efface.errors import InputError
from efface.io.scan import load_scan
from efface.spatial.resampling import block_mean
from efface.spatial.types import Volume
from efface.visualization.face_rendering import (
    BACKGROUND,
    CENTRE_MM,
    DISTANCE_MM,
    PICTURE_MM,
    VIEWS,
    Highlight,
    render_view,
    render_views,
)
from phantom import ORIENTATIONS, head, pose, write

SIZE_PX = (216, 192)
PX_PER_MM = SIZE_PX[0] / PICTURE_MM
IDENTITY = np.eye(4)


def picture(volume, view="frontal", average_to_scan=IDENTITY, *, threshold=None, **options):
    surface = head_surface(volume, threshold=threshold)
    return render_view(surface, view, average_to_scan, size_px=SIZE_PX, **options)


def seen(image):
    """Where something is in the picture."""
    return (image != np.rint(BACKGROUND * 255)).any(axis=-1)


def pixel(point_mm, view):
    """Row and column of a point (average-head mm) in a picture, by similar triangles."""
    right, towards = {"frontal": ((-1, 0, 0), (0, 1, 0)), "profile_left": ((0, -1, 0), (-1, 0, 0))}[view]
    offset = np.subtract(point_mm, CENTRE_MM)
    scale = PX_PER_MM * DISTANCE_MM / (DISTANCE_MM - offset @ towards)
    return (SIZE_PX[0] - 1) / 2 - scale * offset[2], (SIZE_PX[1] - 1) / 2 + scale * offset @ right


def ball(volume_mm, radius_mm, centre_mm=CENTRE_MM):
    """Distances of points from a ball, as intensities that cross 50 at its surface."""
    distance = np.linalg.norm(volume_mm - centre_mm, axis=-1)
    return np.clip(50 + 50 * (radius_mm - distance), 0, 100)


def space(spacing_mm=(1.0, 2.0, 1.5), half_mm=90.0):
    """Points (mm) of a grid around the centre, shape (x, y, z, 3), and its affine."""
    axes = [np.arange(c - half_mm, c + half_mm, s) for c, s in zip(CENTRE_MM, spacing_mm, strict=True)]
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = CENTRE_MM - half_mm
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), affine


def volume_of(values, affine):
    return Volume(values.astype(np.float32), affine)


@functools.cache
def average():
    return block_mean(average_head(), 2.0)


@functools.cache
def phantom():
    return volume_of(head().values, head().affine)


@pytest.mark.parametrize("view", VIEWS)
def test_the_silhouette_of_a_ball_is_the_one_perspective_gives(view):
    points, affine = space()
    silhouette = seen(picture(volume_of(ball(points, 60), affine), view, threshold=50.0))
    expected = PX_PER_MM * DISTANCE_MM * 60 / np.sqrt(DISTANCE_MM**2 - 60**2)
    assert np.sqrt(silhouette.sum() / np.pi) == pytest.approx(expected, abs=0.25)
    middle = np.argwhere(silhouette).mean(axis=0)
    np.testing.assert_allclose(middle, (np.array(SIZE_PX) - 1) / 2, atol=0.25)


def test_otsu_finds_the_edge_of_a_ball_in_noise():
    points, affine = space()
    noise = np.random.default_rng(1).normal(0, 3, points.shape[:3])
    surface = head_surface(volume_of(ball(points, 60) + np.abs(noise), affine))
    assert 15 < surface.threshold < 50


@pytest.mark.parametrize(("view", "side"), [("profile_left", "left"), ("profile_right", "right")])
def test_the_nose_points_to_the_side_of_the_picture_where_it_must_be(view, side):
    silhouette = seen(picture(average(), view))
    row, column = (round(x) for x in pixel((0, 117, -60), "profile_left"))
    columns = np.flatnonzero(silhouette[row])
    tip = columns[0] if side == "left" else SIZE_PX[1] - 1 - columns[-1]
    assert tip == pytest.approx(column, abs=4)


def test_the_right_ear_is_on_the_left_of_a_frontal_picture_and_in_the_views_from_the_right_only():
    ear = np.zeros(head().values.shape)
    ear[np.indices(ear.shape)[0] * 4.5 - 90 > 72] = 7
    highlight = Highlight(volume_of(ear, head().affine), {7: (0.0, 0.0, 1.0)})
    surface = head_surface(phantom())
    pictures = render_views(surface, IDENTITY, size_px=SIZE_PX, highlight=highlight)
    plain = render_views(surface, IDENTITY, size_px=SIZE_PX)
    tinted = {view: (pictures[view] != plain[view]).any(axis=-1) for view in VIEWS}
    columns = np.flatnonzero(tinted["frontal"].any(axis=0))
    assert columns.size
    assert columns.max() < np.flatnonzero(seen(plain["frontal"]).any(axis=0)).mean()
    assert tinted["profile_right"].sum() > tinted["three_quarter_right"].sum() > tinted["frontal"].sum()
    assert not tinted["profile_left"].any()


def test_a_tint_is_where_its_label_is_and_each_label_has_its_colour():
    points, affine = space((2.0, 2.0, 2.0))
    upper, lower = points[..., 2] > CENTRE_MM[2] + 20, points[..., 2] < CENTRE_MM[2] - 20
    under_the_skin = ball(points, 58.5) > 50
    labels = volume_of((upper + 2 * lower + 3 * (~upper & ~lower)) * under_the_skin, affine)
    volume = volume_of(ball(points, 60), affine)
    highlight = Highlight(labels, {1: (1.0, 0.0, 0.0), 2: (0.0, 0.0, 1.0)})
    tinted, plain = (picture(volume, threshold=50.0, highlight=h).astype(int) for h in (highlight, None))
    middle = SIZE_PX[1] // 2
    upper_row, lower_row = (round(pixel(CENTRE_MM + np.array([0, 54, z]), "frontal")[0]) for z in (26, -26))
    assert (tinted[upper_row, middle] - plain[upper_row, middle])[2] < -30
    assert (tinted[lower_row, middle] - plain[lower_row, middle])[0] < -30
    np.testing.assert_array_equal(tinted[SIZE_PX[0] // 2, middle], plain[SIZE_PX[0] // 2, middle])


@pytest.mark.parametrize("orientation", [x for x in ORIENTATIONS if x != "RAS"])
def test_storage_does_not_change_the_picture(orientation, tmp_path):
    expected = picture(phantom(), "three_quarter_left").astype(int)
    scan = load_scan(write(tmp_path / "head.nii", orientation).path)
    received = picture(scan.volume, "three_quarter_left", pose(orientation)).astype(int)
    assert (np.abs(received - expected) > 2).mean() < 1e-3


def test_axes_that_run_the_other_way_give_the_same_picture():
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = phantom().data.shape[0] - 1
    flipped = Volume(np.ascontiguousarray(phantom().data[::-1]), phantom().affine @ flip)
    difference = picture(flipped, "profile_right").astype(int) - picture(phantom(), "profile_right")
    assert (np.abs(difference) > 2).mean() < 1e-3


def test_the_size_of_the_average_head_in_the_scan_does_not_resize_the_picture():
    scaled = np.diag([1.2, 0.9, 1.1, 1.0])
    scaled[:3, 3] = CENTRE_MM - scaled[:3, :3] @ CENTRE_MM
    difference = picture(phantom(), average_to_scan=scaled).astype(int) - picture(phantom())
    assert (np.abs(difference) > 2).mean() < 1e-3


def test_a_closed_cavity_is_not_seen_and_an_opened_one_is():
    points, affine = space((2.0, 2.0, 2.0))
    solid = ball(points, 60)
    hollow = solid - ball(points, 40)
    opened = np.where(points[..., 1] > CENTRE_MM[1] + 30, 0, hollow)
    pictures = [picture(volume_of(x, affine), threshold=50.0).astype(int) for x in (solid, hollow, opened)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    differs = np.abs(pictures[2] - pictures[0]).max(axis=-1) > 20
    inner, outer = (PX_PER_MM * np.sqrt(r**2 - 30**2) for r in (40, 60))
    assert differs.sum() > 0.2 * np.pi * inner**2
    row, column = np.nonzero(differs)
    assert np.hypot(row - 107.5, column - 95.5).max() < 1.1 * outer


def test_the_average_head_has_no_holes():
    silhouette = seen(picture(average()))
    largest = ndimage.label(silhouette)[0] == 1 + np.argmax(np.bincount(ndimage.label(silhouette)[0].flat)[1:])
    np.testing.assert_array_equal(ndimage.binary_fill_holes(largest), largest)
    assert largest.mean() > 0.25


def test_removing_the_nose_changes_the_picture_there_and_only_there():
    volume = average()
    i, j, k = np.indices(volume.data.shape)
    x, y, z = np.tensordot(volume.affine[:3, :3], np.stack([i, j, k]), 1) + volume.affine[:3, 3, None, None, None]
    without = Volume(np.where((abs(x) < 20) & (y > 94) & (z > -82) & (z < -42), 0, volume.data), volume.affine)
    before = head_surface(volume)
    after = head_surface(without, threshold=before.threshold)
    one, two = (render_view(s, "frontal", IDENTITY, size_px=SIZE_PX).astype(int) for s in (before, after))
    rows, columns = np.nonzero(np.abs(one - two).max(axis=-1) > 1)
    margin = 8 * PX_PER_MM
    top, left = pixel((20, 118, -42), "frontal")
    bottom, right = pixel((-20, 118, -82), "frontal")
    assert rows.size > 0.5 * (bottom - top) * (right - left)
    assert top - margin < rows.min()
    assert rows.max() < bottom + margin
    assert left - margin < columns.min()
    assert columns.max() < right + margin


@pytest.mark.parametrize(("radius_mm", "visible"), [(8, True), (4, False)])
def test_a_nose_in_the_air_is_seen_and_noise_is_not(radius_mm, visible):
    points, affine = space((1.0, 1.0, 1.0), half_mm=80)
    loose_mm = CENTRE_MM + np.array([0, 65, 0])
    alone = volume_of(ball(points, 45), affine)
    both = volume_of(np.maximum(ball(points, 45), ball(points, radius_mm, loose_mm)), affine)
    row, column = (round(x) for x in pixel(loose_mm, "profile_left"))
    assert not seen(picture(alone, "profile_left", threshold=50.0))[row, column]
    assert seen(picture(both, "profile_left", threshold=50.0))[row, column] == visible


def test_a_head_cut_by_the_field_of_view_is_closed_there():
    points, affine = space()
    front = np.flatnonzero(points[0, :, 0, 1] < CENTRE_MM[1] + 20)
    cut = volume_of(ball(points, 60)[:, front], affine)
    image = picture(cut, threshold=50.0)
    disc = image[90:126, 80:112].astype(int)
    assert seen(image)[90:126, 80:112].all()
    assert np.ptp(disc, axis=(0, 1)).max() < 20


def test_light_comes_from_above():
    points, affine = space()
    image = picture(volume_of(ball(points, 60), affine)).astype(int)
    middle = SIZE_PX[1] // 2
    upper, lower = (image[round(pixel(CENTRE_MM + np.array([0, 45, z]), "frontal")[0]), middle].sum() for z in (40, -40))
    assert upper > 1.2 * lower


def test_a_scan_without_anything_above_the_threshold_gives_an_empty_picture():
    assert not seen(picture(phantom(), threshold=1e6)).any()


def test_the_same_input_gives_the_same_bytes():
    one, two = (picture(phantom(), "profile_right") for _ in range(2))
    assert one.dtype == np.uint8
    assert one.shape == (*SIZE_PX, 3)
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("threshold", [0.0, -1.0, np.nan, np.inf])
def test_a_threshold_that_is_not_a_positive_number_is_refused(threshold):
    with pytest.raises(InputError, match="threshold must be a positive intensity"):
        head_surface(phantom(), threshold=threshold)


def test_a_scan_without_a_head_is_refused():
    with pytest.raises(InputError, match="no head stands out"):
        head_surface(volume_of(np.zeros((40, 41, 42)), np.eye(4)))


@pytest.mark.parametrize(
    "average_to_scan", [np.diag([-1.0, 1, 1, 1]), np.eye(3), np.full((4, 4), np.nan)], ids=["mirror", "3x3", "nan"]
)
def test_a_pose_that_is_none_is_refused(average_to_scan):
    with pytest.raises(InputError, match="average_to_scan must be a 4x4 affine"):
        picture(phantom(), average_to_scan=average_to_scan)


def test_an_unknown_view_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"frontal, three_quarter_left.*received 'back'"):
        picture(phantom(), "back")


def test_a_picture_of_no_size_is_refused():
    with pytest.raises(InputError, match=r"size_px .* received \(0, 10\)"):
        render_view(head_surface(phantom()), "frontal", IDENTITY, size_px=(0, 10))
