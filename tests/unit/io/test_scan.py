"""A scan is its file's bytes: what is read, what is written back, what is refused and with which words."""

import dataclasses
import errno
import gzip
import os
import re
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phantom
from efface.errors import InputError, OutputError
from efface.io.label_images import load_labels, load_mask
from efface.io.nifti_mgh import Container
from efface.io.scan import Scan, load_scan

KINDS = {
    "nifti1": ("head.nii.gz", {}),
    "nifti1-scaled": ("head.nii.gz", {"scaled": True}),
    "nifti1-extension": ("head.nii", {"extension": True, "scaled": True}),
    "nifti2": ("head.nii", {"version": 2, "extension": True}),
}
MGH_DTYPES = ("uint8", ">i2", ">i4", ">f4")

orientation = pytest.mark.parametrize("orientation", phantom.ORIENTATIONS)
dtype = pytest.mark.parametrize("dtype", phantom.DTYPES)
kind = pytest.mark.parametrize("kind", KINDS)


def write(folder: Path, kind: str, orientation: str = "LPS", dtype: str = "int16") -> phantom.Stored:
    name, options = KINDS[kind]
    return phantom.write(folder / name, orientation, dtype, **options)


def edited(scan: Scan, mask: np.ndarray, value: float) -> Scan:
    """The scan with one intensity in an RAS+ mask."""
    ras = np.array(scan.stored_to_ras(scan.stored))
    ras[mask] = scan.encode(np.array(value))
    return scan.with_stored(scan.ras_to_stored(ras))


# Reading and writing back


@orientation
@dtype
@kind
def test_loading_gives_the_same_ras_data_from_any_storage(tmp_path, kind, orientation, dtype):
    truth = write(tmp_path, kind, orientation, dtype)
    scan = load_scan(truth.path)
    assert scan.shape == phantom.SHAPE
    assert scan.data.dtype == np.float32
    np.testing.assert_allclose(scan.data, truth.values, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(scan.affine, truth.affine, atol=1e-4)
    np.testing.assert_allclose(scan.spacing_mm, phantom.SPACING_MM, atol=1e-5)
    assert scan.stored.dtype == np.dtype(dtype)
    assert scan.warnings == ()


@orientation
@dtype
@kind
def test_saving_an_untouched_scan_gives_the_same_bytes(tmp_path, kind, orientation, dtype):
    truth = write(tmp_path, kind, orientation, dtype)
    for name in ("out.nii.gz", "out.nii"):
        load_scan(truth.path).save(tmp_path / name)
        assert phantom.file_bytes(tmp_path / name) == phantom.file_bytes(truth.path)


@orientation
@dtype
@kind
def test_after_an_edit_only_the_edited_voxels_differ(tmp_path, kind, orientation, dtype):
    truth = write(tmp_path, kind, orientation, dtype)
    mask = phantom.ellipsoid((20, 60, -40), (25, 30, 35))
    edited(load_scan(truth.path), mask, 0.0).save(tmp_path / "out.nii")

    before, after = phantom.file_bytes(truth.path), phantom.file_bytes(tmp_path / "out.nii")
    voxels = truth.stored.nbytes
    assert after[:-voxels] == before[:-voxels], "header or extension changed"
    stored = np.frombuffer(after[-voxels:], truth.stored.dtype).reshape(truth.stored.shape, order="F")
    inside = phantom.reorient(mask, orientation)
    assert np.array_equal(stored[~inside], truth.stored[~inside])
    slope, inter = phantom.SCALING if KINDS[kind][1].get("scaled") else (1.0, 0.0)
    assert np.all(stored[inside] * slope + inter == 0)
    assert (truth.stored[inside] * slope + inter != 0).any(), "the edit must have had something to remove"


def test_an_extension_is_in_the_output(tmp_path):
    truth = write(tmp_path, "nifti1-extension", dtype=">i2")
    edited(load_scan(truth.path), truth.inside, 3.0).save(tmp_path / "out.nii.gz")
    (extension,) = nib.load(tmp_path / "out.nii.gz").header.extensions
    assert extension.get_content() == phantom.EXTENSION


def test_bytes_after_the_voxels_and_odd_header_bytes_are_kept(tmp_path):
    truth = write(tmp_path, "nifti1-extension")
    raw = bytearray(truth.path.read_bytes()) + b"trailing"
    raw[4:14] = b"DATA_TYPE!"
    truth.path.write_bytes(raw)
    load_scan(truth.path).save(tmp_path / "out.nii")
    assert (tmp_path / "out.nii").read_bytes() == raw


def test_a_trailing_dimension_of_one_is_kept(tmp_path):
    truth = write(tmp_path, "nifti1")
    (tmp_path / "4d.nii").write_bytes(phantom.nifti_bytes(truth.stored[..., None], truth.stored_affine))
    scan = load_scan(tmp_path / "4d.nii")
    assert scan.shape == phantom.SHAPE
    scan.save(tmp_path / "out.nii")
    assert nib.load(tmp_path / "out.nii").shape == (*truth.stored.shape, 1)


def test_saving_on_another_day_gives_the_same_file(tmp_path, monkeypatch):
    scan = load_scan(write(tmp_path, "nifti1").path)
    for day, name in enumerate(("a", "b")):
        monkeypatch.setattr(time, "time", lambda now=86_400.0 * day: now)
        scan.save(tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_the_hash_is_of_the_content_not_of_the_compression(tmp_path):
    truth = write(tmp_path, "nifti1")
    scan = load_scan(truth.path)
    scan.save(tmp_path / "plain.nii")
    assert load_scan(tmp_path / "plain.nii").sha256 == scan.sha256
    assert edited(scan, truth.brain, 0.0).sha256 != scan.sha256


def test_stored_voxels_cannot_be_changed_in_place(tmp_path):
    scan = load_scan(write(tmp_path, "nifti1").path)
    for one in (scan, scan.with_stored(np.array(scan.stored))):
        with pytest.raises(ValueError, match="read-only"):
            one.stored[0, 0, 0] = 1


@pytest.mark.parametrize("change", [lambda a: a[1:], lambda a: a.astype(np.int32), lambda a: a.astype(">i2")])
def test_voxels_of_another_shape_or_dtype_are_refused(tmp_path, change):
    scan = load_scan(write(tmp_path, "nifti1").path)
    with pytest.raises(InputError, match=re.escape("must have shape (40, 48, 44) and dtype int16; received")):
        scan.with_stored(change(scan.stored))


@settings(deadline=None, max_examples=30)
@given(turn=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_any_rotation_has_a_ras_view_that_can_be_undone(turn):
    w, x, y, z = np.array(turn) / np.linalg.norm(turn)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) + 2 * w * cross + 2 * cross @ cross) * phantom.SPACING_MM
    stored = np.arange(7 * 8 * 9, dtype=np.int16).reshape(7, 8, 9)
    scan = Scan(None, Container(b"", b"", stored.dtype, affine, 1.0, 0.0, True), stored)
    assert np.array_equal(scan.ras_to_stored(scan.stored_to_ras(stored)), stored)
    assert np.linalg.det(scan.affine[:3, :3]) > 0
    for axis in range(3):
        assert np.abs(scan.affine[:3, axis]).max() > 0
    index = np.array([2, 3, 5])
    (found,) = np.argwhere(scan.data == stored[tuple(index)])
    np.testing.assert_allclose(scan.affine[:3, :3] @ found + scan.affine[:3, 3], affine[:3, :3] @ index, atol=1e-9)


# MGH


@orientation
@pytest.mark.parametrize("dtype", MGH_DTYPES)
def test_mgz_round_trip_gives_the_same_bytes(tmp_path, orientation, dtype):
    truth = phantom.write(tmp_path / "head.mgz", orientation, dtype)
    scan = load_scan(truth.path)
    assert np.array_equal(scan.data, truth.values)
    np.testing.assert_allclose(scan.affine, truth.affine, atol=1e-3)
    for name in ("out.mgz", "out.mgh"):
        scan.save(tmp_path / name)
        assert phantom.file_bytes(tmp_path / name) == phantom.file_bytes(truth.path)


def test_an_edited_mgz_keeps_its_footer_and_other_voxels(tmp_path):
    truth = phantom.write(tmp_path / "head.mgh", "PSR", ">i2")
    raw = truth.path.read_bytes() + b"\x00\x00\x00\x2atags after the voxels"
    truth.path.write_bytes(raw)
    edited(load_scan(truth.path), truth.brain, 0.0).save(tmp_path / "out.mgz")
    after = phantom.file_bytes(tmp_path / "out.mgz")
    end = 284 + truth.stored.nbytes
    assert (after[:284], after[end:]) == (raw[:284], raw[end:])
    voxels = np.frombuffer(after[284:end], ">i2").reshape(truth.stored.shape, order="F")
    assert np.array_equal(voxels, np.where(phantom.reorient(truth.brain, "PSR"), 0, truth.stored))


@orientation
@pytest.mark.parametrize("dtype", MGH_DTYPES)
def test_mgz_to_nifti_keeps_affine_dtype_and_values(tmp_path, orientation, dtype):
    truth = phantom.write(tmp_path / "head.mgz", orientation, dtype)
    load_scan(truth.path).save(tmp_path / "out.nii.gz")
    image = nib.load(tmp_path / "out.nii.gz")
    assert image.get_data_dtype() == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(np.asanyarray(image.dataobj), truth.stored)
    np.testing.assert_allclose(image.affine, truth.stored_affine, atol=1e-3)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert load_scan(tmp_path / "out.nii.gz").warnings == ()


@pytest.mark.parametrize(
    ("dtype", "written"),
    [("uint8", "u1"), ("int16", "i2"), (">i2", "i2"), ("uint16", "f4"), ("int32", "i4"), ("float64", "f4")],
)
def test_nifti_to_mgz_keeps_values_in_a_dtype_mgh_has(tmp_path, dtype, written):
    truth = phantom.write(tmp_path / "head.nii", "LPS", dtype)
    load_scan(truth.path).save(tmp_path / "out.mgz")
    image = nib.load(tmp_path / "out.mgz")
    assert image.get_data_dtype().str[1:] == written
    np.testing.assert_allclose(np.asanyarray(image.dataobj), truth.stored, rtol=1e-6)
    np.testing.assert_allclose(image.affine, truth.stored_affine, atol=1e-3)


def test_scaled_nifti_to_mgz_holds_scaled_intensities(tmp_path):
    truth = write(tmp_path, "nifti1-scaled")
    load_scan(truth.path).save(tmp_path / "out.mgz")
    assert np.array_equal(load_scan(tmp_path / "out.mgz").data, truth.values)


# Images in memory


@pytest.mark.parametrize("version", [1, 2])
def test_a_loaded_image_keeps_its_stored_numbers_and_scaling(tmp_path, version):
    truth = phantom.write(tmp_path / "head.nii", "LAS", "uint16", scaled=True, version=version)
    scan = load_scan(nib.load(truth.path))
    assert np.array_equal(scan.stored, truth.stored)
    assert (scan.slope, scan.inter) == phantom.SCALING
    assert (scan.path, scan.stored.dtype) == (None, np.dtype("uint16"))


def test_an_image_from_an_array_is_a_scan():
    truth = phantom.head()
    scan = load_scan(nib.Nifti1Image(truth.values, truth.affine))
    assert np.array_equal(scan.data, truth.values)
    assert np.array_equal(scan.affine, truth.affine)


def test_an_image_of_another_format_is_a_scan():
    truth = phantom.head()
    for image_class in (nib.MGHImage, nib.Spm99AnalyzeImage, nib.Nifti1Pair):
        scan = load_scan(image_class(truth.values.astype(np.int16), truth.affine))
        assert np.array_equal(scan.data, truth.values)


@pytest.mark.parametrize("source", [None, 3, phantom.head().values])
def test_something_that_is_no_image_is_refused(source):
    with pytest.raises(InputError, match=r"must be a path or a nibabel image; received (NoneType|int|ndarray)"):
        load_scan(source)


# What is refused: the file, and the words


def nifti(data: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return phantom.nifti_bytes(data, phantom.stored_affine("RAS") if affine is None else affine)


def head(dtype: str = "int16") -> np.ndarray:
    return phantom.head().values.astype(dtype)


def changed(at: tuple[int, int, int], value: float, dtype: str = "float32") -> bytes:
    data = head(dtype)
    data[at] = value
    return nifti(data)


def without_forms() -> bytes:
    raw = bytearray(nifti(head()))
    raw[252:256] = bytes(4)
    return bytes(raw)


def with_sform(matrix: np.ndarray) -> bytes:
    raw = bytearray(nifti(head()))
    raw[280:328] = matrix[:3].astype("<f4").tobytes()
    return bytes(raw)


def with_sform_alone(matrix: np.ndarray) -> bytes:
    raw = bytearray(with_sform(matrix))
    raw[252:254] = bytes(2)
    return bytes(raw)


def with_bytes(at: int, data: bytes) -> bytes:
    raw = bytearray(nifti(head()))
    raw[at : at + len(data)] = data
    return bytes(raw)


def nifti2_of_size(*shape: int) -> bytes:
    raw = bytearray(phantom.nifti_bytes(head(), phantom.stored_affine("RAS"), version=2))
    raw[24:48] = np.array(shape, "<i8").tobytes()
    return bytes(raw)


SINGULAR = np.diag([4.5, 4.5, 0, 1])
REFUSED = {
    "not an image": (lambda: b"some text, not an image\n" * 50, "is not a NIfTI .* or MGH .* image: convert it"),
    "an empty file": (lambda: b"", "is not a NIfTI"),
    "a few bytes": (lambda: b"\x00\x00\x00\x01", "is not a NIfTI"),
    "truncated gzip": (lambda: gzip.compress(nifti(head()))[:-5000], "is a truncated or corrupt gzip file .*: copy"),
    "gzip header only": (lambda: b"\x1f\x8b", "is a truncated or corrupt gzip file .*: copy"),
    "corrupt gzip": (lambda: gzip.compress(nifti(head()))[:5000] + bytes(5000), "is a truncated or corrupt gzip"),
    "truncated": (lambda: nifti(head())[:-1], "is truncated: its header announces 169312 bytes.* has 169311; copy"),
    "header only": (lambda: nifti(head())[:352], "is truncated: .* the file has 352; copy"),
    "4-D": (
        lambda: nifti(np.stack([head()] * 3, -1)),
        r"has 3 volumes \(shape \(40, 48, 44, 3\)\); expected one: extract",
    ),
    "2-D": (lambda: nifti(head()[:, :, 20]), r"has shape \(40, 48\); expected a 3-D head scan.*: give the whole"),
    "one slice": (lambda: nifti(head()[:, :, :1]), r"has shape \(40, 48, 1\); expected a 3-D head scan, not a slice"),
    "a slab": (
        lambda: nifti(head()[:13]),
        r"shows 58.5 x 216 x 220 mm \(13 x 48 x 44 voxels.*\); expected .* at least 60 mm and 16 voxels a side: give",
    ),
    "few slices": (
        lambda: nifti(head()[:, :15]),
        r"shows 180 x 67.5 x 220 mm \(40 x 15 x 44 voxels.* 16 voxels a side: give",
    ),
    "empty": (lambda: nifti(np.zeros((40, 48, 44), "u1")), r"is empty \(all zero\); expected a head scan: check"),
    "constant": (lambda: nifti(np.full((40, 48, 44), 7, "i2")), r"is constant \(all 7\); expected a head scan: check"),
    "NaN": (
        lambda: changed((3, 4, 5), np.nan),
        r"has 1 NaN or infinite voxels, the first at voxel \(3, 4, 5\) \(-76, -80, -107 mm\).*: replace",
    ),
    "infinite": (lambda: changed((1, 2, 3), -np.inf), r"has 1 NaN or infinite .* at voxel \(1, 2, 3\)"),
    "beyond float32": (lambda: changed((1, 2, 3), 1e300, "f8"), r"beyond 32-bit .* to 1e\+300.*; expected .*: check"),
    "complex": (lambda: nifti(head("complex64")), "holds complex64 voxels; expected one real number a voxel: convert"),
    "colours": (
        lambda: nifti(np.zeros((40, 48, 44), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "expected one real number a voxel: convert",
    ),
    "no affine": (without_forms, r"does not say how the head lies \(sform and qform codes are 0\): convert"),
    "singular affine": (
        lambda: with_sform_alone(SINGULAR),
        "has a singular .* affine; .* received the sform 4.5 0 0.*, the qform is not set",
    ),
    "parallel axes": (lambda: with_sform_alone(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]])), "has a singular"),
    "NaN affine": (lambda: with_sform_alone(np.full((3, 4), np.nan)), "has a singular"),
    "absurd affine": (lambda: with_sform_alone(np.eye(4) * 1e20), "has a singular or absurd affine"),
    "unknown dtype": (lambda: with_bytes(70, b"\x07\x00"), "has a header that cannot be read .*: copy"),
    "infinite inter": (lambda: with_bytes(112, np.array([1, np.inf], "<f4").tobytes()), "has a header that cannot"),
    "huge": (lambda: nifti2_of_size(40, 48, 2**40), "is truncated: its header announces"),
    "size beyond 64 bits": (lambda: nifti2_of_size(2**40, 48, 2**40), "is truncated: its header announces"),
}


def test_a_whole_head_of_few_thick_slices_is_taken(tmp_path):
    affine = phantom.stored_affine("RAS").copy()
    affine[:3, 2] *= 44 / 26 * 150 / 220
    (tmp_path / "thick.nii").write_bytes(phantom.nifti_bytes(head()[:, :, :26], affine))
    assert load_scan(tmp_path / "thick.nii").shape == (40, 48, 26)


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, case, capfd, caplog):
    make, words = REFUSED[case]
    path = tmp_path / "input.nii"
    path.write_bytes(make())
    with pytest.raises(InputError, match=words) as caught:
        load_scan(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path)), "the line must name the file"
    assert capfd.readouterr() == ("", ""), "nothing may be printed beside the error"
    assert caplog.records == [], "nothing may be logged beside the error"


def test_several_nan_are_counted(tmp_path):
    data = head("float32")
    data[5:7, 10, 20:23] = np.nan
    data[8, 8, 8] = np.inf
    (tmp_path / "head.nii").write_bytes(nifti(data))
    with pytest.raises(InputError, match=r"has 7 NaN or infinite voxels, the first at voxel \(5, 10, 20\)"):
        load_scan(tmp_path / "head.nii")


def test_the_location_of_a_nan_is_in_the_file_s_own_indices(tmp_path):
    data = phantom.reorient(head("float32"), "PSR").copy()
    data[2, 3, 4] = np.nan
    affine = phantom.stored_affine("PSR")
    (tmp_path / "head.nii").write_bytes(phantom.nifti_bytes(data, affine))
    x, y, z = np.round(affine[:3, :3] @ [2, 3, 4] + affine[:3, 3]).astype(int)
    with pytest.raises(InputError, match=rf"at voxel \(2, 3, 4\) \({x}, {y}, {z} mm\)"):
        load_scan(tmp_path / "head.nii")


@pytest.mark.parametrize("name", ["missing.nii.gz", "no/such/folder.nii", "x" * 300, "."])
def test_a_path_that_is_no_file_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(
        InputError, match=r"(does not exist; expected|is a folder; expected|too long).*: check"
    ) as caught:
        load_scan(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_refused_in_one_line(tmp_path, monkeypatch):
    path = write(tmp_path, "nifti1").path

    def closed(path: Path, *args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\): check its name and permissions"):
        load_scan(path)


def test_forms_that_disagree_are_a_warning_that_says_which_is_used(tmp_path):
    path = tmp_path / "head.nii"
    moved = phantom.stored_affine("RAS")
    moved[:3, 3] += (0, 7, 0)
    path.write_bytes(with_sform(moved))
    scan = load_scan(path)
    assert np.array_equal(scan.stored_affine, moved)
    assert scan.warnings == (f"{path}: sform and qform disagree by up to 7.0 mm; the sform is used",)


def test_forms_that_agree_within_rounding_are_no_warning(tmp_path):
    moved = phantom.stored_affine("RAS")
    moved[:3, 3] += 0.01
    (tmp_path / "head.nii").write_bytes(with_sform(moved))
    assert load_scan(tmp_path / "head.nii").warnings == ()


def test_a_qform_alone_is_used(tmp_path):
    (tmp_path / "head.nii").write_bytes(with_bytes(254, bytes(2)))
    scan = load_scan(tmp_path / "head.nii")
    np.testing.assert_allclose(scan.affine, phantom.stored_affine("RAS"), atol=1e-4)
    assert scan.warnings == ()


@pytest.mark.parametrize(
    ("at", "number"),
    [(256, np.nan), (256, np.inf), (260, 3.0), (268, np.nan), (268, -np.inf), (80, np.inf)],
    ids=[
        "quaternion NaN",
        "quaternion infinite",
        "quaternion too long",
        "offset NaN",
        "offset infinite",
        "voxel infinite",
    ],
)
def test_an_invalid_qform_beside_an_sform_is_a_warning(tmp_path, at, number):
    (tmp_path / "head.nii").write_bytes(with_bytes(at, np.full(1, number, "<f4").tobytes()))
    scan = load_scan(tmp_path / "head.nii")
    assert np.array_equal(scan.affine, phantom.stored_affine("RAS"))
    assert [text.split(": ")[1] for text in scan.warnings] == ["the qform is invalid; the sform is used"]


def test_what_the_reader_notes_about_a_header_is_a_warning_and_not_printed(tmp_path, caplog):
    (tmp_path / "head.nii").write_bytes(with_bytes(80, np.float32(-4.5).tobytes()))
    scan = load_scan(tmp_path / "head.nii")
    assert any("pixdim" in text for text in scan.warnings)
    assert caplog.records == []


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(["head.nii", "head.mgh", "version 2.nii"]),
    patches=st.lists(
        st.tuples(st.integers(0, 543), st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8))), max_size=4
    ),
    length=st.one_of(st.none(), st.integers(0, 600)),
    compress=st.booleans(),
)
def test_a_corrupt_header_gives_a_scan_or_one_line(tmp_path_factory, name, patches, length, compress):
    path = tmp_path_factory.getbasetemp() / name
    version = 2 if name.startswith("version") else 1
    raw = bytearray(phantom.file_bytes(phantom.write(path, "LPS", "int16", version=version, extension=True).path))
    for at, data in patches:
        raw[at : at + len(data)] = data
    raw = raw[:length]
    path.write_bytes(gzip.compress(raw, 1) if compress else raw)
    scan, refusal = None, ""
    try:
        scan = load_scan(path)
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal
    if scan is None:
        return
    assert np.isfinite(scan.data).all()
    assert np.isfinite(scan.affine).all()
    assert scan.ras_to_stored(scan.data).shape == scan.stored.shape


# Encoding


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(["u1", "i1", "<i2", ">i2", "u2"]),
    slope=st.floats(2**-10, 2**10, width=32),
    sign=st.sampled_from([1, -1]),
    ratio=st.integers(-10_000, 10_000),
    seed=st.integers(0, 2**32 - 1),
)
def test_encoding_undoes_the_scaling_of_every_integer(dtype, slope, sign, ratio, seed):
    limits = np.iinfo(dtype)
    shape = (5, 6, 7)
    stored = np.random.default_rng(seed).integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    stored[0, 0, :2] = limits.min, limits.max
    container = Container(b"", b"", stored.dtype, np.diag([-1.0, 1, 1, 1]), sign * slope, ratio * slope, True)
    scan = Scan(None, container, stored)
    assert np.array_equal(scan.ras_to_stored(scan.encode(scan.data)), stored)


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", [0, 0, 2, 2, 255]), ("int16", [-5, 0, 2, 2, 999])])
def test_encoding_rounds_half_to_even_and_clips(dtype, expected):
    stored = np.zeros((2, 3, 4), dtype)
    scan = Scan(None, Container(b"", b"", stored.dtype, np.eye(4), 1.0, 0.0, True), stored)
    assert scan.encode(np.array([-5, 0.5, 1.5, 2.5, 999])).tolist() == expected


# Masks, labels and maps on the scan's grid


@orientation
def test_a_saved_mask_lies_on_the_scan_s_grid_and_loads_back(tmp_path, orientation):
    truth = phantom.write(tmp_path / "head.nii.gz", orientation)
    scan = load_scan(truth.path)
    scan.save_like(truth.brain, tmp_path / "mask.nii.gz")
    image = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asanyarray(image.dataobj), phantom.reorient(truth.brain, orientation))
    np.testing.assert_allclose(image.affine, truth.stored_affine, atol=1e-4)
    mask = load_mask(tmp_path / "mask.nii.gz", scan)
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, truth.brain)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([True]), "uint8"),
        (np.array([0, 255], "i8"), "uint8"),
        (np.array([0, 256], "u4"), "int16"),
        (np.array([-1, 128]), "int16"),
        (np.array([0, 32768]), "int32"),
        (np.array([0, 2**31 - 1], "u8"), "int32"),
        (np.array([0.5]), "float32"),
        (np.array([1], "f4"), "float32"),
    ],
)
def test_values_are_saved_in_the_smallest_dtype_that_holds_them(tmp_path, values, expected):
    scan = load_scan(write(tmp_path, "nifti1").path)
    full = np.resize(values, scan.shape)
    scan.save_like(full, tmp_path / "out.nii")
    image = nib.load(tmp_path / "out.nii")
    assert image.get_data_dtype() == expected
    assert np.array_equal(scan.stored_to_ras(np.asanyarray(image.dataobj)), full)


def test_label_numbers_beyond_32_bits_are_refused(tmp_path):
    scan = load_scan(write(tmp_path, "nifti1").path)
    with pytest.raises(InputError, match=f"must fit in 32 bits; received 0 to {2**31}"):
        scan.save_like(np.resize([0, 2**31], scan.shape), tmp_path / "out.nii")
    assert not (tmp_path / "out.nii").exists()


def test_values_of_another_shape_are_refused(tmp_path):
    truth = phantom.write(tmp_path / "head.nii.gz", "PSR")
    with pytest.raises(InputError, match=re.escape("shape (40, 48, 44); received (48, 44, 40)")):
        load_scan(truth.path).save_like(truth.stored, tmp_path / "out.nii")
    assert not (tmp_path / "out.nii").exists()


def test_a_mask_of_another_shape_or_place_is_refused(tmp_path):
    scan = load_scan(phantom.write(tmp_path / "head.nii", "LPS").path)
    brain = phantom.reorient(phantom.head().brain, "LPS").astype("u1")
    affine = phantom.stored_affine("LPS")
    shifted = affine.copy()
    shifted[0, 3] += 1
    path = tmp_path / "mask.nii"
    for data, matrix, received in ((brain[1:], affine, "(39, 48, 44)"), (brain, shifted, "another affine")):
        path.write_bytes(phantom.nifti_bytes(data, matrix))
        with pytest.raises(InputError, match=re.escape(f"the scan's grid (40, 48, 44); received {received}")) as caught:
            load_mask(path, scan)
        assert str(path) in str(caught.value)


def test_an_empty_mask_is_refused(tmp_path):
    scan = load_scan(phantom.write(tmp_path / "head.nii", "LPS").path)
    (tmp_path / "mask.nii").write_bytes(phantom.nifti_bytes(np.zeros_like(scan.stored), scan.stored_affine))
    with pytest.raises(InputError, match="is empty; expected at least one non-zero voxel"):
        load_mask(tmp_path / "mask.nii", scan)


def test_labels_beyond_127_survive_and_scaling_is_applied(tmp_path):
    labels = (np.arange(phantom.head().values.size) % 208).reshape(phantom.SHAPE)
    affine = phantom.stored_affine("LPS")
    (tmp_path / "a.nii").write_bytes(phantom.nifti_bytes(labels.astype("u1"), affine))
    (tmp_path / "b.nii").write_bytes(phantom.nifti_bytes((2 * labels).astype(">i2"), affine, (0.5, 0.0)))
    for name in ("a.nii", "b.nii"):
        found, found_affine = load_labels(tmp_path / name)
        assert found.dtype == np.int32
        assert np.array_equal(found, labels)
        np.testing.assert_allclose(found_affine, affine, atol=1e-4)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2.5, "numbers that are not whole"),
        (np.nan, "numbers that are not whole"),
        (-1, "expected label numbers from 0"),
        (3e9, "expected label numbers from 0"),
        (np.inf, "expected label numbers from 0"),
    ],
)
def test_numbers_that_are_no_labels_are_refused(tmp_path, value, words):
    (tmp_path / "dseg.nii").write_bytes(changed((4, 4, 4), value))
    with pytest.raises(InputError, match=words) as caught:
        load_labels(tmp_path / "dseg.nii")
    assert "\n" not in str(caught.value)


# Outputs that cannot be written


def full_disk(path: Path, data: bytes) -> int:
    with path.open("wb") as stream:
        stream.write(data[: len(data) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("what", ["save", "save_like"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("taken.nii.gz", "exists already: give --force"),
        ("nowhere/out.nii.gz", "nowhere does not exist: create it"),
        ("out.img", "out.img must end in one of .nii, .nii.gz"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_in_one_line(tmp_path, what, name, words):
    scan = load_scan(write(tmp_path, "nifti2").path)
    (tmp_path / "taken.nii.gz").write_bytes(b"precious")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=re.escape(words)) as caught:
        getattr(scan, what)(*([scan.data] if what == "save_like" else []), tmp_path / name)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "taken.nii.gz").read_bytes() == b"precious"


def test_a_mask_is_not_written_as_mgz(tmp_path):
    scan = load_scan(write(tmp_path, "nifti2").path)
    with pytest.raises(OutputError, match=r"are written as .nii or .nii.gz; received mask.mgz"):
        scan.save_like(scan.data > 5, tmp_path / "mask.mgz")


@pytest.mark.parametrize("what", ["save", "save_like"])
def test_a_full_disk_leaves_no_partial_file(tmp_path, monkeypatch, what):
    scan = load_scan(write(tmp_path, "nifti2").path)
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OutputError, match="no space left to write"):
        getattr(scan, what)(*([scan.data] if what == "save_like" else []), out / "head.nii.gz")
    assert list(out.iterdir()) == []


def test_a_full_disk_keeps_the_input_that_was_to_be_overwritten(tmp_path, monkeypatch):
    truth = write(tmp_path, "nifti1")
    before = truth.path.read_bytes()
    scan = edited(load_scan(truth.path), truth.brain, 0.0)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OutputError, match="no space left"):
        scan.save(truth.path, force=True)
    assert truth.path.read_bytes() == before


def test_an_input_can_be_overwritten_with_force(tmp_path):
    truth = write(tmp_path, "nifti1")
    edited(load_scan(truth.path), truth.brain, 0.0).save(truth.path, force=True)
    assert np.array_equal(load_scan(truth.path).data, np.where(truth.brain, 0, truth.values))


def test_a_scan_is_frozen(tmp_path):
    scan = load_scan(write(tmp_path, "nifti1").path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scan.path = None
