"""Bad input gets one line and exit code 2; nothing is lost, and no partial file is left."""

import errno
import os
import shutil

import nibabel as nib
import numpy as np
import pytest

import bids_dataset
import phantom
from cli_runner import run
from efface.cli import methods


@pytest.fixture
def scan(tmp_path, monkeypatch):
    bids_dataset.stand_in(monkeypatch)
    return phantom.write(tmp_path / "in.nii.gz", "LPS").path


BAD = {
    "no such scan": ("deface {missing} {new}", "does not exist"),
    "no such scan to segment": ("segment {missing} {new}", "does not exist"),
    "no such scans to judge": ("qc {missing} {missing}", "does not exist"),
    "no labels": ("compare {missing} {missing}", "does not exist"),
    "no data set": ("study {missing} {folder}/out participant", "does not exist"),
    "a parameter of no method": ("study {folder} {folder}/out participant --param buffer=5", "quickshear.buffer=10"),
    "a parameter of a method that is not run": (
        "study {folder} {folder}/out participant --methods pydeface --param quickshear.buffer=5",
        "of what is run",
    ),
    "an unknown parameter in a study": (
        "study {folder} {folder}/out participant --param quickshear.bufer=5",
        "bufer",
    ),
    "no study to collect": ("study {folder} {missing} group", "efface study"),
    "no study to report": ("report {folder}", "efface study"),
    "no study to review": ("review {folder} --no-browser", "efface study"),
    "no study to attack": ("privacy {folder}", "efface study"),
    "no jobs to attack with": ("privacy {folder} --jobs 0", "--jobs must be 1 or more; received 0"),
    "no download": ("dataset kirby21 {missing} {folder}/bids", "does not exist"),
    "unknown method": ("deface {scan} {new} --method knife", "expected one of defacer, quickshear"),
    "unknown demo method": ("demo {folder}/demo --methods knife", "methods must be among"),
    "unknown implementation": ("deface {scan} {new} --implementation mine", "native, original"),
    "unknown parameter": ("deface {scan} {new} --method quickshear --param sharp=1", "no parameter sharp"),
    "no number": ("deface {scan} {new} --method quickshear --param buffer=abc", "buffer must be a number"),
    "a word of the call": ("deface {scan} {new} --param method=x", "no parameter method"),
    "another word of the call": ("deface {scan} {new} --param protect_brain=0", "no parameter protect_brain"),
    "a parameter of the output": ("deface {scan} {new} --param header=keep", "no parameter header"),
    "a parameter without a value": ("deface {scan} {new} --param sharp", "name=value"),
    "a parameter with an empty value": ("deface {scan} {new} --param outside=", "outside must be one of"),
    "a parameter given twice": ("deface {scan} {new} --param outside=keep --param outside=remove", "given twice"),
    "a program for a native method": ("deface {scan} {new} --program /bin/true", "no parameter program"),
    "output exists": ("deface {scan} {taken}", "--force"),
    "mask exists": ("deface {scan} {new} --mask-out {taken}", "--force"),
    "labels exist": ("segment {scan} {taken}", "--force"),
    "volumes exist": ("segment {scan} {new} --volumes {table}", "--force"),
    "table exists": ("compare {scan} {scan} --out {table}", "--force"),
    "verdict exists": ("qc {scan} {scan} --json {table}", "--force"),
    "no folder for the output": ("deface {scan} {folder}/no/x.nii.gz", "does not exist"),
    "unknown suffix": ("deface {scan} {folder}/x.png", ".nii.gz"),
    "unknown segmenter": ("segment {scan} {new} --segmenter knife", "slant, atlas"),
    "unknown parameter of a segmenter": ("segment {scan} {new} --param segmenter=x", "no parameter segmenter"),
    "weights without slant": ("segment {scan} {new} --segmenter atlas --slant-weights {folder}", "--segmenter slant"),
    "no command": ("", "--help"),
    "unknown command": ("effface", "--help"),
    "no jobs": ("study {bids} {folder}/out participant --jobs 0", "--jobs must be 1 or more; received 0"),
    "no memory": ("study {bids} {folder}/out participant --memory 0", "--memory must be more than 0"),
    "unknown measure": ("study {bids} {folder}/out participant --measures length", "dice, volume, distance"),
    "unknown rescan": (
        "study {bids} {folder}/out participant --rescan warp",
        "rigid, affine, deformable, halfway, none",
    ),
    "pairs that are not there": ("study {bids} {folder}/out participant --rescan-pairs {missing}", "cannot be read"),
    "pairs without columns": ("study {bids} {folder}/out participant --rescan-pairs {table}", "lack the column"),
    "pairs without rescans": (
        "study {bids} {folder}/out participant --rescan none --rescan-pairs {table}",
        "received rescan none",
    ),
    "no time": ("study {bids} {folder}/out participant --step-limit 0", "seconds above 0; received 0"),
    "a filter that is no JSON": ("study {bids} {folder}/out participant --bids-filter {{", "filter"),
    "an option of another data set": ("dataset oasis3 {folder} {folder}/b --contrasts FLAIR", "not an option of oasis3"),
    "everybody and some": ("dataset oasis3 {folder} {folder}/b --all --subjects 3", "--all takes every person"),
}


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_exit_code_2(capsys, scan, tmp_path, case):
    text, expected = BAD[case]
    taken, table = tmp_path / "taken.nii.gz", tmp_path / "taken.tsv"
    for path in (taken, table):
        path.write_bytes(b"precious")
    bids = bids_dataset.make(tmp_path / "bids", scans=("sub-01",))
    folder = tmp_path / "folder"
    folder.mkdir()
    paths = {"scan": scan, "taken": taken, "table": table, "bids": bids, "folder": folder}
    paths |= {"missing": tmp_path / "none.nii.gz", "new": tmp_path / "new.nii.gz"}
    before = snapshot(tmp_path)
    code, said, error = run(capsys, *text.format(**paths).split())
    assert code == 2
    assert said == ""
    assert error.count("\n") == 1, error
    assert error.startswith("efface: error: ")
    assert expected in error
    assert snapshot(tmp_path) == before


# No output is ever an input, with --force or without


def same(path, how, folder):
    """Another name of the same file."""
    if how == "itself":
        return path
    if how == "another spelling":
        return folder / "sub" / ".." / path.name
    other = folder / f"{how.replace(' ', '_')}{''.join(path.suffixes)}"
    os.link(path, other) if how == "hard link" else other.symlink_to(path)
    return other


OVERWRITES = {
    "deface: scan by the defaced scan": "deface {a} {A} --force",
    "deface: scan by the mask": "deface {a} {new} --mask-out {A} --force",
    "deface: brain mask by the mask": "deface {b} {new} --brain-mask {a} --mask-out {A} --force",
    "deface: brain mask by the defaced scan": "deface {b} {A} --brain-mask {a} --force",
    "deface: other image by the defaced scan": "deface {b} {A} --apply-to {a} {new} --force",
    "deface: other image by itself": "deface {b} {new} --apply-to {a} {A} --force",
    "segment: scan by the labels": "segment {a} {A} --force",
    "segment: scan by the volumes": "segment {a} {new} --volumes {A} --force",
    "compare: first labels by the table": "compare {a} {b} --out {A} --force",
    "compare: second labels by the table": "compare {b} {a} --out {A} --force",
    "qc: original by the verdict": "qc {a} {b} --json {A} --force",
    "qc: defaced by the verdict": "qc {b} {a} --json {A} --force",
    "qc: brain mask by the verdict": "qc {b} {b} --brain-mask {a} --json {A} --force",
}


@pytest.mark.parametrize("how", ["itself", "another spelling", "symbolic link", "hard link"])
@pytest.mark.parametrize("case", OVERWRITES)
def test_no_output_is_ever_an_input(capsys, scan, tmp_path, case, how):
    (tmp_path / "sub").mkdir()
    other = tmp_path / "b.nii.gz"
    shutil.copy(scan, other)
    output = same(scan, how, tmp_path)
    before = snapshot(tmp_path)
    words = OVERWRITES[case].format(a=scan, A=output, b=other, new=tmp_path / "new.nii.gz").split()
    code, said, error = run(capsys, *words)
    assert code == 2
    assert said == ""
    assert "is an input" in error
    assert error.count("\n") == 1
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "text",
    [
        "deface {scan} {new} --mask-out {new}",
        "deface {scan} {new} --apply-to {other} {new}",
        "deface {scan} {new} --apply-to {other} {two} --apply-to {other} {two}",
        "segment {scan} {new} --volumes {new}",
    ],
)
def test_two_outputs_are_never_one_file(capsys, scan, tmp_path, text):
    other = tmp_path / "b.nii.gz"
    shutil.copy(scan, other)
    words = text.format(scan=scan, other=other, new=tmp_path / "n.nii.gz", two=tmp_path / "m.nii.gz").split()
    code, _, error = run(capsys, *words)
    assert code == 2
    assert "is given twice" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.nii.gz", "in.nii.gz"]


# What the machine refuses


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/out/x.nii.gz"),
            "/out/x.nii.gz: no space left on device: free",
        ),
        (OSError(errno.EACCES, "Permission denied", "/out"), "/out: permission denied: check the path"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only file system: check the path"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_one_line(capsys, monkeypatch, error, expected):
    def refuse(_options):
        raise error

    monkeypatch.setattr(methods, "run", refuse)
    code, said, text = run(capsys, "methods")
    assert code == 2
    assert said == ""
    assert expected in text
    assert text.count("\n") == 1


def test_a_fault_of_efface_itself_keeps_its_traceback(capsys, monkeypatch):
    def broken(_options):
        raise ZeroDivisionError

    monkeypatch.setattr(methods, "run", broken)
    with pytest.raises(ZeroDivisionError):
        run(capsys, "methods")


def test_a_mask_of_another_grid_leaves_nothing(capsys, scan, tmp_path):
    image = nib.load(scan)
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8)[1:], image.affine), tmp_path / "brain.nii.gz")
    before = snapshot(tmp_path)
    code, _, error = run(capsys, "deface", scan, tmp_path / "o.nii.gz", "--brain-mask", tmp_path / "brain.nii.gz")
    assert code == 2
    assert "grid" in error
    assert snapshot(tmp_path) == before


def raise_interrupt(_options):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("command", "goes_on"), [("methods", False), ("demo", True)])
def test_only_a_command_that_goes_on_says_so_when_it_is_interrupted(monkeypatch, capsys, tmp_path, command, goes_on):
    monkeypatch.setattr(f"efface.cli.{command}.run", raise_interrupt)
    code, _, err = run(capsys, command, *([tmp_path / "demo"] if goes_on else []))
    assert code == 130
    assert ("the same command goes on from here" in err) == goes_on
