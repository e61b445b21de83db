"""An edit is closed outward: neither its mask nor the air around it shows the skin that was removed."""

import itertools
import stat
import sys

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
import phantom
import phantom_anatomy
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.skin import skin_threshold
from efface.defacing import METHODS, apply_edit, plan
from efface.defacing import edit as edits
from efface.defacing.edit import Edit
from efface.defacing.outward import closed_outward
from efface.io.scan import load_scan
from efface.spatial import registration
from efface.spatial.resampling import resample
from efface.spatial.types import Grid, Volume

PEOPLE = (1, 2, 3, 4)
FRONT = Grid((61, 91, 51), np.array([[2.0, 0, 0, -60], [0, 2.0, 0, -20], [0, 0, 2.0, -110], [0, 0, 0, 1]]))
"""The face of the average head and what is in front of it, 2 mm: rays run along its second axis, from its end."""

TISSUE_ALONE = """
import nibabel, numpy
image = nibabel.load(sys.argv[1])
data = numpy.array(image.dataobj)
i, j, k = numpy.indices(data.shape)
mm = numpy.einsum('ab,bxyz->axyz', image.affine[:3, :3], numpy.array([i, j, k])) + image.affine[:3, 3, None, None, None]
face = (mm[1] > 45) & (mm[2] < -16 + 0.3 * (mm[1] - 95)) & (data > {least})
data[face] = 0
nibabel.save(nibabel.Nifti1Image(data, image.affine, image.header), sys.argv[2])
"""
"""A program that sets the tissue of the face to 0, and leaves the air."""


def first_mm(inside: np.ndarray) -> np.ndarray:
    """Depth at which rays from the front enter something; NaN where they do not."""
    from_front = inside[:, ::-1]
    return np.where(from_front.any(axis=1), from_front.argmax(axis=1) * 2.0, np.nan)


def skin_mm(anatomy: HeadAnatomy) -> np.ndarray:
    volume = anatomy.scan.volume
    return first_mm(resample(volume, FRONT) > skin_threshold(volume))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two depth maps; 0 where one of them is flat."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 50 or a[both].std() < 1e-6 or b[both].std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a[both], b[both])[0, 1])


def of(seed: int, *, noise: bool = False) -> HeadAnatomy:
    """The anatomy of a person; with noise in the air, or with air of 0."""
    head = average_head.person(seed)
    blank = ndimage.gaussian_filter(head.data, 1.0) < skin_threshold(head)
    air = np.abs(np.random.default_rng(seed).normal(0, 6, head.data.shape)) + 1 if noise else 0
    return average_head.anatomy(np.where(blank, air, head.data + 20))


@pytest.fixture(scope="module")
def people():
    return {seed: of(seed) for seed in PEOPLE}


@pytest.fixture(scope="module")
def limit(people):
    """The least correlation of the depth maps of two different people's skin."""
    maps = {seed: skin_mm(anatomy) for seed, anatomy in people.items()}
    found = [correlation(maps[a], maps[b]) for a, b in itertools.combinations(PEOPLE, 2)]
    assert 0.5 < min(found) < 0.97
    return min(found)


@pytest.fixture
def quick(monkeypatch):
    """Registrations are known; the landmarks are those of the average head."""
    monkeypatch.setattr(registration, "refine_affine", lambda *_: average_head.IN_PLACE)
    monkeypatch.setattr(registration, "register_deformable", phantom.no_warp)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "fsl_deface"
    path.write_text(f"#!{sys.executable}\nimport sys\n{TISSUE_ALONE.format(least=20)}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", PEOPLE[:2])
def test_the_mask_of_a_method_does_not_show_the_skin(people, limit, method, seed):
    anatomy = people[seed]
    edit = plan(anatomy, method, {"incomplete": "edit"} if method == "defacer" else {})
    mask = first_mm(resample(Volume(edit.mask.astype(np.float32), anatomy.scan.affine), FRONT, order=0) > 0.5)
    assert np.isfinite(mask).mean() > 0.2
    assert correlation(mask, skin_mm(anatomy)) <= min(limit, 0.5)


@pytest.mark.parametrize("seed", PEOPLE[:2])
def test_the_mask_of_a_program_that_changes_tissue_alone_hides_the_skin(people, limit, program, seed, monkeypatch):
    anatomy = people[seed]
    edit = plan(anatomy, "fsl_deface", {"program": program}, implementation="original")
    mask = first_mm(resample(Volume(edit.mask.astype(np.float32), anatomy.scan.affine), FRONT, order=0) > 0.5)
    assert np.isfinite(mask).mean() > 0.3
    assert correlation(mask, skin_mm(anatomy)) <= min(limit, 0.5)
    monkeypatch.setattr("efface.defacing.closed_outward", lambda edit, _anatomy: edit)
    bare = plan(anatomy, "fsl_deface", {"program": program}, implementation="original")
    open_mask = first_mm(resample(Volume(bare.mask.astype(np.float32), anatomy.scan.affine), FRONT, order=0) > 0.5)
    assert correlation(open_mask, skin_mm(anatomy)) > limit, "before it was closed, the mask must be the face"
    assert edit.mask[bare.mask].all(), "the region must hold every voxel that the program changed"


def test_no_noise_of_the_air_is_left_around_a_face_that_was_blanked(program):
    anatomy = of(1, noise=True)
    edit = plan(anatomy, "fsl_deface", {"program": program}, implementation="original")
    before, after = anatomy.scan.data, apply_edit(anatomy.scan, edit).data
    air = np.float32(anatomy.background.air)
    removed = (before > 40) & (after == air) & anatomy.head
    stays = (after > 40) & ~edit.mask
    near = ndimage.distance_transform_edt(~removed, sampling=anatomy.scan.spacing_mm) < 12
    away = ndimage.distance_transform_edt(~stays, sampling=anatomy.scan.spacing_mm) > 12
    around = near & away & ~anatomy.head
    assert around.sum() > 1000
    assert (before[around] != air).mean() > 0.9
    assert (after[around] == air).all()


def test_what_stays_of_the_head_is_not_touched(program):
    anatomy = of(2, noise=True)
    edit = plan(anatomy, "fsl_deface", {"program": program}, implementation="original")
    before, after = anatomy.scan.data, apply_edit(anatomy.scan, edit).data
    mm = np.tensordot(anatomy.scan.affine[:3, :3], np.indices(anatomy.scan.shape), 1)
    mm += anatomy.scan.affine[:3, 3, None, None, None]
    face = (mm[1] > 45) & (mm[2] < -16 + 0.3 * (mm[1] - 95))
    head = anatomy.head & ~face
    assert np.array_equal(after[head & (before > 40)], before[head & (before > 40)])
    assert (after[head] == before[head]).mean() > 0.999
    assert np.array_equal(after[~edit.mask], before[~edit.mask])


def test_air_that_an_edit_fills_with_noise_is_continued_with_noise(anatomy):
    rng = np.random.default_rng(0)
    inside = phantom.head().inside
    face = ndimage.binary_dilation(phantom.ellipsoid((-3, 60, -50), (40, 70, 30)) & inside, iterations=2)
    noise = rng.uniform(2, 8, anatomy.scan.shape).astype(np.float32)
    edit = closed_outward(Edit(face, np.where(inside, 120, noise)[face], "m"), anatomy)
    added = edit.mask & ~face
    assert added.sum() > 1000
    values = apply_edit(anatomy.scan, edit).data[added]
    assert 2 <= values.min() < 3.5 < 6.5 < values.max() <= 8
    again = closed_outward(Edit(face, np.where(inside, 120, noise)[face], "m"), anatomy)
    np.testing.assert_array_equal(edit.values, again.values)


@pytest.mark.usefixtures("no_search")
def test_an_edit_that_has_its_air_is_only_continued_forward(anatomy, monkeypatch):
    monkeypatch.setattr("efface.defacing.closed_outward", lambda edit, _anatomy: edit)
    cut = phantom_anatomy.planned(anatomy, "quickshear")
    np.testing.assert_array_equal(closed_outward(cut, anatomy).mask, cut.mask)


def test_an_edit_of_air_alone_stays_as_it_is(anatomy):
    mask = np.zeros(anatomy.scan.shape, bool)
    mask[0, 0, :5] = True
    assert closed_outward(Edit(mask, 0.0, "m"), anatomy).mask.sum() == 5


def test_voxels_are_added_with_their_intensities():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1] = True
    added = np.zeros_like(mask)
    added[0, 0] = True
    edit = edits.extended(Edit(mask, np.float32([4, 5, 6]), "m"), added, np.float32([1, 2, 3]))
    np.testing.assert_array_equal(edit.mask, mask | added)
    np.testing.assert_array_equal(edit.values, [1, 2, 3, 4, 5, 6])


def test_voxels_of_zero_in_a_blanked_region_belong_to_it(anatomy):
    """A program that blanks a region leaves the zeros in its noise as they were; they must not show the head."""
    rng = np.random.default_rng(0)
    inside = phantom.head().inside
    air = np.where(rng.random(inside.shape) < 0.3, 0, rng.integers(1, 8, inside.shape))
    noisy = phantom_anatomy.known(
        load_scan(nib.Nifti1Image(np.where(inside, phantom.head().values, air).astype(np.int16), anatomy.scan.affine)),
        phantom.head().brain,
    )
    region = np.zeros(inside.shape, bool)
    region[:, 32:, :24] = True
    edit = closed_outward(Edit(region & (noisy.scan.data != 0), 0.0, "m"), noisy)
    assert edit.mask[region].mean() > 0.99
    assert edit.mask[~region & ~inside].mean() < 0.01
