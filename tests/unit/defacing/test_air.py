"""Every method takes air at the level that the scan has it: the same head with another scale loses the same voxels."""

import nibabel as nib
import numpy as np
import pytest

import phantom
import phantom_anatomy
from efface.defacing import METHODS, apply_edit
from efface.io.scan import load_scan
from efface.simulation.mp2rage import simulate

pytestmark = pytest.mark.usefixtures("no_search")
method = pytest.mark.parametrize("method", METHODS)
AIR = -1000.0
STORED = {
    "float32": (np.float32, 1.0, 0.0),
    "int16, scaled": (np.int16, 0.5, AIR),
    "uint16, scaled": (np.uint16, 0.25, AIR),
}


def in_a_file(path, data, kind):
    """Store intensities as `kind` says; they are whole, so that every kind can hold them."""
    dtype, slope, inter = STORED[kind]
    stored = np.rint((data - inter) / slope).astype(dtype)
    scaling = None if dtype == np.float32 else (slope, inter)
    path.write_bytes(phantom.nifti_bytes(stored, phantom.stored_affine("RAS"), scaling))
    return phantom_anatomy.known(load_scan(path), phantom.head().brain)


@method
@pytest.mark.parametrize("kind", STORED)
def test_air_below_zero_changes_neither_the_mask_nor_what_replaces_it(anatomy, tmp_path, method, kind):
    moved = in_a_file(tmp_path / "moved.nii", anatomy.scan.data + AIR, kind)
    expected, edit = phantom_anatomy.planned(anatomy, method), phantom_anatomy.planned(moved, method)
    np.testing.assert_array_equal(edit.mask, expected.mask)
    step = 0.0 if kind == "float32" else moved.scan.slope
    before, after = apply_edit(anatomy.scan, expected).data, apply_edit(moved.scan, edit).data
    if method not in ("mri_reface", "defacer", "reshape"):  # their noise is drawn from the intensities
        np.testing.assert_allclose(after - AIR, before, atol=0.5 + step)
    assert after[edit.mask].min() >= AIR
    assert np.median(after[edit.mask] - AIR) == pytest.approx(np.median(before[expected.mask]), abs=1.5)
    np.testing.assert_array_equal(after[~edit.mask], moved.scan.data[~edit.mask])


@method
def test_a_scale_changes_no_mask(anatomy, tmp_path, method):
    data = anatomy.scan.data * 4 - 3024
    scaled = in_a_file(tmp_path / "scaled.nii", data.astype(np.float32), "float32")
    expected, edit = phantom_anatomy.planned(anatomy, method), phantom_anatomy.planned(scaled, method)
    np.testing.assert_array_equal(edit.mask, expected.mask)


@method
def test_removed_voxels_of_a_uniform_image_are_dark_though_its_air_is_not(anatomy, method):
    made = simulate(anatomy.scan.data, 145.0, 25.0, np.random.default_rng(3))
    scan = load_scan(nib.Nifti1Image(made.uni, anatomy.scan.affine))
    uni = phantom_anatomy.known(scan, phantom.head().brain)
    edit = phantom_anatomy.planned(uni, method)
    after = apply_edit(scan, edit)
    nose = phantom_anatomy.nose() & edit.mask
    if method in ("mri_reface", "reshape"):  # put another nose there
        assert nose.any()
    else:
        assert after.data[nose].mean() < 0.15 * scan.data[nose].mean()
    assert phantom.dice(uni.head, phantom.head().inside) > 0.85
    np.testing.assert_array_equal(after.stored[~edit.mask], scan.stored[~edit.mask])
