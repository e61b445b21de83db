"""FSL_deface on the average head, and against what FSL's own mask removes in real heads."""

import nibabel as nib
import numpy as np
import pytest

import average_head
import phantom
from development_heads import HEADS
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.templates import FEATURE_LABELS
from efface.defacing import apply_edit, fsl_deface
from efface.defacing.fsl_deface import BLOCKS, Params, in_blocks
from efface.io.scan import load_scan
from efface.spatial.affine import invert
from efface.spatial.types import Grid

REFERENCE = HEADS.parent / "reference" / "fsl_deface"


@pytest.fixture(scope="module")
def anatomy():
    return average_head.anatomy()


def test_fsl_deface_takes_nose_mouth_and_ears_and_no_brain(anatomy):
    edit = fsl_deface.plan(anatomy, Params())
    assert not (edit.mask & anatomy.brain).any()
    taken = {name: average_head.landmark_fraction(edit.mask, anatomy.scan, name) for name in FEATURE_LABELS}
    assert min(taken[name] for name in ("nose", "mouth", "ears")) > 0.75, taken
    assert taken["eyes"] < 0.75, taken
    assert not apply_edit(anatomy.scan, edit).data[edit.mask].any()


def test_fsl_deface_removes_a_thin_slab_and_leaves_what_is_behind_it(anatomy):
    removed = fsl_deface.plan(anatomy, Params()).mask & anatomy.head
    litres = removed.sum() * float(np.prod(anatomy.scan.spacing_mm)) / 1e6
    assert 0.1 < litres < 0.3


def test_a_voxel_is_removed_where_its_centre_is_in_a_block():
    """The plane of symmetry goes through x = -6.5 mm, turned by 5 degrees; the face is in front."""
    grid = Grid((1, 1, 1), np.array([[1, 0, 0, -2.0], [0, 1, 0, 110], [0, 0, 1, -60], [0, 0, 0, 1.0]]))
    assert in_blocks(grid, np.eye(4)).all()
    behind = np.eye(4)
    behind[1, 3] = -35
    assert not in_blocks(grid, behind).any()
    assert in_blocks(grid, behind, (0.0, -35.0, 0.0)).all()
    assert all(low < high for block in BLOCKS for low, high in block)


def test_the_blocks_do_not_depend_on_how_the_scan_is_stored(anatomy):
    grid, to_average = anatomy.scan.grid, invert(anatomy.average_to_scan)
    turned = Grid((grid.shape[1], grid.shape[0], grid.shape[2]), grid.affine @ np.eye(4)[[1, 0, 2, 3]])
    expected = in_blocks(grid, to_average)
    assert np.array_equal(in_blocks(turned, to_average), expected.transpose(1, 0, 2))


def test_fsl_deface_moves_its_mask_when_nudged(anatomy):
    still, nudged = fsl_deface.plan(anatomy, Params()), fsl_deface.plan(anatomy, Params(nudge=(0, 0, 12)))
    centre = [np.argwhere(e.mask & anatomy.head).mean(axis=0)[2] for e in (still, nudged)]
    assert centre[1] > centre[0]


def test_registration_is_not_run_again(anatomy, monkeypatch):
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *_, **__: pytest.fail("registered"))
    assert fsl_deface.plan(anatomy, Params()).mask.any()


@pytest.mark.heads
@pytest.mark.slow
def test_the_edits_are_like_those_of_fsl():
    found = {}
    for reference in sorted(REFERENCE.glob("*_removed_mask.nii.gz")):
        name = reference.name.removesuffix("_removed_mask.nii.gz")
        (scan,) = HEADS.parent.glob(f"*heads/{name}/anat/*_T1w.nii.gz")
        anatomy = HeadAnatomy(load_scan(scan))
        theirs = nib.as_closest_canonical(nib.load(reference)).get_fdata() > 0
        ours = in_blocks(anatomy.scan.grid, invert(anatomy.average_to_scan))
        found[name] = phantom.dice(ours & anatomy.head, theirs & anatomy.head)
    assert len(found) >= 6
    assert np.median(list(found.values())) >= 0.88, found
    assert min(found.values()) >= 0.85, found
