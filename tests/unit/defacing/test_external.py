"""External programs: arguments, time limit, edit, version. Most programs are stand-ins; quickshear is the real one."""

import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import phantom
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.defacing import external_process, plan, protected_region
from efface.defacing.edit import without
from efface.defacing.external import EXTERNAL_PROGRAMS, external_version, find_program, plan_external
from efface.defacing.external_process import run_program
from efface.errors import ExternalToolError, InputError, MissingDependencyError
from efface.io.scan import load_scan
from efface.parameters import describe

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


def test_protection_holds_for_external_programs_too(anatomy, tmp_path):
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


@pytest.mark.parametrize("inter", [-1000.0, 500.0])
def test_the_zeros_of_a_program_become_the_air_of_the_scan(anatomy, tmp_path, inter):
    body = "import nibabel\ns, t = sys.argv[1:3]\n" + CUT.format(source="s", target="t")
    path = program(tmp_path / "bin", "fsl_deface", body)
    image = nib.Nifti1Image(anatomy.scan.data + np.float32(inter), anatomy.scan.affine)
    moved = HeadAnatomy(load_scan(image), anatomy.brain)
    edit = plan_external(moved, "fsl_deface", {"program": path})
    np.testing.assert_array_equal(edit.mask, plan_external(anatomy, "fsl_deface", {"program": path}).mask)
    assert set(edit.values) == {inter}


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
def test_a_program_that_fails_is_one_line_with_its_last_lines(anatomy, tmp_path, body, words):
    path = program(tmp_path / "bin", "fsl_deface", body)
    with pytest.raises(ExternalToolError, match=words) as caught:
        plan_external(anatomy, "fsl_deface", {"program": path})
    assert "\n" not in str(caught.value)


def test_a_program_that_takes_too_long_is_stopped(anatomy, tmp_path):
    path = program(tmp_path / "bin", "fsl_deface", "import time; time.sleep(600)")
    with pytest.raises(ExternalToolError, match=r"fsl_deface took more than 0\.2 s and was stopped"):
        plan_external(anatomy, "fsl_deface", {"program": path, "timeout_s": 0.2})


CHILD = """
import sys, time
with open(sys.argv[1], 'w') as pipe:
    print('started', file=pipe, flush=True)
    time.sleep(60)
    print('survived', file=pipe)
"""


def test_a_program_that_is_stopped_takes_its_children_with_it(anatomy, tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = None

    class TimesOutWhenTheChildRuns(subprocess.Popen):
        def wait(self, timeout=None):
            nonlocal reader
            if timeout is None:
                return super().wait()
            reader = pipe.open()  # blocks until the child opens its end
            assert reader.readline() == "started\n"
            raise subprocess.TimeoutExpired(self.args, timeout)

    monkeypatch.setattr(external_process.subprocess, "Popen", TimesOutWhenTheChildRuns)
    body = (
        "import subprocess, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}, {str(pipe)!r}])\n"
        "time.sleep(60)"
    )
    path = program(tmp_path / "bin", "fsl_deface", body)
    with pytest.raises(ExternalToolError, match="more than 5 s"):
        plan_external(anatomy, "fsl_deface", {"program": path, "timeout_s": 5})
    assert reader.read() == "", "the pipe ends when the child does, and the child must not reach its last line"
    reader.close()


def test_the_private_folder_is_gone_afterwards(anatomy, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    path = program(tmp_path / "bin", "fsl_deface", "sys.exit(1)")
    with pytest.raises(ExternalToolError):
        plan_external(anatomy, "fsl_deface", {"program": path})
    assert list((tmp_path / "tmp").glob("*/*")) == []


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr("efface.io.programs.beside_interpreter", lambda: (Path(os.devnull),))


def test_a_missing_program_says_what_to_install(nothing_installed):
    for method, spec in EXTERNAL_PROGRAMS.items():
        with pytest.raises(MissingDependencyError) as caught:
            find_program(method)
        assert spec.install in str(caught.value)
        assert f"not on PATH or in {os.devnull}" in str(caught.value)


def test_a_program_calls_others_that_lie_beside_the_interpreter(tmp_path, monkeypatch):
    program(tmp_path / "bin", "flirt", "print('flirt 6.0')")
    path = program(tmp_path / "elsewhere", "pydeface", "import subprocess; subprocess.run(['flirt'], check=True)")
    monkeypatch.setattr("efface.io.programs.beside_interpreter", lambda: (tmp_path / "bin",))
    assert run_program("pydeface", [str(path)], tmp_path, 60.0).strip() == "flirt 6.0"


def test_a_missing_atlas_of_mri_deface_is_named(anatomy, tmp_path, monkeypatch):
    monkeypatch.delenv("FREESURFER_HOME", raising=False)
    path = program(tmp_path / "bin", "mri_deface", "pass")
    with pytest.raises(MissingDependencyError, match=r"talairach_mixed_with_skull\.gca"):
        plan_external(anatomy, "mri_deface", {"program": path})


def test_unknown_methods_and_implementations_are_refused(anatomy):
    for method in ("defacer", "knife"):
        with pytest.raises(InputError, match=f"{method} has no external program that can be run"):
            find_program(method)
    with pytest.raises(InputError, match="native, original"):
        plan(anatomy, "quickshear", implementation="legacy")


WRONG = {
    "program": ["", 3],
    "timeout_s": ["abc", 0, -1, None, np.nan, "inf"],
    "buffer": ["abc", -1, None, np.nan],
    "nudge": ["abc", "1,2", (1, 2), 5, (0, 0, np.nan)],
    "cost": [3],
    "template": ["", 3],
    "facemask": ["", 3],
}


@pytest.mark.parametrize("method", EXTERNAL_PROGRAMS)
def test_wrong_values_are_refused_before_anything_is_run(anatomy, method):
    for row in describe(EXTERNAL_PROGRAMS[method].params):
        for value in WRONG[row.name]:
            with pytest.raises(InputError, match=f"^the external program of {method}: {row.name} must be") as caught:
                plan_external(anatomy, method, {"program": "/nowhere", row.name: value})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", EXTERNAL_PROGRAMS)
@pytest.mark.parametrize("name", ["sharpness", "method", "anatomy", "implementation"])
def test_unknown_parameters_are_refused_and_the_known_are_listed(anatomy, method, name):
    with pytest.raises(InputError, match=f"{method} has no parameter {name}; expected program, timeout_s") as caught:
        plan_external(anatomy, method, {name: 3})
    assert all(row.name in str(caught.value) for row in describe(EXTERNAL_PROGRAMS[method].params))


def test_parameters_that_are_given_are_recorded(anatomy, tmp_path):
    body = "import json, nibabel\na = sys.argv[1:]; print(json.dumps(a[4:])); s, t = a[0], a[2]\n" + CUT.format(
        source="s", target="t"
    )
    path = program(tmp_path / "bin", "pydeface", body)
    given = {"cost": "corratio", "template": tmp_path / "t.nii", "facemask": str(tmp_path / "m.nii")}
    edit = plan_external(anatomy, "pydeface", {**given, "program": path})
    assert list(edit.params) == ["cost", "template", "facemask", "program", "version", "log"]
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    assert json.loads(edit.params["log"].splitlines()[0]) == words
    assert json.loads(json.dumps(edit.params)) == edit.params


# Versions before a run


def test_the_version_that_a_program_prints_is_known_before_it_runs_on_a_scan(tmp_path):
    path = program(tmp_path / "bin", "mri_deface", "assert sys.argv[1:] == ['--version']; print('mri_deface v1.22')")
    assert external_version("mri_deface", path) == "1.22"


@pytest.mark.parametrize("body", ["print('no number')", "sys.exit(3)", "import os; os.write(1, bytes([255, 254]))"])
def test_a_program_that_prints_no_version_is_identified_by_its_content(tmp_path, body):
    path = program(tmp_path / "bin", "mri_deface", body)
    first = external_version("mri_deface", path)
    assert re.fullmatch("sha256:[0-9a-f]{16}", first)
    assert external_version("mri_deface", path) == first
    program(tmp_path / "bin", "mri_deface", f"{body} # another build")
    assert external_version("mri_deface", path) != first


def test_a_program_without_a_way_to_its_version_is_not_started(tmp_path):
    path = program(tmp_path / "bin", "run_mri_reface.sh", f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert external_version("mri_reface", path).startswith("sha256:")
    assert not (tmp_path / "ran").exists()


def test_the_version_of_fsl_is_that_of_its_installation(tmp_path):
    (tmp_path / "fsl" / "etc").mkdir(parents=True)
    (tmp_path / "fsl" / "etc" / "fslversion").write_text("6.0.7.4:1a2b3c\n")
    path = program(tmp_path / "fsl" / "bin", "fsl_deface", "sys.exit(1)")
    assert external_version("fsl_deface", path) == "6.0.7.4"
    assert external_version("fsl_deface", program(tmp_path / "elsewhere", "fsl_deface", "")).startswith("sha256:")


def test_the_version_of_the_real_quickshear_is_that_of_its_package(tmp_path):
    path = shutil.which("quickshear", path=str(Path(sys.executable).parent))
    assert external_version("quickshear", path) == importlib.metadata.version("quickshear")
    other = tmp_path / "quickshear"
    other.write_text("#!/bin/sh\nexit 0\n")
    other.chmod(0o755)
    assert external_version("quickshear", other).startswith("sha256:")


def test_the_version_of_a_missing_program_says_what_to_install(nothing_installed):
    with pytest.raises(MissingDependencyError, match="install FSL"):
        external_version("fsl_deface")
