"""The whole path of `efface share` on an average head: nothing stands in, every process is real."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import average_head
from cli_runner import run
from efface.io.programs import find_program
from efface.share.records import Became, read_table

pytestmark = pytest.mark.slow
T1, T2 = "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz"
BOLD = "sub-01/func/sub-01_task-rest_bold.nii.gz"


def efface(*words):
    command = [sys.executable, "-m", "efface.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def other_contrast(values):
    tissue = ndimage.gaussian_filter(values, 0.7) > 0.25 * np.percentile(values, 95)
    return np.where(tissue, 1.2 * np.percentile(values, 99) - values, values).clip(0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("share")
    raw, out = root / "raw", root / "out"
    for path in (T1, BOLD):
        (raw / path).parent.mkdir(parents=True)
    (raw / "dataset_description.json").write_text(json.dumps({"Name": "Average", "BIDSVersion": "1.9.0"}))
    (raw / "README").write_text("The average head, as a T1w image, in another contrast, and as a series.\n")
    fine, coarse = average_head.volume(2.0), average_head.volume(3.0)
    nib.save(nib.Nifti1Image(np.rint(fine.data).astype(np.int16), fine.affine), raw / T1)
    nib.save(nib.Nifti1Image(np.rint(other_contrast(fine.data)).astype(np.int16), fine.affine), raw / T2)
    noise = np.random.default_rng(0)
    volumes = [other_contrast(coarse.data) + noise.normal(0, 2, coarse.data.shape) for _ in range(3)]
    series = nib.Nifti1Image(np.rint(np.stack(volumes, -1)).clip(0).astype(np.int16), coarse.affine)
    series.header.set_zooms((*series.header.get_zooms()[:3], 2.0))
    series.header.set_xyzt_units("mm", "sec")
    nib.save(series, raw / BOLD)
    for path in (T1, T2):
        (raw / path.replace(".nii.gz", ".json")).write_text(json.dumps({"EchoTime": 0.003, "PatientName": "Miller"}))
    (raw / BOLD.replace(".nii.gz", ".json")).write_text(json.dumps({"RepetitionTime": 2.0, "TaskName": "rest"}))
    validate = ["--validate"] if find_program("bids-validator-deno") else []
    return raw, out, efface("share", raw, out, "--jobs", 1, *validate)


def test_all_images_are_shared_without_the_face(shared):
    raw, out, done = shared
    assert done.returncode == 0, done.stdout + done.stderr
    images = {row.path: row for row in read_table(out) if row.path.endswith(".nii.gz")}
    assert {path: row.outcome for path, row in images.items()} == dict.fromkeys((T1, T2, BOLD), Became.DEFACED)
    assert {row.verdict for row in images.values()} == {"Success"}
    for path in images:
        before, after = (nib.load(folder / path) for folder in (raw, out))
        a, b = (np.asarray(image.dataobj) for image in (before, after))
        nose = np.rint(np.linalg.inv(before.affine) @ [0, 92, -30, 1])[:3].astype(int)
        assert a[tuple(nose)].any(), "the nose of the average head is there"
        assert not b[tuple(nose)].any()
        changed = a != b
        assert 0.01 < changed.mean() < 0.3
        if a.ndim == 4:
            assert not b[changed.any(axis=-1)].any(), "a voxel is gone in every volume or in none"


def test_the_result_passes_the_bids_validator(shared):
    if not find_program("bids-validator-deno"):
        pytest.skip("the BIDS validator is not installed")
    _, _, done = shared
    assert ": 0 errors" in done.stdout, done.stdout + done.stderr


def test_the_audit_finds_a_face_in_the_data_set_and_none_in_its_shared_copy(shared, tmp_path, capsys):
    raw, out, _ = shared
    codes = [run(capsys, "audit", folder / T1, "--json", tmp_path / f"{folder.name}.json")[0] for folder in (raw, out)]
    assert codes == [1, 0]


def test_a_second_run_says_that_all_is_there(shared):
    raw, out, _ = shared
    done = efface("share", raw, out, "--jobs", 1)
    assert done.returncode == 0
    assert "0 computed" in done.stdout
    page = (out / "derivatives/efface/report.html").read_text()
    assert T1 in page
    assert "data:image/jpeg" in page


def test_wrong_words_are_one_line_and_exit_code_2(shared, tmp_path, capsys):
    raw, _, _ = shared
    for words in ((raw, raw / "in"), (raw, tmp_path / "o", "--method", "x"), (tmp_path / "no", tmp_path / "o")):
        code, _, said = run(capsys, "share", *words)
        assert (code, said.count("\n")) == (2, 1), said
    assert not (tmp_path / "o").exists()
