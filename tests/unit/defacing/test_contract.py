"""The contract of every defacing method, on a small phantom in every orientation."""

import hashlib
import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import phantom
import phantom_anatomy
from cli_runner import run
from efface import defacing
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import METHODS, apply_edit, protected_region, registry
from efface.errors import InputError, RegistrationError
from efface.io.scan import load_scan
from efface.parameters import describe
from phantom_anatomy import registered_at

pytestmark = pytest.mark.usefixtures("no_search")
method = pytest.mark.parametrize("method", METHODS)
orientation = pytest.mark.parametrize("orientation", phantom.ORIENTATIONS)
STRAIGHT = [name for name in phantom.ORIENTATIONS if name != "oblique"]


# Edits


@method
@orientation
@pytest.mark.parametrize(
    ("dtype", "scaled"), [("uint8", False), (">i2", True), ("uint16", True), ("float32", False), ("float64", True)]
)
def test_only_edited_voxels_change(tmp_path, method, orientation, dtype, scaled):
    anatomy = phantom_anatomy.stored(tmp_path, orientation, dtype, scaled=scaled, extension=True)
    scan, edit = anatomy.scan, phantom_anatomy.planned(anatomy, method)
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
    edit = phantom_anatomy.planned(anatomy, method)
    after = apply_edit(anatomy.scan, edit).data
    np.testing.assert_allclose(after[edit.mask], np.broadcast_to(edit.values, edit.mask.sum()), atol=0.5)


@method
@pytest.mark.parametrize("orientation", STRAIGHT)
def test_the_edit_does_not_depend_on_the_stored_orientation(tmp_path, method, orientation):
    expected = phantom_anatomy.planned(phantom_anatomy.stored(tmp_path, "RAS"), method)
    edit = phantom_anatomy.planned(phantom_anatomy.stored(tmp_path, orientation), method)
    assert np.array_equal(edit.mask, expected.mask)
    np.testing.assert_allclose(edit.values, expected.values, atol=1e-3)


@method
def test_a_head_that_lies_obliquely_loses_the_same_voxels(tmp_path, method):
    expected = phantom_anatomy.planned(phantom_anatomy.stored(tmp_path, "RAS"), method)
    edit = phantom_anatomy.planned(phantom_anatomy.stored(tmp_path, "oblique"), method)
    assert phantom.dice(edit.mask, expected.mask) > 0.97


@method
def test_running_twice_gives_the_same_file(tmp_path, method):
    hashes = set()
    for name in ("a", "b"):
        anatomy = phantom_anatomy.stored(tmp_path, "LPS")
        path = tmp_path / f"{name}.nii.gz"
        apply_edit(anatomy.scan, phantom_anatomy.planned(anatomy, method)).save(path)
        hashes.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(hashes) == 1


@method
def test_planning_leaves_the_scan_alone(anatomy, method):
    data, sha256 = anatomy.scan.data.copy(), anatomy.scan.sha256
    phantom_anatomy.planned(anatomy, method)
    assert np.array_equal(anatomy.scan.data, data)
    assert load_scan(anatomy.scan.path).sha256 == sha256


@method
def test_the_nose_goes_and_the_back_of_the_head_stays(anatomy, method):
    edit = phantom_anatomy.planned(anatomy, method)
    # MRI_Deface goes by where faces can be, clear of where brains can be, and the phantom's nose is too high for one.
    assert edit.mask[phantom_anatomy.nose()].mean() >= (0.6 if method == "mri_deface" else 1.0)
    back = phantom.head().inside.copy()
    back[:, 14 if method == "reshape" else 20 :] = False  # which goes on behind the ears
    back[:, :, :3] = False
    side = 12 if method == "reshape" else 8  # ears go with some methods, and reshape moves what is around them too
    back[:side] = back[-side:] = False
    assert not edit.mask[back].any()


@method
def test_the_edit_names_method_and_parameters(anatomy, method):
    edit = phantom_anatomy.planned(anatomy, method)
    assert edit.method == method
    assert edit.implementation == "native"
    assert edit.params.items() >= phantom_anatomy.PARAMS.get(method, {}).items()


def endangered(folder: Path, method: str, orientation: str) -> tuple[HeadAnatomy, dict[str, object]]:
    """A head whose brain, or the margin around it, a method cuts unless the brain is protected."""
    truth = phantom.write(folder / "head.nii", orientation)
    intruding = truth.brain | phantom.ellipsoid((-3, 85, -30), (15, 15, 15))
    shrink, brain, params = {
        # These two stay a voxel or two off the brain, so the margin is only reached where voxels are small.
        "quickshear": (5.0, truth.brain, {"buffer": 0.0}),
        "mri_reface": (2.5, intruding, {"margin_mm": 0.0}),
        "fsl_deface": (1.0, intruding, {"nudge": (0.0, -15.0, 0.0)}),
    }.get(method, (1.0, intruding, {}))
    affine = truth.stored_affine.copy()
    affine[:3] /= shrink
    truth.path.write_bytes(phantom.nifti_bytes(truth.stored, affine))
    placed = registered_at(np.diag([1 / shrink] * 3 + [1.0]) @ phantom.pose(orientation))
    return phantom_anatomy.located(load_scan(truth.path), brain, placed), params


@pytest.mark.parametrize("method", [name for name in METHODS if name != "reshape"])  # keeps a voxel off the brain
@pytest.mark.parametrize("orientation", ["LAS", "oblique"])
def test_protection_keeps_the_brain_and_its_margin_and_counts_what_it_saved(tmp_path, monkeypatch, method, orientation):
    monkeypatch.setattr(defacing, "MOST_SAVED_ML", 1e4)  # the phantoms' edits are far into the brain
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


@pytest.mark.parametrize("method", ["defacer", "pydeface", "fsl_deface"])
def test_an_edit_that_lies_in_the_brain_is_refused_unless_the_user_wants_it(tmp_path, method):
    anatomy, params = endangered(tmp_path, method, "LAS")
    with pytest.raises(RegistrationError, match=r"would remove \d+ ml of the brain; expected at most 5 ml"):
        defacing.plan(anatomy, method, params)
    cut = defacing.plan(anatomy, method, params, protect_brain=False)
    assert cut.mask.any()
    assert any("ml of the brain" in warning for warning in cut.warnings)


@method
@pytest.mark.parametrize("shape", [(39, 48, 44), (48, 40, 44), (40, 48)])
def test_a_brain_mask_of_another_shape_is_refused(anatomy, method, shape):
    with pytest.raises(InputError, match=re.escape(f"{phantom.SHAPE}; received {shape}")):
        defacing.plan(HeadAnatomy(anatomy.scan, brain=np.ones(shape, bool)), method)


def test_an_edit_of_nothing_is_refused(anatomy):
    with pytest.raises(InputError, match="quickshear found nothing to remove: "):
        defacing.plan(anatomy, "quickshear", {"buffer": 1000.0})


@method
def test_an_error_inside_a_method_is_not_taken_for_a_users_error(anatomy, method, monkeypatch):
    def broken(*_args):
        raise TypeError("unsupported operand")

    monkeypatch.setitem(registry._METHODS, method, replace(METHODS[method], plan=broken))
    with pytest.raises(TypeError, match="unsupported operand"):
        defacing.plan(anatomy, method)


# The record


def test_an_unknown_method_is_refused_and_the_known_are_listed(anatomy):
    with pytest.raises(InputError, match="unknown method shave; expected one of") as caught:
        defacing.plan(anatomy, "shave")
    assert all(name in str(caught.value) for name in METHODS)


@method
def test_the_record_is_complete(method):
    record = METHODS[method]
    assert record.name == method
    assert record.title
    for line in (record.summary, record.reference):
        assert line
        assert "\n" not in line
        assert not line.endswith(".")
    assert re.fullmatch("#[0-9A-F]{6}", record.colour)
    bibliography = (Path(defacing.__file__).parents[1] / "report" / "citations.bib").read_text()
    assert f"{{{record.citation},\n" in bibliography
    assert (record.external is None) == bool(record.external_note)
    assert all(row.help for row in describe(record.params))
    assert record.external is None or all(row.help for row in describe(record.external.params))


def test_titles_colours_and_citations_differ():
    for fact in ("title", "colour", "citation", "summary"):
        assert len({getattr(record, fact) for record in METHODS.values()}) == len(METHODS), fact


TOY = """
from dataclasses import asdict, dataclass, field

import numpy as np

from efface.defacing.edit import Edit
from efface.defacing.method import DefacingMethod


@dataclass(frozen=True)
class Params:
    depth_vox: int = field(default=5, metadata={"help": "voxels to remove in front", "minimum": 1})


def plan(anatomy, params):
    mask = np.zeros(anatomy.scan.shape, bool)
    mask[:, -params.depth_vox :] = True
    return Edit(mask, 0.0, "toy", params=asdict(params))


METHOD = DefacingMethod("toy", "Toy", "cuts the front", "toy2026", "nobody", "#000000", Params, plan, external_note="no")
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A new method: one file, and one line in the registry."""
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    spec = importlib.util.spec_from_file_location("toy", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(registry._METHODS, "toy", module.METHOD)
    return module


@pytest.mark.usefixtures("toy")
def test_a_new_method_is_one_file_and_one_line(anatomy, capsys):
    edit = defacing.plan(anatomy, "toy", {"depth_vox": "4"})
    assert edit.mask.sum() == 4 * edit.mask[:, -1].size
    assert edit.params == {"depth_vox": 4}
    with pytest.raises(InputError, match=r"toy: depth_vox must be a whole number of at least 1; received 0"):
        defacing.plan(anatomy, "toy", {"depth_vox": 0})
    code, listing, _ = run(capsys, "methods")
    assert code == 0
    assert re.search(r"^  toy .*cuts the front", listing, re.MULTILINE)


@pytest.mark.usefixtures("toy")
def test_a_new_method_can_be_run_from_the_command_line(anatomy, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("efface.anatomy.head_anatomy.brain_mask", lambda data: anatomy.brain)
    monkeypatch.setattr("efface.anatomy.head_anatomy.find_pose", lambda *_: anatomy.registration)
    words = ("deface", anatomy.scan.path, tmp_path / "out.nii", "--method", "toy", "--param", "depth_vox=3")
    code, said, error = run(capsys, *words)
    assert (code, error) == (0, "")
    assert "toy edited" in said
    assert not load_scan(tmp_path / "out.nii").data[:, -3:].any()


# Parameters

WRONG = {
    ("defacer", "incomplete"): ["", "Edit", None, 1],
    ("defacer", "margin_mm"): ["abc", "", None, [2], -0.1, 50.1, "nan", np.inf],
    ("defacer", "mouth_margin_mm"): ["abc", None, -0.1, 50.1, np.nan, "inf"],
    ("defacer", "version"): ["", "0.3", None, 0.2],
    ("quickshear", "buffer"): ["abc", "", None, True, -1, -0.001, np.nan, np.inf],
    ("quickshear", "variant"): ["improved", "", None, 3],
    ("mri_deface", "margin_mm"): ["abc", None, -1, np.nan, np.inf],
    ("mri_deface", "shell_mm"): ["abc", None, -1, np.nan],
    ("mri_deface", "distance"): ["abc", None, -1, np.nan],
    ("mri_deface", "face_prior"): ["abc", None, -1, 1.5, np.nan],
    ("pydeface", "outside"): ["", "crop", None, 0],
    ("fsl_deface", "nudge"): ["abc", "1,2", "1,2,3,4", (1, 2), 5, None, (0, 0, np.nan), "0,0,inf"],
    ("mri_reface", "margin_mm"): ["abc", None, -0.1, np.nan, -np.inf, np.inf],
    ("mri_reface", "taper_mm"): ["abc", None, -0.1, np.nan, -np.inf, np.inf],
    ("reshape", "strength"): ["abc", None, -0.1, 1.1, np.nan, np.inf],
    ("reshape", "margin_mm"): ["abc", None, -0.1, np.nan, -np.inf, np.inf],
}


def test_every_parameter_has_wrong_values_to_test():
    assert set(WRONG) == {(name, row.name) for name, record in METHODS.items() for row in describe(record.params)}


@pytest.mark.parametrize(
    ("method", "name", "value"), [(method, name, value) for (method, name), values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_before_anything_is_computed(tmp_path, method, name, value):
    bare = HeadAnatomy(load_scan(phantom.write(tmp_path / "bare.nii").path))
    with pytest.raises(InputError, match=f"^{method}: {name} must be .*; received ") as caught:
        defacing.plan(bare, method, {name: value})
    assert "\n" not in str(caught.value)
    assert not bare.knows_brain


RESERVED = ("anatomy", "image", "method", "implementation", "protect_brain", "header", "apply_to", "params", "self")


@method
@pytest.mark.parametrize("name", ["smoothness", "program", *RESERVED])
def test_an_unknown_parameter_is_refused_and_the_known_are_listed(anatomy, method, name):
    with pytest.raises(InputError, match=f"^{method} has no parameter {name}; expected ") as caught:
        defacing.plan(anatomy, method, {name: "x"})
    assert all(row.name in str(caught.value) for row in describe(METHODS[method].params))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "pair"),
    [
        ("quickshear", "buffer=abc"),
        ("mri_deface", "margin_mm=abc"),
        ("defacer", "margin_mm=abc"),
        ("mri_reface", "taper_mm=abc"),
        ("reshape", "strength=2"),
        ("pydeface", "outside=1"),
        ("fsl_deface", "nudge=1"),
        *(("pydeface", f"{name}=0") for name in (*RESERVED, "brain_mask", "segmenter")),
    ],
)
def test_the_command_line_says_in_one_line_what_is_wrong_with_a_parameter(capsys, anatomy, tmp_path, method, pair):
    out = tmp_path / "out.nii"
    code, said, error = run(capsys, "deface", anatomy.scan.path, out, "--method", method, "--param", pair)
    assert (code, said, error.count("\n")) == (2, "", 1)
    assert pair.partition("=")[0] in error
    assert not out.exists()


def test_parameters_given_as_text_give_the_same_edit_as_values(anatomy):
    for name, values in {
        "defacer": {"margin_mm": 0.0, "incomplete": "edit"},
        "quickshear": {"buffer": 2.5, "variant": "fixed"},
        "mri_deface": {"margin_mm": 5.0, "face_prior": 0.001},
        "pydeface": {"outside": "keep"},
        "fsl_deface": {"nudge": (1.0, -2.5, 3.0)},
        "mri_reface": {"margin_mm": 5.0, "taper_mm": 2.0},
        "reshape": {"strength": 0.5, "margin_mm": 4.0},
    }.items():
        texts = {key: ",".join(map(str, v)) if isinstance(v, tuple) else str(v) for key, v in values.items()}
        expected, edit = defacing.plan(anatomy, name, values), defacing.plan(anatomy, name, texts)
        assert np.array_equal(edit.mask, expected.mask), name
        assert np.array_equal(edit.values, expected.values), name
        assert json.dumps(edit.params) == json.dumps(expected.params), name
