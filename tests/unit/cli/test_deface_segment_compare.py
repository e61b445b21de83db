"""Commands for one scan: what they write and print."""

import nibabel as nib
import numpy as np
import pytest

import bids_dataset
import phantom
from cli_runner import run
from efface.defacing import METHODS
from efface.parameters import describe
from efface.segmentation import SEGMENTERS


@pytest.fixture
def scan(tmp_path, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    return phantom.write(tmp_path / "in.nii.gz", "LPS").path


@pytest.mark.parametrize("method", METHODS)
def test_deface_writes_scan_and_mask_on_the_own_grid(capsys, scan, tmp_path, method):
    out, mask = tmp_path / "out.nii.gz", tmp_path / "mask.nii.gz"
    code, said, _ = run(capsys, "deface", scan, out, "--method", method, "--mask-out", mask)
    assert code == 0
    assert method in said
    before, after, changed = (nib.load(p) for p in (scan, out, mask))
    np.testing.assert_array_equal(before.affine, after.affine)
    keep = np.asarray(changed.dataobj) == 0
    np.testing.assert_array_equal(np.asarray(before.dataobj)[keep], np.asarray(after.dataobj)[keep])
    assert not keep.all()


def test_the_same_command_gives_the_same_file(capsys, scan, tmp_path):
    outs = [tmp_path / f"{n}.nii.gz" for n in "ab"]
    for out in outs:
        assert run(capsys, "deface", scan, out)[0] == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_brain_is_protected_unless_asked(capsys, scan, tmp_path):
    brain = phantom.head().brain
    masks = []
    for flag in ([], ["--no-protect-brain"]):
        mask = tmp_path / f"mask{len(flag)}.nii.gz"
        words = ("--method", "quickshear", "--param", "buffer=0", "--mask-out", mask, *flag)
        assert run(capsys, "deface", scan, tmp_path / f"o{len(flag)}.nii.gz", *words)[0] == 0
        masks.append(np.asarray(nib.as_closest_canonical(nib.load(mask)).dataobj) > 0)
    assert not (masks[0] & brain).any()
    assert masks[0].sum() <= masks[1].sum()


def test_an_image_on_the_same_grid_is_defaced_alike(capsys, scan, tmp_path):
    other = phantom.write(tmp_path / "other.nii.gz", "RAS", "float32").path
    out = tmp_path / "o.nii.gz"
    code, _, _ = run(
        capsys,
        "deface",
        scan,
        out,
        "--apply-to",
        other,
        tmp_path / "other_out.nii.gz",
        "--mask-out",
        tmp_path / "m.nii.gz",
    )
    assert code == 0
    changed = np.asarray(nib.as_closest_canonical(nib.load(tmp_path / "m.nii.gz")).dataobj) > 0
    after = np.asarray(nib.load(tmp_path / "other_out.nii.gz").dataobj)
    before = np.asarray(nib.load(other).dataobj)
    assert not after[changed].any()
    np.testing.assert_array_equal(after[~changed], before[~changed])


def test_an_image_that_cannot_be_used_does_not_cost_the_scan_its_output(capsys, scan, tmp_path):
    good = phantom.write(tmp_path / "good.nii.gz", "RAS", "float32").path
    image = nib.load(scan)
    nib.save(image.slicer[:, :, :10], tmp_path / "slab.nii.gz")
    (tmp_path / "slab.json").write_text("{}")
    assert run(capsys, "deface", scan, tmp_path / "alone.nii.gz")[0] == 0
    words = (
        "--apply-to",
        tmp_path / "slab.nii.gz",
        tmp_path / "o_slab.nii.gz",
        "--apply-to",
        good,
        tmp_path / "o.nii.gz",
    )
    code, said, error = run(capsys, "deface", scan, tmp_path / "out.nii.gz", *words)
    assert code == 1
    assert "pydeface edited" in said
    lines = [line for line in error.splitlines() if line.startswith("efface: error")]
    assert len(lines) == 1
    assert lines[0].startswith(
        f"efface: error: {tmp_path / 'o_slab.nii.gz'} was not written: {tmp_path / 'slab.nii.gz'} "
    )
    assert (tmp_path / "out.nii.gz").read_bytes() == (tmp_path / "alone.nii.gz").read_bytes()
    assert (tmp_path / "o.nii.gz").is_file()
    assert not list(tmp_path.glob("o_slab*"))


def test_a_path_that_is_not_there_is_refused_before_anything_is_written(capsys, scan, tmp_path):
    words = ("--apply-to", tmp_path / "typo.nii.gz", tmp_path / "o.nii.gz")
    code, said, error = run(capsys, "deface", scan, tmp_path / "out.nii.gz", *words)
    assert (code, said) == (2, "")
    assert "typo.nii.gz does not exist" in error
    assert not list(tmp_path.glob("o*"))


def test_an_own_brain_mask_is_used_and_a_wrong_one_refused(capsys, scan, tmp_path):
    brain = tmp_path / "brain.nii.gz"
    image = nib.load(scan)
    data = np.zeros(image.shape, np.uint8)
    data[10:30, 15:35, 20:35] = 1
    nib.save(nib.Nifti1Image(data, image.affine), brain)
    words = ("--method", "quickshear", "--brain-mask", brain)
    assert run(capsys, "deface", scan, tmp_path / "a.nii.gz", *words)[0] == 0
    nib.save(nib.Nifti1Image(data[1:], image.affine), brain)
    code, _, error = run(capsys, "deface", scan, tmp_path / "b.nii.gz", *words)
    assert code == 2
    assert "grid" in error
    assert not (tmp_path / "b.nii.gz").exists()


def test_compare_prints_whole_brain_and_nine_regions_and_writes_all_labels(capsys, scan, tmp_path):
    image = nib.load(scan)
    labels = np.random.default_rng(0).choice([0, 4, 35, 59], image.shape).astype(np.int16)
    a, b = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    nib.save(nib.Nifti1Image(labels, image.affine), a)
    nib.save(nib.as_closest_canonical(nib.load(a)), b)
    code, said, _ = run(capsys, "compare", a, b, "--out", tmp_path / "t.tsv")
    assert code == 0
    assert "whole brain   1.0000" in said
    assert "caudate       n/a" in said
    lines = (tmp_path / "t.tsv").read_text().splitlines()
    assert len(lines) == 1 + 2 + 10 + 132
    assert lines[0].split("\t")[:4] == ["level", "region", "label", "dice"]


def test_methods_lists_every_method_and_segmenter(capsys):
    code, said, _ = run(capsys, "methods")
    assert code == 0
    for name in (*METHODS, *SEGMENTERS):
        assert f"  {name:<12} native" in said


def test_methods_lists_every_parameter_with_its_default(capsys):
    code, said, _ = run(capsys, "methods", "--params")
    assert code == 0
    for spec in (*METHODS.values(), *SEGMENTERS.values()):
        for row in describe(spec.params):
            assert f"--param   {row.name}={row.default}" in said
            assert row.help in said


@pytest.mark.parametrize("what", ["slant", "defacer", "priors"])
def test_training_commands_say_what_they_want(capsys, what):
    code, said, _ = run(capsys, "train", what, "--help")
    assert code == 0
    assert f"efface train {what}" in said
