"""Original programs: called as they want, timed, their edit taken; stand-ins check arguments, quickshear is real."""

import os
import shutil
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import phantom
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import plan, protected_region
from efface.defacing.edit import without
from efface.defacing.external import find_program, plan_external
from efface.defacing.external_programs import EXTERNAL_PROGRAMS
from efface.errors import ExternalToolError, InputError, MissingDependencyError
from efface.io.scan import load_scan

CUT = """
import sys, nibabel, numpy
image = nibabel.load({source})
data = numpy.array(image.dataobj)
data[:, -10:] = 0
nibabel.save(type(image)(data, image.affine, image.header), {target})
"""


@pytest.fixture
def anatomy(tmp_path):
    return HeadAnatomy(load_scan(phantom.write(tmp_path / "in.nii.gz", "RAS").path), phantom.head().brain)


def program(folder: Path, name: str, body: str) -> Path:
    """An executable that runs Python."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


STAND_INS = {
    "pydeface": "a = sys.argv[1:]; assert a[1] == '--outfile' and a[3] == '--force'; s, t = a[0], a[2]",
    "quickshear": "a = sys.argv[1:]; assert a[3] == '10.0'; nibabel.load(a[1]); s, t = a[0], a[2]",
    "fsl_deface": "a = sys.argv[1:]; assert len(a) == 2; s, t = a",
    "mri_deface": "a = sys.argv[1:]; assert a[1].endswith('skull.gca') and a[2].endswith('face.gca'); s, t = a[0], a[3]",
    "mri_reface": "a = sys.argv[1:]; assert a[2:4] == ['-imType', 'T1'] and a[0].endswith('.nii')\n"
    "s, t = a[0], a[1] + '/scan_deFaced.nii'",
}


@pytest.mark.parametrize("nudge", [(1, -2.5, 3), "1,-2.5,3"])
def test_a_nudge_reaches_fsl_deface_as_three_numbers(anatomy, tmp_path, nudge):
    body = "import nibabel\na = sys.argv[1:]; assert a[2:] == ['-nud', '1', '-2.5', '3'], a; s, t = a[:2]\n"
    path = program(tmp_path / "bin", "fsl_deface", body + CUT.format(source="s", target="t"))
    assert plan_external(anatomy, "fsl_deface", {"program": path, "nudge": nudge}).mask.any()


@pytest.mark.parametrize("method", EXTERNAL_PROGRAMS)
def test_each_program_gets_the_arguments_it_documents_and_its_edit_is_taken(anatomy, tmp_path, method):
    spec = EXTERNAL_PROGRAMS[method]
    body = f"import nibabel\n{STAND_INS[method]}\nprint('my version 1.2.3')\n" + CUT.format(source="s", target="t")
    path = program(tmp_path / "bin", spec.program, body)
    for name in ("talairach_mixed_with_skull.gca", "face.gca"):
        (path.parent / name).touch()
    edit = plan_external(anatomy, method, {"program": path})
    expected = np.zeros(anatomy.scan.shape, bool)
    expected[:, -10:] = anatomy.scan.data[:, -10:] != 0
    np.testing.assert_array_equal(edit.mask, expected)
    assert not np.any(edit.values)
    assert edit.implementation == "original"
    assert edit.params["version"] == "1.2.3"
    assert "my version" in edit.params["log"]


def test_the_real_quickshear_agrees_with_the_native_one(anatomy):
    folder = Path(sys.executable).parent
    found = shutil.which("quickshear", path=str(folder))
    assert found, "quickshear is a test dependency"
    original = plan(anatomy, "quickshear", {"program": found}, implementation="original", protect_brain=False)
    native = plan(anatomy, "quickshear", protect_brain=False)
    bright = anatomy.scan.data != 0
    np.testing.assert_array_equal(original.mask & bright, native.mask & bright)
    assert original.implementation == "original"


def test_protection_holds_for_originals_too(anatomy, tmp_path):
    body = "import nibabel\ns, t = sys.argv[1:3]\n" + CUT.format(source="s", target="t").replace("-10:", "5:")
    everything = plan_external(anatomy, "fsl_deface", {"program": program(tmp_path / "bin", "fsl_deface", body)})
    assert (everything.mask & anatomy.brain).any()
    edit = without(everything, protected_region(anatomy))
    assert edit.protected_voxels > 0
    assert not (edit.mask & anatomy.brain).any()


def test_a_new_scale_factor_is_not_an_edit(anatomy, tmp_path):
    body = """
import nibabel, numpy
image = nibabel.load(sys.argv[1])
data = image.get_fdata()
data[:, -10:] = 0
stored = numpy.rint(data / 1.7).astype('i2')
out = nibabel.Nifti1Image(stored, image.affine)
out.header.set_slope_inter(1.7, 0)
nibabel.save(out, sys.argv[2])
"""
    edit = plan_external(anatomy, "fsl_deface", {"program": program(tmp_path / "bin", "fsl_deface", body)})
    assert not edit.mask[:, :-10].any()
    assert edit.mask[:, -10:].sum() > 0.9 * (anatomy.scan.data[:, -10:] > 2).sum()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('no licence'); sys.exit(3)", r"exit code 3.*no licence"),
        ("print('all fine')", r"without an output.*all fine"),
        (
            "import nibabel\nimage = nibabel.load(sys.argv[1])\n"
            "nibabel.save(nibabel.Nifti1Image(image.get_fdata()[1:], image.affine), sys.argv[2])",
            "another grid",
        ),
    ],
)
def test_a_program_that_fails_is_one_line_with_its_last_words(anatomy, tmp_path, body, words):
    path = program(tmp_path / "bin", "fsl_deface", body)
    with pytest.raises(ExternalToolError, match=words) as caught:
        plan_external(anatomy, "fsl_deface", {"program": path})
    assert "\n" not in str(caught.value)


def test_a_program_that_hangs_is_killed_with_its_children(anatomy, tmp_path):
    marker = tmp_path / "child.pid"
    body = (
        "import subprocess, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(marker)!r}, 'w').write(str(child.pid))\ntime.sleep(60)"
    )
    path = program(tmp_path / "bin", "fsl_deface", body)
    start = time.monotonic()
    with pytest.raises(ExternalToolError, match="more than 2 s"):
        plan_external(anatomy, "fsl_deface", {"program": path, "timeout_s": 2})
    assert time.monotonic() - start < 20
    pid = int(marker.read_text())
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_the_private_folder_is_gone_afterwards(anatomy, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    path = program(tmp_path / "bin", "fsl_deface", "sys.exit(1)")
    with pytest.raises(ExternalToolError):
        plan_external(anatomy, "fsl_deface", {"program": path})
    assert list((tmp_path / "tmp").glob("*/*")) == []


def test_a_missing_program_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    for method, spec in EXTERNAL_PROGRAMS.items():
        with pytest.raises(MissingDependencyError) as caught:
            find_program(method)
        assert spec.install in str(caught.value)


def test_a_missing_atlas_of_mri_deface_is_named(anatomy, tmp_path, monkeypatch):
    monkeypatch.delenv("FREESURFER_HOME", raising=False)
    path = program(tmp_path / "bin", "mri_deface", "pass")
    with pytest.raises(MissingDependencyError, match=r"talairach_mixed_with_skull\.gca"):
        plan_external(anatomy, "mri_deface", {"program": path})


def test_unknown_parameters_and_methods_are_refused(anatomy, tmp_path):
    path = program(tmp_path / "bin", "fsl_deface", "pass")
    with pytest.raises(InputError, match="nudge"):
        plan_external(anatomy, "fsl_deface", {"program": path, "buffer": 3})
    with pytest.raises(InputError, match="no external program"):
        find_program("defacer")
    with pytest.raises(InputError, match="native, original"):
        plan(anatomy, "quickshear", implementation="legacy")
