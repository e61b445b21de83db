"""QuickShear: voxel-identical to the published package, and a variant with its errors corrected."""

import itertools
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import quickshear as package
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

import phantom
import phantom_anatomy
from development_heads import HEADS
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import apply_edit, quickshear
from efface.defacing.quickshear import Params
from efface.errors import AnatomyError
from efface.io.scan import Scan, load_scan
from phantom_anatomy import registered_at

pytestmark = pytest.mark.usefixtures("no_search")
orientation = pytest.mark.parametrize("orientation", phantom.ORIENTATIONS)


def slab(shape: tuple[int, int, int]) -> np.ndarray:
    """A mask that rises backwards from the front border, where the package's line starts flat."""
    i, j, k = np.indices(shape)
    back = shape[1] - 1 - j
    return np.asarray((np.abs(k - (back + 9)) <= 4) & (back <= 28) & (i >= 8) & (i <= 32))


def published(scan: Scan, image: nib.Nifti1Image, brain: np.ndarray, buffer: float) -> np.ndarray:
    """What the package `quickshear` makes of a file, given the mask on the file's own grid."""
    mask = nib.Nifti1Image(scan.ras_to_stored(brain).astype(np.uint8), image.affine)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Arrays of 2-dimensional vectors", DeprecationWarning)
        return np.asanyarray(package.quickshear(image, mask, buffer).dataobj)


def ours(scan: Scan, brain: np.ndarray, buffer: float) -> np.ndarray:
    return apply_edit(scan, quickshear.plan(HeadAnatomy(scan, brain=brain), Params(buffer=buffer))).stored


@orientation
@pytest.mark.parametrize("buffer", [0.0, 2.5, 10.0])
@pytest.mark.parametrize("mask", ["brain", "cut off in front", "whole head", "a corner", "touching the border"])
def test_quickshear_is_voxel_identical_to_the_package(tmp_path, orientation, buffer, mask):
    truth = phantom.write(tmp_path / "head.nii", orientation)
    scan, image = load_scan(truth.path), nib.load(truth.path)
    brain = {
        "brain": truth.brain,
        "cut off in front": slab(phantom.SHAPE),
        "whole head": truth.inside,
        "a corner": np.indices(phantom.SHAPE).sum(axis=0) > 100,
        "touching the border": phantom.ellipsoid((0, 80, 40), (50, 60, 70)),
    }[mask]
    assert np.array_equal(ours(scan, brain, buffer), published(scan, image, brain, buffer))


@settings(deadline=None, max_examples=60)
@given(
    where=st.sampled_from(phantom.ORIENTATIONS),
    centre=st.tuples(st.floats(-90, 90), st.floats(-100, 110), st.floats(-130, 85)),
    radii=st.tuples(*[st.floats(8, 90)] * 3),
    hole=st.tuples(*[st.floats(-60, 60)] * 3),
    buffer=st.one_of(st.integers(0, 20), st.floats(0, 20)),
)
def test_quickshear_is_voxel_identical_to_the_package_for_any_mask(tmp_path_factory, where, centre, radii, hole, buffer):
    brain = phantom.ellipsoid(centre, radii) & ~phantom.ellipsoid(hole, (30, 30, 30))
    assume(brain.any())
    truth = phantom.write(tmp_path_factory.getbasetemp() / "any.nii", where)
    scan, image = load_scan(truth.path), nib.load(truth.path)
    assert np.array_equal(ours(scan, brain, buffer), published(scan, image, brain, buffer))


def head_paths() -> list[Path]:
    return sorted(HEADS.glob("sub-*/anat/*_T1w.nii.gz"))


def cheap_brain(scan: Scan, subject: str) -> np.ndarray:
    """The reference labels, thickened; an ellipsoid where there are none."""
    path = HEADS / f"derivatives/dlmuse/{subject}/anat/{subject}_desc-dlmuse_dseg.nii.gz"
    if path.is_file():
        return np.asarray(ndimage.binary_dilation(load_scan(path).data > 0, iterations=2))
    axes = (np.linspace(-1, 1, n) for n in scan.shape)
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return np.asarray((x / 0.6) ** 2 + (y / 0.7) ** 2 + ((z - 0.25) / 0.5) ** 2 <= 1)


@pytest.mark.heads
@pytest.mark.parametrize("path", head_paths() or [None], ids=lambda path: path.name.split("_")[0] if path else "none")
def test_quickshear_is_voxel_identical_to_the_package_on_real_heads(path):
    scan = load_scan(path)
    image = nib.Nifti1Image(scan.stored, nib.load(path).affine)
    brain = cheap_brain(scan, path.name.split("_")[0])
    expected = published(scan, image, brain, 10.0)
    assert (expected != scan.stored).any(), "the package must have removed something"
    assert np.array_equal(ours(scan, brain, 10.0), expected)


def test_quickshear_stays_inside_a_volume_taller_than_deep():
    """The package stops with an IndexError here: it runs over the length of the wrong axis."""
    values = phantom.head().values.transpose(0, 2, 1)
    image = nib.Nifti1Image(values, np.eye(4))
    brain = slab(values.shape)
    scan = load_scan(image)
    with pytest.raises(IndexError):
        published(scan, image, brain, 0.0)
    edit = quickshear.plan(HeadAnatomy(scan, brain=brain), Params(buffer=0.0))
    assert edit.mask.any()
    assert not edit.mask.all()


def test_quickshear_on_its_own_output_changes_nothing_more(tmp_path, anatomy):
    once = apply_edit(anatomy.scan, phantom_anatomy.planned(anatomy, "quickshear"))
    twice = apply_edit(once, phantom_anatomy.planned(phantom_anatomy.known(once, anatomy.brain), "quickshear"))
    assert twice.sha256 == once.sha256 != anatomy.scan.sha256


def test_quickshear_needs_no_registration(anatomy):
    lost = HeadAnatomy(anatomy.scan, brain=anatomy.brain, registration=registered_at(np.eye(4), converged=False))
    edit = phantom_anatomy.planned(lost, "quickshear")
    assert np.array_equal(edit.mask, phantom_anatomy.planned(anatomy, "quickshear").mask)
    assert any("the pose of the head could not be confirmed" in warning for warning in edit.warnings)


def test_a_mask_without_a_front_is_refused(anatomy):
    with pytest.raises(AnatomyError, match="too small for QuickShear"):
        quickshear.plan(HeadAnatomy(anatomy.scan, brain=np.ones(phantom.SHAPE, bool)), Params())


@settings(deadline=None, max_examples=40)
@given(
    centre=st.tuples(st.floats(-30, 30), st.floats(-40, 40), st.floats(-60, 40)),
    radii=st.tuples(*[st.floats(20, 45)] * 3),
    buffer_mm=st.floats(0, 30),
)
def test_the_fixed_variant_never_comes_nearer_than_the_buffer(tmp_path_factory, centre, radii, buffer_mm):
    scan = load_scan(phantom.write(tmp_path_factory.getbasetemp() / "fixed.nii").path)
    brain = phantom.ellipsoid(centre, radii)
    edit = quickshear.plan(HeadAnatomy(scan, brain=brain), Params(buffer=buffer_mm, variant="fixed"))
    distance = ndimage.distance_transform_edt(~brain, sampling=scan.spacing_mm)
    assert not edit.mask.any() or distance[edit.mask].min() >= buffer_mm - 1e-6


def test_a_larger_buffer_of_the_fixed_variant_removes_less(anatomy):
    edits = [phantom_anatomy.planned(anatomy, "quickshear", variant="fixed", buffer=b) for b in (0.0, 10.0, 25.0)]
    for larger, smaller in itertools.pairwise(edits):
        assert not (smaller.mask & ~larger.mask).any()
        assert smaller.mask.sum() < larger.mask.sum()
