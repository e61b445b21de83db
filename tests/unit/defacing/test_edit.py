"""The edit: protection removes voxels from it, and applying it changes no other voxel."""

import re

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phantom
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import Edit, apply_edit, protected_region
from efface.defacing.edit import without
from efface.errors import InputError
from efface.io.scan import load_scan

# Protection


@pytest.mark.parametrize(("spacing_mm", "voxels"), [(0.9, 2), (1.0, 2), (2.0, 1), (2.1, 0)])
def test_the_protected_margin_is_two_millimetres(spacing_mm, voxels):
    image = nib.Nifti1Image(phantom.head().values, np.diag([spacing_mm, 5, 5, 1]))
    brain = np.zeros(phantom.SHAPE, bool)
    brain[20, 20, 20] = True
    region = protected_region(HeadAnatomy(load_scan(image), brain=brain))
    assert region.sum() == 1 + 2 * voxels
    assert region[20 - voxels : 21 + voxels, 20, 20].all()


@pytest.mark.parametrize("values", [0.0, 0, np.arange(6, dtype=np.float32)])
def test_taking_voxels_out_keeps_the_values_of_the_others(values):
    mask = np.zeros((3, 4, 5), bool)
    mask[1, :3, 2:4] = True
    protected = np.zeros_like(mask)
    protected[1, 1] = True
    edit = without(Edit(mask, values, "m"), protected)
    assert (edit.mask.sum(), edit.protected_voxels) == (4, 2)
    assert np.array_equal(edit.values, values if np.ndim(values) == 0 else [0, 1, 4, 5])
    again = without(edit, np.ones_like(mask))
    assert (again.mask.sum(), again.protected_voxels) == (0, 6)


# Applying


def test_an_edit_of_another_shape_is_refused(anatomy):
    edit = Edit(np.ones((40, 48, 43), bool), 0.0, "m")
    with pytest.raises(InputError, match=re.escape("shape (40, 48, 44); received (40, 48, 43)")):
        apply_edit(anatomy.scan, edit)


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1), ()])
def test_values_of_another_number_than_voxels_are_refused(anatomy, shape):
    mask = np.zeros(anatomy.scan.shape, bool)
    mask[0, 0, :4] = True
    with pytest.raises(InputError, match=re.escape(f"changes 4 voxels; received values of shape {shape}")):
        apply_edit(anatomy.scan, Edit(mask, np.zeros(shape, np.float32), "m"))


@pytest.mark.parametrize("value", [0, 0.0, 12.0])
def test_one_value_may_stand_for_all(anatomy, value):
    mask = phantom.head().brain
    after = apply_edit(anatomy.scan, Edit(mask, value, "m"))
    assert np.array_equal(after.data, np.where(mask, value, anatomy.scan.data))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1), where=st.sampled_from(phantom.ORIENTATIONS))
def test_an_edit_round_trip_restores_the_file(tmp_path_factory, seed, share, where):
    scan = load_scan(phantom.write(tmp_path_factory.getbasetemp() / "round.nii", where, "uint16", scaled=True).path)
    mask = np.random.default_rng(seed).random(scan.shape) < share
    zeroed = apply_edit(scan, Edit(mask, 0.0, "m"))
    assert np.all(zeroed.data[mask] == 0)
    assert np.array_equal(zeroed.data[~mask], scan.data[~mask])
    assert apply_edit(zeroed, Edit(mask, scan.data[mask], "m")).sha256 == scan.sha256
