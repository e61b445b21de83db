"""Tissue that continues across the border of an image is found, put back in its place, and nothing else is."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
import phantom
from development_heads import HEADS
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.wraparound import find_wrap, whole_scan
from efface.io.scan import load_scan
from efface.spatial.types import Volume

MM = 3.0


@pytest.fixture(scope="module")
def head() -> Volume:
    """The average head with air in front of it, in blocks of 3 mm."""
    return average_head.volume(MM)


def in_front(head: Volume) -> int:
    """Voxels of air before the tip of the nose."""
    tissue = head.data > 0.25 * np.percentile(head.data, 95)
    return head.data.shape[1] - 1 - int(np.flatnonzero(tissue.any(axis=(0, 2)))[-1])


def rolled(head: Volume, axis: int, voxels: int) -> Volume:
    return Volume(np.roll(head.data, voxels, axis), head.affine)


def noisy(volume: Volume, level: float) -> Volume:
    """With Rician noise, relative to bright tissue."""
    rng = np.random.default_rng(0)
    sigma = level * float(np.percentile(volume.data, 95))
    real, imaginary = (sigma * rng.standard_normal(volume.data.shape) for _ in range(2))
    return Volume(np.hypot(volume.data + real, imaginary).astype(np.float32), volume.affine)


def tissue_out_of_place(head: Volume, moved: Volume, axis: int, voxels: int) -> float:
    """Share of the head that is not where it belongs after what wraps around was put back."""
    wrap = find_wrap(moved)
    assert wrap is not None
    number = np.arange(head.data.size).reshape(head.data.shape)
    place = wrap.whole(np.roll(number, voxels, axis), empty=-1)
    found = np.argwhere(place >= 0)
    steps = found - np.argwhere(np.ones(head.data.shape, bool))[place[tuple(found.T)]]
    tissue = ndimage.gaussian_filter(head.data, 0.5).ravel()[place[tuple(found.T)]] > 0.3 * np.percentile(head.data, 95)
    usual = np.median(steps[tissue], axis=0)
    return float((steps[tissue] != usual).any(axis=1).mean())


@pytest.mark.parametrize("beyond_mm", [9, 15, 30, 60, -45])
def test_a_face_that_wraps_around_to_the_back_is_put_back_in_front(head, beyond_mm):
    ahead = in_front(head) if beyond_mm > 0 else -int(np.flatnonzero((head.data > 50).any(axis=(0, 2)))[0])
    voxels = ahead + round(beyond_mm / MM)
    assert tissue_out_of_place(head, rolled(head, 1, voxels), 1, voxels) < 0.002


@pytest.mark.parametrize(("axis", "voxels"), [(0, 12), (0, -15), (2, -14)])
def test_what_wraps_around_at_the_sides_or_from_top_to_bottom_is_put_back(head, axis, voxels):
    assert tissue_out_of_place(head, rolled(head, axis, voxels), axis, voxels) < 0.004


@pytest.mark.parametrize("level", [0.02, 0.05, 0.1])
def test_it_is_found_in_noise_and_noise_is_not_taken_for_it(head, level):
    voxels = in_front(head) + 5
    assert find_wrap(noisy(rolled(head, 1, voxels), level)) is not None
    assert find_wrap(noisy(head, level)) is None


def test_it_is_found_behind_slices_that_resampling_left_blank(head):
    moved = rolled(head, 1, in_front(head) + 5).data
    blank = np.pad(moved, ((0, 0), (0, 2), (0, 0)))
    wrap = find_wrap(Volume(blank, head.affine))
    assert set(wrap.offsets[:, 1]) == {moved.shape[1]}


def crops(head: Volume) -> dict[str, np.ndarray]:
    tissue = head.data > 0.25 * np.percentile(head.data, 95)
    x, y, z = (np.flatnonzero(tissue.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3))
    return {
        "as it is": head.data,
        "ears cut off": head.data[x[0] + 3 : x[-1] - 2],
        "nose cut off": head.data[:, : y[-1] - 4],
        "nose and back of the head cut off": head.data[:, y[0] + 3 : y[-1] - 4],
        "top cut off": head.data[:, :, : z[-1] - 4],
        "all of these": head.data[x[0] + 3 : x[-1] - 2, y[0] + 3 : y[-1] - 4, : z[-1] - 4],
    }


@pytest.mark.parametrize("name", ["as it is", "ears cut off", "nose cut off", "nose and back of the head cut off",
                                  "top cut off", "all of these"])  # fmt: skip
def test_a_head_that_fills_the_field_of_view_does_not_wrap_around(head, name):
    assert find_wrap(Volume(np.ascontiguousarray(crops(head)[name]), head.affine)) is None


def test_the_phantom_and_an_image_without_contrast_do_not_wrap_around():
    truth = phantom.head()
    assert find_wrap(Volume(truth.values.astype(np.float32), truth.affine)) is None
    assert find_wrap(Volume(np.ones((40, 40, 40), np.float32), truth.affine)) is None


def test_there_and_back_is_the_same(head):
    moved = rolled(head, 1, in_front(head) + 10)
    wrap = find_wrap(moved)
    np.testing.assert_array_equal(wrap.back(wrap.whole(moved.data)), moved.data)
    mask = np.random.default_rng(0).random(moved.data.shape) < 0.5
    np.testing.assert_array_equal(wrap.back(wrap.extended(mask)), mask)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_the_whole_head_keeps_dtype_and_place_in_mm(head, dtype):
    moved = rolled(head, 1, in_front(head) + 10)
    scan = load_scan(nib.Nifti1Image((moved.data / moved.data.max() * 250).astype(dtype), moved.affine))
    wrap = find_wrap(scan.volume)
    whole = whole_scan(scan, wrap)
    assert whole.stored.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(wrap.back(whole.data), scan.data)
    back_of_the_head = np.linalg.inv(whole.affine) @ scan.affine @ [30, 30, 40, 1]
    assert whole.data[tuple(np.rint(back_of_the_head[:3]).astype(int))] == scan.data[30, 30, 40]


def test_a_brain_mask_that_was_given_goes_along(head):
    moved = rolled(head, 1, in_front(head) + 10)
    scan = load_scan(nib.Nifti1Image(moved.data.astype(np.int16), moved.affine))
    brain = np.zeros(scan.shape, bool)
    brain[25:35, 35:60, 40:60] = True
    anatomy = HeadAnatomy(scan, brain)
    assert anatomy.whole is not anatomy
    assert anatomy.whole.brain.sum() == brain.sum()
    assert HeadAnatomy(load_scan(nib.Nifti1Image(head.data.astype(np.int16), head.affine))).wrap is None


@pytest.mark.heads
@pytest.mark.parametrize(
    ("name", "wraps"), [("01", True), ("14", True), ("04", False), ("08", False), ("17", False), ("ixi012", False)]
)
def test_real_heads_that_wrap_around_are_told_from_those_that_fill_the_field_of_view(name, wraps):
    scan = load_scan(HEADS / f"sub-{name}/anat/sub-{name}_T1w.nii.gz")
    assert (find_wrap(scan.volume) is not None) == wraps
