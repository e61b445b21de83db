"""Units and affines that headers state: what is believed, what is warned of, refused; no header costs memory."""

import json
import re
import struct

import nibabel as nib
import numpy as np
import pytest

import bids_dataset
import phantom
from cli_runner import run
from efface.anatomy.landmark_network import network_grid
from efface.anatomy.pose_network import predict
from efface.anatomy.skin import smoothed
from efface.anatomy.upright import upright_grid
from efface.errors import InputError
from efface.io.header_geometry import LONGEST_SIDE_MM
from efface.io.label_images import load_labels, load_mask
from efface.io.scan import load_scan
from efface.spatial.resampling import block_mean
from efface.spatial.types import Grid, Volume
from efface.study.session_registration import padded

CODES = {"metres": 1, "mm": 2, "microns": 3, "unknown": 0, "odd": 5}
PER_MM = {"metres": 1e-3, "mm": 1.0, "microns": 1e3}


def header_with(*fields, affine=None, data=None):
    """A NIfTI file of the phantom with some bytes of its header changed: (place, struct format, values...)."""
    data = phantom.head().values.astype("<i2") if data is None else data
    raw = bytearray(phantom.nifti_bytes(data, phantom.stored_affine("RAS") if affine is None else affine))
    for place, kind, *values in fields:
        struct.pack_into(kind, raw, place, *values)
    return bytes(raw)


def in_unit(numbers_in, says, orientation="RAS"):
    """The phantom with an affine in one unit and a header that says another one."""
    affine = np.diag([PER_MM[numbers_in]] * 3 + [1.0]) @ phantom.stored_affine(orientation)
    data = phantom.reorient(phantom.head().values.astype("<i2"), orientation)
    return header_with((123, "<B", CODES[says] + 8), affine=affine, data=data)


@pytest.fixture
def loaded(tmp_path):
    def load(content, name="head.nii"):
        (tmp_path / name).write_bytes(content)
        return load_scan(tmp_path / name)

    return load


UNITS = {
    ("mm", "mm"): None,
    ("mm", "unknown"): None,
    ("mm", "odd"): r"unknown unit \(code 5\); it is read in mm",
    ("metres", "metres"): "header is in metres and is left so; programs that take its numbers for mm will misread it",
    ("microns", "microns"): "header is in microns and is left so",
    (
        "mm",
        "metres",
    ): r"in metres: a field of view of 180,000 x 216,000 x 220,000 mm, .* read in mm \(180 x 216 x 220 mm\)",
    ("metres", "mm"): r"in mm: a field of view of 0.18 x 0.216 x 0.22 mm, .* read in metres \(180 x 216 x 220 mm\)",
    ("metres", "unknown"): "without a unit, which means mm: a field of view of 0.18 .* read in metres",
    ("microns", "mm"): "in mm: a field of view of 180,000 .* read in microns",
    ("mm", "microns"): "in microns: a field of view of 0.18 .* read in mm",
}


@pytest.mark.parametrize(("numbers_in", "says"), UNITS)
def test_a_head_is_as_large_as_a_head_whatever_the_header_says(loaded, tmp_path, numbers_in, says):
    scan = loaded(in_unit(numbers_in, says, "LPS"))
    np.testing.assert_allclose(scan.affine, phantom.head().affine, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(scan.spacing_mm, phantom.SPACING_MM, rtol=1e-6)
    expected = UNITS[numbers_in, says]
    if expected is None:
        assert scan.warnings == ()
    else:
        (warning,) = scan.warnings
        assert warning.startswith(f"{tmp_path / 'head.nii'}: the header is") or says == "odd"
        assert re.search(expected, warning)
    scan.save(tmp_path / "out.nii")
    assert (tmp_path / "out.nii").read_bytes() == (tmp_path / "head.nii").read_bytes()


@pytest.mark.parametrize("numbers_in", PER_MM)
def test_a_mask_has_the_affine_and_the_unit_of_its_scan(loaded, tmp_path, numbers_in):
    scan = loaded(in_unit(numbers_in, numbers_in, "PSR"))
    scan.save_like(phantom.head().brain, tmp_path / "mask.nii")
    scan_image, mask_image = nib.load(tmp_path / "head.nii"), nib.load(tmp_path / "mask.nii")
    np.testing.assert_allclose(mask_image.affine, scan_image.affine, rtol=1e-5)
    assert mask_image.header.get_xyzt_units()[0] == scan_image.header.get_xyzt_units()[0]
    assert np.array_equal(load_mask(tmp_path / "mask.nii", scan), phantom.head().brain)


def test_a_mask_in_mm_fits_a_scan_in_metres(loaded, tmp_path):
    scan = loaded(in_unit("metres", "metres"))
    loaded(in_unit("mm", "mm"), "plain.nii").save_like(phantom.head().brain, tmp_path / "mask.nii")
    assert np.array_equal(load_mask(tmp_path / "mask.nii", scan), phantom.head().brain)
    assert np.allclose(load_labels(tmp_path / "mask.nii")[1], scan.stored_affine, atol=1e-4)


@pytest.mark.parametrize(("numbers_in", "says"), [("metres", "metres"), ("microns", "mm")])
def test_a_header_in_another_unit_changes_no_byte_outside_the_edit(tmp_path, capsys, monkeypatch, numbers_in, says):
    bids_dataset.stand_in(monkeypatch)
    words = ("--method", "quickshear", "--header", "keep")
    found = {}
    for name, content in (("mm", in_unit("mm", "mm")), ("other", in_unit(numbers_in, says))):
        (tmp_path / f"{name}.nii").write_bytes(content)
        out, mask = tmp_path / f"{name}_out.nii", tmp_path / f"{name}_mask.nii"
        code, _, error = run(capsys, "deface", tmp_path / f"{name}.nii", out, *words, "--mask-out", mask)
        assert (code, "the header is in" in error) == (0, name == "other")
        found[name] = out.read_bytes()
        changed = np.asanyarray(nib.load(mask).dataobj)
    assert changed.any()
    assert found["other"][:352] == (tmp_path / "other.nii").read_bytes()[:352]
    assert found["other"][352:] == found["mm"][352:]


def test_the_quality_check_repeats_what_is_odd_about_the_headers(tmp_path, capsys, monkeypatch):
    bids_dataset.stand_in(monkeypatch, judged=True)
    paths = [tmp_path / "a.nii", tmp_path / "b.nii"]
    for path in paths:
        path.write_bytes(in_unit("metres", "metres"))
    code, said, error = run(capsys, "qc", *paths, "--json", tmp_path / "qc.json")
    assert (code, error.count("the header is in metres")) == (0, 2)
    assert len(json.loads((tmp_path / "qc.json").read_text())["warnings"]) == 2
    assert said


def test_the_affine_of_a_header_in_another_unit_is_that_of_the_same_header_in_mm(loaded):
    affine = loaded(in_unit("mm", "mm", "oblique")).affine
    for unit in ("metres", "microns"):
        np.testing.assert_allclose(loaded(in_unit(unit, unit, "oblique")).affine, affine, rtol=2e-7)


def test_mgh_converts_from_metres_to_mm(loaded, tmp_path):
    scan = loaded(in_unit("metres", "metres"))
    scan.save(tmp_path / "out.mgz")
    again = load_scan(tmp_path / "out.mgz")
    np.testing.assert_allclose(again.affine, phantom.head().affine, atol=1e-3)
    assert again.warnings == ()


def test_an_mgh_file_with_numbers_in_metres_is_read_so(loaded):
    affine = np.diag([1e-3] * 3 + [1.0]) @ phantom.stored_affine("RAS")
    scan = loaded(bytes(nib.MGHImage(phantom.head().values, affine).to_bytes()), "head.mgh")
    np.testing.assert_allclose(scan.affine, phantom.head().affine, rtol=1e-3, atol=0.1)
    assert "in mm: a field of view of 0.18 x 0.216 x 0.22 mm" in scan.warnings[0]


def test_an_mgh_file_that_does_not_say_how_the_head_lies_is_a_warning(loaded):
    raw = bytearray(nib.MGHImage(phantom.head().values, phantom.stored_affine("RAS")).to_bytes())
    raw[28:30] = bytes(2)
    scan = loaded(bytes(raw), "head.mgh")
    assert scan.spacing_mm.tolist() == [1, 1, 1]
    assert "does not say how the head lies; coronal slices of 1 mm are assumed" in scan.warnings[0]


def test_a_header_in_metres_is_given_to_other_programs_in_mm(loaded, tmp_path):
    scan = loaded(in_unit("metres", "metres", "LPS"))
    plain = scan.plain()
    plain.save(tmp_path / "plain.nii.gz")
    image = nib.load(tmp_path / "plain.nii.gz")
    np.testing.assert_allclose(image.affine, phantom.stored_affine("LPS"), atol=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert np.array_equal(plain.data, scan.data)
    ordinary = loaded(in_unit("mm", "mm"), "mm.nii")
    assert ordinary.plain() is ordinary


# Which affine is used

ZEROS = (280, "<12f", *[0.0] * 12)
BAD_QUATERNION = (256, "<f", 5.0)
NO_QFORM, NO_SFORM = (252, "<h", 0), (254, "<h", 0)
MIRRORED = (280, "<f", -4.5)


def test_a_valid_qform_is_used_beside_an_sform_of_zeros(loaded, tmp_path):
    scan = loaded(header_with(ZEROS))
    np.testing.assert_allclose(scan.stored_affine, phantom.stored_affine("RAS"), atol=1e-4)
    assert scan.warnings == (f"{tmp_path / 'head.nii'}: the sform is invalid; the qform is used",)
    scan.save(tmp_path / "out.nii")
    assert (tmp_path / "out.nii").read_bytes() == (tmp_path / "head.nii").read_bytes()
    np.testing.assert_allclose(scan.plain().to_nibabel().affine, phantom.stored_affine("RAS"), atol=1e-4)
    scan.save_like(phantom.head().brain, tmp_path / "mask.nii")
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii").affine, phantom.stored_affine("RAS"), atol=1e-4)


def test_an_sform_no_head_would_fit_in_gives_way_to_the_qform(loaded):
    scan = loaded(header_with((280 + 4 * 10, "<f", 0.001)))
    np.testing.assert_allclose(scan.spacing_mm, phantom.SPACING_MM, rtol=1e-6)
    assert scan.warnings[0].endswith("the sform has a field of view of 180 x 216 x 0.044 mm; the qform is used")


def test_a_valid_sform_is_used_beside_a_bad_qform(loaded):
    scan = loaded(header_with(BAD_QUATERNION))
    assert np.array_equal(scan.stored_affine, phantom.stored_affine("RAS"))
    assert scan.warnings[0].endswith("the qform is invalid; the sform is used")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((ZEROS, BAD_QUATERNION), "received the sform 0 0 0 0 .*, the qform invalid: convert"),
        ((ZEROS, NO_QFORM), "received the sform 0 0 0 0 .*, the qform is not set: convert"),
        ((BAD_QUATERNION, NO_SFORM), "received a qform with an invalid quaternion, the sform is not set: convert"),
        (((88, "<f", 0.0), NO_SFORM), "received the qform 4.5 0 0 -90 0 4.5 0 -98 0 0 0 -132, the sform is not set"),
        ((NO_QFORM, NO_SFORM), "does not say how the head lies"),
    ],
)
def test_without_a_valid_affine_the_refusal_says_what_each_one_is(loaded, fields, words):
    with pytest.raises(InputError, match=words) as caught:
        loaded(header_with(*fields))
    assert "\n" not in str(caught.value)


def test_forms_with_other_sides_are_a_warning_about_left_and_right(loaded):
    (warning,) = loaded(header_with(MIRRORED)).warnings
    assert "disagree by up to 351.0 mm (LAS and RAS: check left and right); the sform is used" in warning


def test_a_voxel_size_that_is_not_the_sform_s_is_a_warning(loaded):
    (warning,) = loaded(header_with(NO_QFORM, (88, "<f", 1.0))).warnings
    assert "voxel size (pixdim) is 4.5 x 4.5 x 1 and the sform's 4.5 x 4.5 x 5; the sform is used" in warning


# Sizes that no head has

SIZES = {
    "10 m": np.diag([50.0, 50, 50, 1]),
    "1e6 mm along one axis": np.diag([4.5, 1e6, 5, 1]),
    "0.001 mm along one axis": np.diag([4.5, 0.001, 5, 1]),
    "a tiny field of view": np.diag([0.2, 0.2, 0.2, 1]),
    "1e-6 mm": np.diag([1e-6, 1e-6, 1e-6, 1]),
    "a cube of 990 mm": np.diag([24.75, 20.625, 22.5, 1]),
}


@pytest.mark.parametrize("case", SIZES)
@pytest.mark.parametrize("command", ["deface", "segment", "qc"])
def test_a_size_no_head_has_is_refused_in_one_line(tmp_path, capsys, case, command):
    path, out = tmp_path / "head.nii", tmp_path / "out.nii"
    path.write_bytes(header_with(affine=SIZES[case]))
    words = (command, path, path) if command == "qc" else (command, path, out)
    code, said, error = run(capsys, *words)
    assert (code, said, error.count("\n")) == (2, "", 1)
    assert "field of view" in error or "singular or absurd affine" in error
    assert not out.exists()


def test_a_field_of_view_is_that_of_a_head_in_one_unit_only():
    assert LONGEST_SIDE_MM[1] < 1000 * LONGEST_SIDE_MM[0]


def far_apart(spacing_mm):
    """A volume of few voxels that claims to be large."""
    return Volume(np.ones((8, 8, 8), np.float32), np.diag([spacing_mm] * 3 + [1.0]))


@pytest.mark.parametrize(
    ("make", "spacing_mm"),
    [
        (lambda v: smoothed(v, 1.0), 500.0),
        (lambda v: smoothed(v, 4.0), 1e6),
        (lambda v: network_grid(v.grid), 1e5),
        (predict, 1e5),
        (lambda v: upright_grid(Volume(v.data, np.diag([1.0, *v.grid.spacing_mm[1:], 1.0])), np.eye(4)), 1e5),
        (lambda v: padded(v.grid), 1e-3),
    ],
)
def test_no_voxel_size_decides_how_much_memory_is_asked_for(make, spacing_mm):
    with pytest.raises(InputError, match=r"voxels; expected at most 256 million, as for a head: check the voxel size"):
        make(far_apart(spacing_mm))


def test_blocks_of_tiny_voxels_are_no_larger_than_the_volume():
    small = block_mean(far_apart(1e-6), 8.0)
    assert small.data.shape == (1, 1, 1)
    np.testing.assert_allclose(small.affine[:3, 3], 3.5e-6)


def test_an_ordinary_grid_is_made():
    volume = Volume(np.ones((40, 48, 44), np.float32), phantom.head().affine)
    assert smoothed(volume, 4.0).data.size > 0
    assert network_grid(Grid(volume.grid.shape, volume.affine)).shape == (40, 48, 48)
