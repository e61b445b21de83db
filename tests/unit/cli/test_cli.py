"""The command line: words, exit codes, one line for an error, nothing lost."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import bids_dataset
import efface
import phantom
from cli_runner import run
from efface.cli import build_parser
from efface.defacing import METHODS


@pytest.fixture
def scan(tmp_path, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    return phantom.write(tmp_path / "in.nii.gz", "LPS").path


def test_help_is_fast_because_nothing_heavy_is_imported():
    code = "import sys, efface.cli; efface.cli.build_parser(); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "torch", "nibabel", "SimpleITK", "pandas", "matplotlib"} & set(loaded)


def test_every_command_of_the_house_has_help():
    for command in ("deface", "segment", "compare", "study", "report", "review", "demo", "methods"):
        with pytest.raises(SystemExit) as stop:
            build_parser().parse_args([command, "--help"])
        assert stop.value.code == 0


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


def bad_commands(tmp_path, scan):
    missing = tmp_path / "none.nii.gz"
    taken = tmp_path / "taken.nii.gz"
    taken.write_bytes(b"precious")
    new = tmp_path / "new.nii.gz"
    return {
        "no such scan": (["deface", missing, new], "does not exist"),
        "unknown method": (["deface", scan, new, "--method", "knife"], "quickshear"),
        "unknown parameter": (["deface", scan, new, "--method", "quickshear", "--param", "sharp=1"], "sharp"),
        "parameter without value": (["deface", scan, new, "--param", "sharp"], "name=value"),
        "output exists": (["deface", scan, taken], "--force"),
        "output is the input": (["deface", scan, scan, "--force"], "is an input"),
        "two outputs in one": (["deface", scan, new, "--mask-out", new], "twice"),
        "no folder": (["deface", scan, tmp_path / "no" / "x.nii.gz"], "does not exist"),
        "unknown suffix": (["deface", scan, tmp_path / "x.png"], ".nii.gz"),
        "unknown command": (["effface"], "--help"),
        "no command": ([], "--help"),
        "unknown segmenter": (["segment", scan, new, "--segmenter", "knife"], "atlas"),
        "no labels": (["compare", missing, missing], "does not exist"),
        "no data set": (["study", tmp_path / "nothing", tmp_path / "out", "participant"], "does not exist"),
        "no jobs": (["study", tmp_path, tmp_path / "out", "participant", "--jobs", "0", "--skip-bids-validation"], ""),
        "no study": (["report", tmp_path], "efface study"),
    }


@pytest.mark.parametrize("case", bad_commands(Path("x"), Path("y")) if Path("x").is_dir() else [
    "no such scan", "unknown method", "unknown parameter", "parameter without value", "output exists",
    "output is the input", "two outputs in one", "no folder", "unknown suffix", "unknown command", "no command",
    "unknown segmenter", "no labels", "no data set", "no jobs", "no study",
])  # fmt: skip
def test_bad_input_gets_one_line_and_exit_code_2(capsys, scan, tmp_path, case):
    words, expected = bad_commands(tmp_path, scan)[case]
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    code, said, error = run(capsys, *words)
    assert code == 2
    assert said == ""
    assert error.count("\n") == 1
    assert expected in error
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


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
    assert len(lines) == 1 + 1 + 10 + 132
    assert lines[0].split("\t")[:4] == ["level", "region", "label", "dice"]


def test_methods_lists_every_method_and_segmenter(capsys):
    code, said, _ = run(capsys, "methods")
    assert code == 0
    for name in (*METHODS, "atlas"):
        assert name in said


@pytest.mark.parametrize("what", ["slant", "defacer", "priors"])
def test_training_commands_say_what_they_want(capsys, what):
    code, said, _ = run(capsys, "train", what, "--help")
    assert code == 0
    assert f"efface train {what}" in said


def test_the_python_functions_take_images_and_give_images(scan):
    image = nib.load(scan)
    defaced = efface.deface(image, method="quickshear")
    assert defaced.image.shape == image.shape
    changed = np.asarray(defaced.mask.dataobj) > 0
    np.testing.assert_array_equal(np.asarray(defaced.image.dataobj)[~changed], np.asarray(image.dataobj)[~changed])
    frame = efface.dice(defaced.mask, defaced.mask)
    assert frame.attrs["warnings"]  # 1 is no BrainCOLOR label
    assert efface.defacing.METHODS is METHODS
