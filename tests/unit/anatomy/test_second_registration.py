"""A second registration: asked where ours is refused, checked like ours, private, and never a reason to stop."""

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

import average_head
from efface.anatomy import head_pose, second_registration
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.second_registration import installed_version
from efface.spatial.registration import AffineResult
from efface.spatial.types import Volume
from efface.study import provenance

REFUSED = AffineResult(np.diag([0.01, 1, 1, 1.0]), 0.2, converged=False, reason="stretched", dof=12, starts=1)


@pytest.fixture
def head():
    return average_head.volume(4.0)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a program: what it writes, and how it ends, is set by a file beside it."""
    folder = tmp_path / "site" / "niimath"
    (folder / "bin").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    program = folder / "bin" / ("niimath.exe" if os.name == "nt" else "niimath")
    program.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\nplan = json.loads(pathlib.Path({str(tmp_path / 'plan')!r})"
        ".read_text())\npathlib.Path(plan['seen']).write_text(json.dumps([sys.argv[1:], str(pathlib.Path.cwd())]))\n"
        "import shutil; shutil.copy('scan.nii', plan['copy'])\n"
        "if plan['matrix'] is not None: pathlib.Path('matrix.json').write_text(plan['matrix'])\n"
        "sys.exit(plan['code'])\n"
    )
    program.chmod(0o755)
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setattr(second_registration.metadata, "version", lambda _name: "1.0.1")

    def ends(matrix, code=0):
        plan = {"matrix": matrix, "code": code, "seen": str(tmp_path / "seen"), "copy": str(tmp_path / "copy.nii")}
        (tmp_path / "plan").write_text(json.dumps(plan))

    return SimpleNamespace(ends=ends, program=program, seen=tmp_path / "seen", copy=tmp_path / "copy.nii")


def pose(shift=0.0):
    matrix = np.eye(4)
    matrix[1, 3] = shift
    return matrix


def as_json(matrix):
    return json.dumps({"fixed_to_moving": np.asarray(matrix).tolist()})


def test_the_matrix_comes_back_with_correlation_and_who_found_it(package, head):
    package.ends(as_json(pose()))
    found = second_registration.second_registration(head)
    assert found.converged, found.reason
    assert found.by == "niimath 1.0.1"
    assert found.score > 0.95
    np.testing.assert_array_equal(found.matrix, np.eye(4))
    words, folder = json.loads(package.seen.read_text())
    assert words[:2] == ["scan.nii", "-allineate"]
    assert words[2].endswith("mean_reg2mean.nii.gz")
    assert not Path(folder).exists(), "what shows the face is removed"
    given = nib.load(package.copy)
    np.testing.assert_allclose(given.affine, head.affine)
    np.testing.assert_allclose(given.get_fdata(), head.data)


def test_its_temporary_folder_is_private(package, head, monkeypatch):
    package.ends(as_json(pose()))
    modes = []
    run = second_registration.subprocess.run

    def watching(words, *, cwd, **options):
        modes.append(stat.S_IMODE(cwd.stat().st_mode))
        return run(words, cwd=cwd, **options)

    monkeypatch.setattr(second_registration.subprocess, "run", watching)
    second_registration.second_registration(head)
    assert modes == [0o700]


def test_a_pose_that_does_not_fit_is_not_believed(package, head):
    package.ends(as_json(pose(80.0)))
    found = second_registration.second_registration(head)
    assert not found.converged
    assert "correlation" in found.reason


@pytest.mark.parametrize(
    ("matrix", "code"),
    [
        (None, 0),
        (as_json(pose()), 3),
        ("{", 0),
        ("{}", 0),
        (json.dumps({"fixed_to_moving": [[1, 2], [3, 4]]}), 0),
        (json.dumps({"fixed_to_moving": [["a"] * 4] * 4}), 0),
        (as_json(np.full((4, 4), 1e999)), 0),
    ],
)
def test_a_program_that_fails_is_as_if_it_were_not_there(package, head, matrix, code):
    package.ends(matrix, code)
    assert second_registration.second_registration(head) is None


def test_without_the_package_or_its_program_there_is_no_second_registration(package, head, monkeypatch):
    package.program.chmod(0o644)
    if os.name != "nt":
        assert second_registration.second_registration(head) is None
        assert installed_version() == ""
    monkeypatch.setattr(second_registration.importlib.util, "find_spec", lambda _name: None)
    assert second_registration.second_registration(head) is None
    assert installed_version() == ""


@pytest.fixture
def refused(monkeypatch):
    """Our own search finds nothing that is believed."""
    monkeypatch.setattr(head_pose, "register_near", lambda *_args, **_options: REFUSED)
    monkeypatch.setattr(head_pose, "register_affine", lambda *_args, **_options: REFUSED)


def given(matrix, **changes):
    return lambda _volume: replace(average_head.IN_PLACE, matrix=matrix, by="niimath 1", **changes)


def test_where_ours_is_refused_the_second_one_is_taken(refused, head):
    found = head_pose.find_pose(head, second=given(pose()))
    assert found.converged, found.reason
    assert found.by == "niimath 1"


@pytest.mark.parametrize(
    "second", [lambda _volume: None, given(pose(60.0)), given(pose(), converged=False, reason="correlation 0.1")]
)
def test_the_second_one_is_refused_by_the_same_checks(refused, head, second):
    found = head_pose.find_pose(head, second=second)
    assert not found.converged
    assert found.reason == "stretched"


def test_the_second_one_is_not_asked_where_ours_is_believed_or_the_header_lies(head):
    asked = []
    assert head_pose.find_pose(head, second=asked.append).converged
    upside_down = Volume(head.data, np.diag([1.0, 1.0, -1.0, 1.0]) @ head.affine)
    assert not head_pose.find_pose(upside_down, second=asked.append).converged
    assert asked == []


def test_a_scan_whose_pose_another_program_found_is_to_be_looked_at():
    anatomy = average_head.anatomy(registration=replace(average_head.IN_PLACE, by="niimath 1"))
    (warning,) = anatomy.pose_doubts
    assert "niimath 1 found a pose that passed the checks: look at the face" in warning
    assert average_head.anatomy().pose_doubts == ()
    assert HeadAnatomy(anatomy.scan).pose_doubts == (), "not looked for yet"


def test_recipes_name_the_version_where_it_is_installed(package, monkeypatch):
    versions = provenance.versions.__wrapped__
    monkeypatch.setattr(second_registration, "installed_version", lambda: "")
    assert "niimath" not in versions()
    monkeypatch.setattr(second_registration, "installed_version", lambda: "1.0.1")
    assert versions()["niimath"] == "1.0.1"
