"""Masks in an audit: those that reach the borders show nobody's skin, and outlines of heads are not taken for them."""

import numpy as np
import pytest

from efface.audit.masks import is_closed_outward, is_named_mask

SHAPE = (40, 50, 60)
X, Y, Z = np.indices(SHAPE)
HEAD = ((X - 20) / 14) ** 2 + ((Y - 25) / 18) ** 2 + ((Z - 30) / 22) ** 2 < 1
CUT = (Y > 30) & (Z < 35 + (Y - 30) / 3)
"""In front of and below a plane, up to the borders of the image: what was cut away."""


@pytest.mark.parametrize("values", [CUT, ~CUT, CUT * 255.0, CUT[::-1, ::-1], CUT.transpose(2, 0, 1), Y > 30])
def test_a_cut_that_reaches_the_borders_shows_no_skin(values):
    assert is_closed_outward(np.asarray(values, np.float32))


@pytest.mark.parametrize(
    "values",
    [
        HEAD, ~HEAD, CUT & HEAD, CUT & ~HEAD, HEAD[:, :, 20:40], HEAD[15:25], HEAD[15:25, :, 20:],
        CUT + HEAD * 1.0, np.zeros(SHAPE), np.ones(SHAPE),
    ],
    ids=["head", "air", "face", "air before a face", "axial slab", "sagittal slab", "sagittal slab without neck",
         "three values", "empty", "full"],
)  # fmt: skip
def test_outlines_of_heads_and_scans_are_no_such_masks(values):
    assert not is_closed_outward(np.asarray(values, np.float32))


def test_masks_are_known_by_their_names_in_bids():
    assert is_named_mask("sub-01_mod-T1w_defacemask.nii.gz")
    assert is_named_mask("sub-01_desc-brain_mask.nii")
    assert not is_named_mask("sub-mask_T1w.nii.gz")
