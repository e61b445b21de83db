"""The whole path on a virtual person: nothing stands in, every process is real."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from efface.simulation.cohort import make_cohort
from efface.study import load_tables

pytestmark = pytest.mark.slow
METHODS = ("mri_reface",)
"""One that needs everything that is found in a head: each method more costs a segmentation."""


def efface(*words):
    command = [sys.executable, "-m", "efface.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    bids_dir, out_dir = root / "cohort", root / "out"
    make_cohort(bids_dir, people=1, sessions=1)
    done = efface("study", bids_dir, out_dir, "participant", "--methods", ",".join(METHODS))
    assert done.returncode == 0, done.stderr
    return bids_dir, out_dir


def test_group_level_gives_tables_figure_and_report(study):
    bids_dir, out_dir = study
    done = efface("study", bids_dir, out_dir, "group")
    assert done.returncode == 0, done.stderr
    for name in ("dice.tsv", "edits.tsv", "failures.tsv", "report.html", "figures/figure2_dice.svg"):
        assert (out_dir / name).is_file(), name
    tables = load_tables(out_dir)
    assert tables.failures.empty
    whole = tables.dice[tables.dice.level == "whole brain"]
    assert set(whole.method) == set(METHODS)
    assert (whole.value > 0.98).all()


def test_the_face_goes_and_the_true_brain_stays(study):
    bids_dir, out_dir = study
    truth = next(bids_dir.rglob("*_desc-brain_mask.nii.gz"))
    brain = np.asarray(nib.load(truth).dataobj) > 0
    before = np.asarray(nib.load(next(bids_dir.glob("sub-*/**/*_T1w.nii.gz"))).dataobj)
    for method in METHODS:
        after = np.asarray(nib.load(next(out_dir.rglob(f"*_desc-{method.replace('_', '')}_T1w.nii.gz"))).dataobj)
        changed = np.asarray(nib.load(next(out_dir.rglob(f"*_desc-{method.replace('_', '')}_mask.nii.gz"))).dataobj) > 0
        np.testing.assert_array_equal(before[~changed], after[~changed])
        bright = before > 0.3 * np.percentile(before, 99)
        assert (bright & changed).sum() > 0.02 * bright.sum(), method
        assert (changed & brain).sum() < 0.01 * brain.sum(), method


def test_a_second_run_says_that_all_is_there(study):
    bids_dir, out_dir = study
    done = efface("study", bids_dir, out_dir, "participant", "--methods", ",".join(METHODS))
    assert done.returncode == 0
    assert "up to date" in done.stderr
    assert "0 computed" in done.stdout


def test_a_corrupt_scan_is_listed_and_the_exit_code_is_1(study):
    bids_dir, out_dir = study
    folder = bids_dir / "sub-broken/anat"
    folder.mkdir(parents=True)
    (folder / "sub-broken_T1w.nii.gz").write_bytes(b"\x1f\x8b\x08broken")
    done = efface("study", bids_dir, out_dir, "participant", "--methods", ",".join(METHODS))
    assert done.returncode == 1
    assert "failed: sub-broken original (load)" in done.stderr
    assert "Traceback" not in done.stderr
