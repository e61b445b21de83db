"""Series of volumes: the mean as a scan, and the same voxels gone in every volume, all others bit-identical."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from efface.errors import InputError
from efface.io.series import open_series

SHAPE, VOLUMES = (32, 34, 36), 5
AFFINE = np.array([[-4.0, 0, 0, 60], [0, 4.0, 0, -60], [0, 0, 4.0, -70], [0, 0, 0, 1]])


def write(path, dtype="<i2", slope=None, extension=True):
    rng = np.random.default_rng(3)
    values = (rng.uniform(0, 200, (*SHAPE, VOLUMES)) + 10).astype(dtype)
    header = nib.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(values, AFFINE, header)
    image.header["descrip"] = b"Miller^Anna"
    if slope:
        image.header.set_slope_inter(slope, -3.0)
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Miller^Anna"))
    nib.save(image, path)
    return path


def content(path):
    data = path.read_bytes()
    return gzip.decompress(data) if path.name.endswith(".gz") else data


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u1", "<f4", ">f8"])
@pytest.mark.parametrize("name", ["bold.nii", "bold.nii.gz"])
def test_only_the_chosen_voxels_change_in_every_volume(tmp_path, dtype, name):
    path = write(tmp_path / name, dtype, slope=2.0 if dtype == "<i2" else None)
    series = open_series(path)
    assert (series.shape, series.volumes) == (SHAPE, VOLUMES)
    mask = np.zeros(SHAPE, bool)
    mask[3:9, 20:, :12] = True
    out = tmp_path / f"out_{name}"
    assert series.save(out, mask, -3.0 if dtype == "<i2" else 0.0, policy="keep") == ()
    before, after = content(path), content(out)
    start = len(series.container.before)
    assert before[:start] == after[:start]
    a, b = (
        np.frombuffer(data[start:], series.container.dtype).reshape((*SHAPE, VOLUMES), order="F")
        for data in (before, after)
    )
    assert np.array_equal(a[~mask], b[~mask])
    assert not b[mask].any()
    assert a[mask].all()


def test_the_mean_is_that_of_all_volumes_in_the_place_of_the_series(tmp_path):
    path = write(tmp_path / "bold.nii.gz", slope=2.0)
    mean = open_series(path).mean()
    image = nib.load(path)
    expected = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(image.dataobj).mean(axis=-1), image.affine))
    np.testing.assert_allclose(mean.data, expected.get_fdata(), rtol=1e-5)
    np.testing.assert_allclose(mean.affine, expected.affine)
    assert mean.path == path


def test_text_of_the_header_goes_unless_it_is_kept(tmp_path):
    path = write(tmp_path / "bold.nii.gz")
    series = open_series(path)
    removed = series.save(tmp_path / "out.nii.gz", policy="scrub")
    assert set(removed) == {"descrip", "extensions"}
    assert b"Miller" in content(path)
    assert b"Miller" not in content(tmp_path / "out.nii.gz")
    again = nib.load(tmp_path / "out.nii.gz")
    assert np.array_equal(again.dataobj.get_unscaled(), nib.load(path).dataobj.get_unscaled())


def test_what_follows_the_voxels_goes_with_the_text(tmp_path):
    path = write(tmp_path / "bold.nii")
    path.write_bytes(path.read_bytes() + b"Miller^Anna")
    series = open_series(path)
    assert "bytes after the voxels" in series.save(tmp_path / "out.nii", policy="scrub")
    assert b"Miller" not in (tmp_path / "out.nii").read_bytes()
    series.save(tmp_path / "kept.nii", policy="keep")
    assert (tmp_path / "kept.nii").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["bold.nii", "bold.nii.gz"])
def test_a_truncated_series_is_refused_and_nothing_is_left(tmp_path, name):
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    series = open_series(path)
    with pytest.raises(InputError, match="truncated"):
        series.mean()
    with pytest.raises(InputError, match="truncated"):
        series.save(tmp_path / "out.nii.gz", policy="scrub")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_one_volume_is_no_series_and_complex_numbers_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), AFFINE), tmp_path / "t1.nii.gz")
    assert open_series(tmp_path / "t1.nii.gz") is None
    nib.save(nib.Nifti1Image(np.ones((*SHAPE, 2), np.complex64), AFFINE), tmp_path / "c.nii.gz")
    with pytest.raises(InputError, match="one real number a voxel"):
        open_series(tmp_path / "c.nii.gz")
    (tmp_path / "t.txt").write_text("text")
    with pytest.raises(InputError):
        open_series(tmp_path / "t.txt")
