"""One contract for every method, and what each method promises beyond it."""

import hashlib
import itertools
import re
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import quickshear as package
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

import phantom
from development_heads import HEADS
from efface import defacing
from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import METHODS, Edit, apply_edit, protected_region, quickshear
from efface.defacing.edit import without
from efface.defacing.method import DefacingMethod
from efface.errors import AnatomyError, InputError, RegistrationError
from efface.io.scan import Scan, load_scan
from efface.parameters import describe, param
from efface.spatial import registration
from efface.spatial.registration import AffineResult

PARAMS = {"quickshear": {"buffer": 2.0}}
"""The default buffer is in voxels, which are large here."""

method = pytest.mark.parametrize("method", METHODS)
orientation = pytest.mark.parametrize("orientation", phantom.ORIENTATIONS)
STRAIGHT = [name for name in phantom.ORIENTATIONS if name != "oblique"]


def at(matrix: np.ndarray, *, converged: bool = True) -> AffineResult:
    """The average head, registered."""
    return AffineResult(matrix, 0.9, converged, "" if converged else "the score is 0.1, expected 0.5", 12, 1)


def known(scan: Scan, brain: np.ndarray, orientation: str = "RAS", *, converged: bool = True) -> HeadAnatomy:
    """The anatomy of a phantom, whose brain and position are known and need not be found."""
    return HeadAnatomy(scan, brain=brain, registration=at(phantom.pose(orientation), converged=converged))


def stored_anatomy(folder: Path, orientation: str = "RAS", dtype: str = "int16", **options) -> HeadAnatomy:
    truth = phantom.write(folder / f"{orientation}.nii", orientation, dtype, **options)
    return known(load_scan(truth.path), truth.brain, orientation)


def planned(anatomy: HeadAnatomy, method: str, *, protect_brain: bool = True, **options) -> Edit:
    return defacing.plan(anatomy, method, {**PARAMS.get(method, {}), **options}, protect_brain=protect_brain)


@pytest.fixture(autouse=True, scope="module")
def _what_is_found_is_known():
    """PyDeface refines the position of the average head, mri_reface fits it, Defacer's network finds features."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "refine_affine", lambda fixed, moving, initial: at(initial))
        patch.setattr(registration, "register_deformable", phantom.no_warp)
        phantom.give_landmarks(patch)
        phantom.give_landmarks(patch)
        yield


@pytest.fixture
def anatomy(tmp_path) -> HeadAnatomy:
    return stored_anatomy(tmp_path)


# The contract


@method
@orientation
@pytest.mark.parametrize(
    ("dtype", "scaled"), [("uint8", False), (">i2", True), ("uint16", True), ("float32", False), ("float64", True)]
)
def test_only_edited_voxels_change(tmp_path, method, orientation, dtype, scaled):
    anatomy = stored_anatomy(tmp_path, orientation, dtype, scaled=scaled, extension=True)
    scan, edit = anatomy.scan, planned(anatomy, method)
    apply_edit(scan, edit).save(tmp_path / "out.nii")
    before, after = scan.path.read_bytes(), (tmp_path / "out.nii").read_bytes()
    start = len(before) - scan.stored.nbytes
    assert after[:start] == before[:start]
    stored = np.frombuffer(after[start:], scan.stored.dtype).reshape(scan.stored.shape, order="F")
    changed = stored != scan.stored
    inside = phantom.reorient(edit.mask, orientation)
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.5, "the air of the phantom is not zero, so most edited voxels must change"


@method
def test_the_new_intensities_are_those_of_the_edit(anatomy, method):
    edit = planned(anatomy, method)
    after = apply_edit(anatomy.scan, edit).data
    np.testing.assert_allclose(after[edit.mask], np.broadcast_to(edit.values, edit.mask.sum()), atol=0.5)


@method
@pytest.mark.parametrize("orientation", STRAIGHT)
def test_the_edit_does_not_depend_on_the_stored_orientation(tmp_path, method, orientation):
    expected = planned(stored_anatomy(tmp_path, "RAS"), method)
    edit = planned(stored_anatomy(tmp_path, orientation), method)
    assert np.array_equal(edit.mask, expected.mask)
    np.testing.assert_allclose(edit.values, expected.values, atol=1e-3)


@method
def test_a_head_that_lies_obliquely_loses_the_same_voxels(tmp_path, method):
    expected = planned(stored_anatomy(tmp_path, "RAS"), method)
    edit = planned(stored_anatomy(tmp_path, "oblique"), method)
    assert phantom.dice(edit.mask, expected.mask) > 0.97


@method
def test_running_twice_gives_the_same_file(tmp_path, method):
    hashes = set()
    for name in ("a", "b"):
        anatomy = stored_anatomy(tmp_path, "LPS")
        path = tmp_path / f"{name}.nii.gz"
        apply_edit(anatomy.scan, planned(anatomy, method)).save(path)
        hashes.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(hashes) == 1


@method
def test_planning_leaves_the_scan_alone(anatomy, method):
    data, sha256 = anatomy.scan.data.copy(), anatomy.scan.sha256
    planned(anatomy, method)
    assert np.array_equal(anatomy.scan.data, data)
    assert load_scan(anatomy.scan.path).sha256 == sha256


@method
def test_the_nose_goes_and_the_back_of_the_head_stays(anatomy, method):
    edit = planned(anatomy, method)
    nose = phantom.ellipsoid((-3, 100, -38), (8, 8, 12))
    # MRI_Deface goes by where faces can be, and the phantom's nose is too high for one.
    assert edit.mask[nose].mean() >= (0.8 if method == "mri_deface" else 1.0)
    back = phantom.head().inside.copy()
    back[:, 20:] = False
    back[:, :, :3] = False
    back[:8] = back[-8:] = False  # ears go with some methods
    assert not edit.mask[back].any()


@method
def test_the_recipe_names_method_and_parameters(anatomy, method):
    edit = planned(anatomy, method)
    assert edit.method == method
    assert edit.implementation == "native"
    assert edit.params.items() >= PARAMS.get(method, {}).items()


def endangered(folder: Path, method: str, orientation: str) -> tuple[HeadAnatomy, dict[str, float]]:
    """A head whose brain, or the margin around it, a method cuts unless the brain is protected."""
    truth = phantom.write(folder / "head.nii", orientation)
    intruding = truth.brain | phantom.ellipsoid((-3, 85, -30), (15, 15, 15))
    shrink, brain, params = {
        # These two stay a voxel or two off the brain, so the margin is only reached where voxels are small.
        "quickshear": (5.0, truth.brain, {"buffer": 0.0}),
        "mri_reface": (2.5, intruding, {"margin_mm": 0.0}),
    }.get(method, (1.0, intruding, {}))
    affine = truth.stored_affine.copy()
    affine[:3] /= shrink
    truth.path.write_bytes(phantom.nifti_bytes(truth.stored, affine))
    pose = np.diag([1 / shrink] * 3 + [1.0]) @ phantom.pose(orientation)
    return HeadAnatomy(load_scan(truth.path), brain=brain, registration=at(pose)), params


@method
@pytest.mark.parametrize("orientation", ["LAS", "oblique"])
def test_protection_keeps_the_brain_and_its_margin_and_counts_what_it_saved(tmp_path, method, orientation):
    anatomy, params = endangered(tmp_path, method, orientation)
    free = defacing.plan(anatomy, method, params, protect_brain=False)
    safe = defacing.plan(anatomy, method, params)
    region = protected_region(anatomy)
    assert region[anatomy.brain].all()
    assert not (safe.mask & region).any()
    assert np.array_equal(safe.mask, free.mask & ~region)
    assert free.protected_voxels == 0
    assert safe.protected_voxels == (free.mask & region).sum() > 0
    before, after = anatomy.scan, apply_edit(anatomy.scan, safe)
    assert np.array_equal(after.data[region], before.data[region])
    expected = apply_edit(before, free).data
    assert not np.array_equal(expected[region], before.data[region]), "the region must have been in danger"
    np.testing.assert_allclose(after.data[safe.mask], expected[safe.mask])


@method
@pytest.mark.parametrize("shape", [(39, 48, 44), (48, 40, 44), (40, 48)])
def test_a_brain_mask_of_another_shape_is_refused(anatomy, method, shape):
    with pytest.raises(InputError, match=re.escape(f"{phantom.SHAPE}; received {shape}")):
        defacing.plan(HeadAnatomy(anatomy.scan, brain=np.ones(shape, bool)), method)


@method
def test_an_unknown_parameter_is_refused_by_name(anatomy, method):
    with pytest.raises(InputError, match=f"{method} has no parameter smoothness; expected ") as caught:
        defacing.plan(anatomy, method, {"smoothness": 3})
    assert "\n" not in str(caught.value)


@method
def test_an_error_inside_a_method_is_not_taken_for_an_unknown_parameter(anatomy, method, monkeypatch):
    def broken(*_args, **_params):
        raise TypeError("unsupported operand")

    monkeypatch.setattr(defacing, "METHODS", {method: replace(METHODS[method], plan=broken)})
    with pytest.raises(TypeError, match="unsupported operand"):
        defacing.plan(anatomy, method)


def test_an_unknown_method_is_refused_and_the_known_are_listed(anatomy):
    with pytest.raises(InputError, match="unknown method shave; expected one of") as caught:
        defacing.plan(anatomy, "shave")
    assert all(name in str(caught.value) for name in METHODS)


def test_methods_are_named_as_in_the_table():
    assert all(name == spec.name for name, spec in METHODS.items())
    assert all(spec.summary and spec.reference and "\n" not in spec.summary for spec in METHODS.values())


def test_methods_have_colours_and_titles_of_their_own():
    assert len({spec.colour for spec in METHODS.values()}) == len(METHODS)
    assert len({spec.title for spec in METHODS.values()}) == len(METHODS)


def toy_plan(anatomy, params):
    """A method as a newcomer would write it: everything more than so far below the top goes."""
    mask = np.zeros(anatomy.scan.shape, bool)
    mask[:, :, : params.slices] = True
    return Edit(mask, 0.0, "toy", params=asdict(params))


@dataclass(frozen=True)
class ToyParams:
    """Parameters of the toy method."""

    slices: int = param(3, "how many slices go", minimum=1)


def test_a_new_method_is_one_function_and_one_record(anatomy, monkeypatch):
    toy = DefacingMethod("toy", "Toy", "removes slices", "nobody", "nobody2026", "#000000", ToyParams, toy_plan)
    monkeypatch.setattr(defacing, "METHODS", {**METHODS, "toy": toy})
    edit = defacing.plan(anatomy, "toy", {"slices": "5"}, protect_brain=False)
    assert edit.params == {"slices": 5}
    assert edit.mask.sum() == 5 * np.prod(anatomy.scan.shape[:2])
    with pytest.raises(InputError, match="slices must be a whole number at least 1; received none"):
        defacing.plan(anatomy, "toy", {"slices": "none"})


VALUES = ("abc", "", None, "nan", "inf", "-1e9", [], object(), "1,2", True)
"""What no parameter of any method takes, but for the flags and texts below."""


@pytest.mark.parametrize(("name", "parameter"), [(m.name, d.name) for m in METHODS.values() for d in describe(m.params)])
@pytest.mark.parametrize("value", VALUES, ids=[repr(v)[:8] for v in VALUES])
def test_every_wrong_value_of_every_parameter_is_one_line(anatomy, name, parameter, value):
    with pytest.raises(InputError, match=f"{name}: {parameter} must be .*; received ") as caught:
        defacing.plan(anatomy, name, {parameter: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["method", "protect_brain", "implementation", "header", "program", "anatomy", "params"])
@method
def test_words_of_the_call_are_no_parameters_of_a_method(anatomy, method, word):
    with pytest.raises(InputError, match=f"{method} has no parameter {word}; expected "):
        defacing.plan(anatomy, method, {word: "x"})


def test_an_edit_of_nothing_is_refused(anatomy):
    with pytest.raises(InputError, match="quickshear found nothing to remove: "):
        defacing.plan(anatomy, "quickshear", {"buffer": 1000.0})


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


# PyDeface


def test_pydeface_needs_the_average_head_to_be_found(anatomy):
    lost = known(anatomy.scan, anatomy.brain, converged=False)
    with pytest.raises(RegistrationError, match=r"the score is 0\.1, expected 0\.5"):
        defacing.plan(lost, "pydeface")


def test_pydeface_uses_the_refined_position_of_the_average_head(anatomy, monkeypatch):
    seen = []
    lower = np.eye(4)
    lower[2, 3] = -20.0
    monkeypatch.setattr(registration, "refine_affine", lambda *a: seen.extend(a) or at(lower))
    edit = planned(anatomy, "pydeface", outside="keep")
    assert seen[0] is templates.average_head()
    assert np.array_equal(seen[1].data, anatomy.scan.data)
    assert np.array_equal(seen[2], anatomy.average_to_scan)
    expected = HeadAnatomy(anatomy.scan, anatomy.brain, registration=at(lower))
    monkeypatch.setattr(registration, "refine_affine", lambda fixed, moving, initial: at(initial))
    assert np.array_equal(edit.mask, planned(expected, "pydeface", outside="keep").mask)
    unrefined = known(anatomy.scan, anatomy.brain)  # an anatomy refines once
    assert not np.array_equal(edit.mask, planned(unrefined, "pydeface", outside="keep").mask)
    assert edit.warnings == ()


def test_pydeface_warns_and_goes_on_when_the_position_cannot_be_refined(anatomy, monkeypatch):
    expected = planned(anatomy, "pydeface")
    elsewhere = at(phantom.rotation(90), converged=False)
    monkeypatch.setattr(registration, "refine_affine", lambda *_: elsewhere)
    edit = planned(known(anatomy.scan, anatomy.brain), "pydeface")
    assert np.array_equal(edit.mask, expected.mask)
    (warning,) = edit.warnings
    assert "the score is 0.1, expected 0.5" in warning


def test_pydeface_spares_or_removes_what_lies_outside_its_mask(anatomy):
    keep, remove = (planned(anatomy, "pydeface", outside=word) for word in ("keep", "remove"))
    face = templates.average_face_mask()
    to_voxel = np.linalg.inv(face.affine) @ anatomy.scan.affine
    index = np.moveaxis(np.indices(phantom.SHAPE), 0, -1) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    outside = ((index <= -1) | (index >= face.data.shape)).any(-1)
    within = ((index >= 0) & (index <= np.array(face.data.shape) - 1)).all(-1)
    low_neck = outside & phantom.head().inside
    assert low_neck.any()
    assert remove.mask[outside].all()
    assert not keep.mask[outside].any()
    assert np.array_equal(keep.mask[within], remove.mask[within])
    assert keep.params == {"outside": "keep"}


def test_pydeface_fades_at_its_border_and_zeroes_the_face(anatomy):
    edit = planned(anatomy, "pydeface", protect_brain=False)
    before = anatomy.scan.data[edit.mask]
    assert (edit.values >= 0).all()
    assert (edit.values <= before).all()
    faded = (edit.values > 0) & (edit.values < before)
    assert 0 < faded.sum() < 0.2 * faded.size
    after = apply_edit(anatomy.scan, edit).data
    assert not after[phantom.ellipsoid((-3, 100, -38), (8, 8, 12))].any()


@pytest.mark.parametrize("word", ["", "crop", None])
def test_pydeface_refuses_another_word_for_outside(anatomy, word):
    with pytest.raises(InputError, match=f"outside must be one of remove, keep; received {word}"):
        planned(anatomy, "pydeface", outside=word)


# QuickShear


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
    return apply_edit(scan, quickshear.plan(HeadAnatomy(scan, brain=brain), quickshear.Params(buffer=buffer))).stored


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
    edit = quickshear.plan(HeadAnatomy(scan, brain=brain), quickshear.Params(buffer=0.0))
    assert edit.mask.any()
    assert not edit.mask.all()


def test_quickshear_on_its_own_output_changes_nothing_more(tmp_path, anatomy):
    once = apply_edit(anatomy.scan, planned(anatomy, "quickshear"))
    twice = apply_edit(once, planned(known(once, anatomy.brain), "quickshear"))
    assert twice.sha256 == once.sha256 != anatomy.scan.sha256


def test_quickshear_needs_no_registration(anatomy, monkeypatch):
    monkeypatch.setattr(registration, "register_affine", lambda *_, **__: pytest.fail("registered"))
    bare = HeadAnatomy(anatomy.scan, brain=anatomy.brain)
    assert planned(bare, "quickshear").mask.any()


def test_a_mask_without_a_front_is_refused(anatomy):
    with pytest.raises(AnatomyError, match="too small for QuickShear"):
        quickshear.plan(HeadAnatomy(anatomy.scan, brain=np.ones(phantom.SHAPE, bool)), quickshear.Params())


@settings(deadline=None, max_examples=40)
@given(
    centre=st.tuples(st.floats(-30, 30), st.floats(-40, 40), st.floats(-60, 40)),
    radii=st.tuples(*[st.floats(20, 45)] * 3),
    buffer_mm=st.floats(0, 30),
)
def test_the_fixed_variant_never_comes_nearer_than_the_buffer(tmp_path_factory, centre, radii, buffer_mm):
    scan = load_scan(phantom.write(tmp_path_factory.getbasetemp() / "fixed.nii").path)
    brain = phantom.ellipsoid(centre, radii)
    edit = quickshear.plan(HeadAnatomy(scan, brain=brain), quickshear.Params(buffer=buffer_mm, variant="fixed"))
    distance = ndimage.distance_transform_edt(~brain, sampling=scan.spacing_mm)
    assert not edit.mask.any() or distance[edit.mask].min() >= buffer_mm - 1e-6


def test_a_larger_buffer_of_the_fixed_variant_removes_less(anatomy):
    edits = [planned(anatomy, "quickshear", variant="fixed", buffer=b) for b in (0.0, 10.0, 25.0)]
    for larger, smaller in itertools.pairwise(edits):
        assert not (smaller.mask & ~larger.mask).any()
        assert smaller.mask.sum() < larger.mask.sum()
