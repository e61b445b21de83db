"""The level of an image's air, whatever its scale, and the head in the noise of MP2RAGE."""

import nibabel as nib
import numpy as np
import pytest

import average_head
import phantom
from efface.anatomy import templates
from efface.anatomy.background import above_air, air_level, dark_air, find_background
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_mask import head_mask
from efface.anatomy.skin import skin_threshold
from efface.io.scan import load_scan
from efface.simulation.mp2rage import simulate
from efface.spatial.resampling import resample


def head(air):
    """The phantom with some other air."""
    values = phantom.head().values.astype(np.float32)
    return np.where(phantom.head().inside, values, air).astype(np.float32)


def noise(scale=4.0):
    real, imaginary = np.random.default_rng(5).normal(0, scale, (2, *phantom.SHAPE))
    return np.hypot(real, imaginary)


def scan_of(data, affine=None):
    return load_scan(nib.Nifti1Image(np.asarray(data), phantom.head().affine if affine is None else affine))


BACKGROUNDS = {
    "blanked": (lambda: head(0), 0, 0),
    "like CT": (lambda: head(-1000), -1000, 0),
    "noise, whole numbers": (lambda: np.rint(head(noise())), 0, 0),
    "noise of few whole numbers": (lambda: np.rint(head(noise(0.8))), 0, 0),
    "noise": (lambda: head(noise()), 0, 0.5),
    "a raised floor": (lambda: head(40 + noise()), 40, 0.5),
    "ringing around blanked air": (lambda: head(0) + 3 * (np.indices(phantom.SHAPE).sum(axis=0) % 7 == 0) - 1, -1, 0),
    "stray voxels far below": (lambda: np.where(np.arange(84480).reshape(phantom.SHAPE) % 9001, head(0), -900), 0, 0),
}


@pytest.mark.parametrize("case", BACKGROUNDS)
@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (0.25, -1024), (16, 512), (2, -4096)])
def test_the_level_of_air_is_found_and_follows_the_scale(case, slope, inter):
    make, expected, tolerance = BACKGROUNDS[case]
    data = make().astype(np.float32)
    found = air_level(data * np.float32(slope) + np.float32(inter))
    assert found == pytest.approx(air_level(data) * slope + inter, abs=1e-2)
    assert air_level(data) == pytest.approx(expected, abs=tolerance)
    assert found in data * np.float32(slope) + np.float32(inter), (
        "a fill that the file can hold is one of its own values"
    )


def test_padding_outside_the_scanner_is_not_air():
    x, y, _ = np.indices(phantom.SHAPE)
    inside = phantom.head().inside
    corners = (np.hypot(x - 20, y - 24) > 27) & ~inside
    assert 0.01 < corners.mean() < 0.3
    data = np.where(corners, -3024, head(-1000 + noise()) * np.where(inside, 8, 1))
    assert air_level(data.astype(np.float32)) == pytest.approx(-1000, abs=2)


def test_a_scan_with_air_at_zero_is_taken_as_it_is():
    scan = scan_of(phantom.head().values)
    assert above_air(scan) is scan.data
    assert HeadAnatomy(scan).image.data is scan.data


@pytest.mark.parametrize("inter", [-1000, 500])
def test_head_mask_and_skin_are_those_of_the_scan_with_air_at_zero(inter):
    data = phantom.head().values.astype(np.float32)
    plain, moved = (dark_air(scan_of(one)) for one in (data, data + inter))
    assert np.array_equal(head_mask(moved), head_mask(plain))
    assert skin_threshold(moved) == skin_threshold(plain) > 0


def uni(snr, volume, white, seed=7):
    made = simulate(volume.data, white, snr, np.random.default_rng(seed))
    return scan_of(made.uni, volume.affine), scan_of(made.inversion_2, volume.affine)


WHITE = 400.0
"""Of the average head."""


@pytest.mark.parametrize("snr", [12, 25, 50])
@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (0.5, -1024)])
def test_the_head_is_found_in_the_noise_of_a_uniform_image(snr, slope, inter):
    volume = average_head.volume()
    scan, second = uni(snr, volume, WHITE)
    assert find_background(second).noise is None
    scaled = scan_of(scan.data * np.float32(slope) + np.float32(inter), volume.affine)
    background = find_background(scaled)
    assert background.air == inter
    assert background.noise is not None
    assert phantom.dice(head_mask(background.volume(scaled)), head_mask(volume)) > 0.95
    assert background.volume(scaled).data[:6, -6:, -6:].mean() < 0.01 * 4095 * slope


def test_images_with_dark_air_are_not_taken_for_noise():
    for data in (average_head.volume().data, head(noise(12.0)), head(0)):
        assert find_background(scan_of(data.astype(np.float32), phantom.head().affine)).noise is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.load:DeprecationWarning")
def test_pose_brain_and_face_are_found_in_a_uniform_image():
    volume = average_head.volume(2.0)
    anatomy = HeadAnatomy(uni(12, volume, WHITE)[0])
    points = np.argwhere(volume.data > 100) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    moved = points @ (anatomy.average_to_scan[:3, :3] - np.eye(3)).T + anatomy.average_to_scan[:3, 3]
    assert np.sqrt((moved**2).sum(axis=1).mean()) < 2.0
    assert phantom.dice(anatomy.brain, resample(templates.prior("brain"), anatomy.scan.grid) > 0.5) > 0.85
    assert {"nose", "mouth", "eyes"} <= {landmark.name for landmark in anatomy.landmarks}
