"""Which scans a BIDS folder holds."""

import pytest

import bids
from efface.dataset import find_scans
from efface.errors import InputError


@pytest.fixture
def dataset(tmp_path):
    return bids.make(tmp_path / "bids")


def test_scans_are_listed_by_subject_and_session(dataset):
    found = find_scans(dataset)
    assert [(s.subject, s.session, s.stem) for s in found] == [
        ("01", "1", "sub-01_ses-1"),
        ("01", "2", "sub-01_ses-2"),
        ("02", "1", "sub-02_ses-1"),
    ]
    assert all(s.path.is_file() for s in found)


def test_runs_of_one_session_are_scans_of_their_own(dataset):
    folder = dataset / "sub-02/ses-1/anat"
    (folder / "sub-02_ses-1_T1w.nii.gz").rename(folder / "sub-02_ses-1_run-1_T1w.nii.gz")
    (folder / "sub-02_ses-1_acq-mprage_run-2_T1w.nii.gz").touch()
    stems = [s.stem for s in find_scans(dataset, subjects=["02"])]
    assert stems == ["sub-02_ses-1_acq-mprage_run-2", "sub-02_ses-1_run-1"]


def test_other_contrasts_and_derivatives_are_left_alone(dataset):
    (dataset / "sub-02/ses-1/anat/sub-02_ses-1_FLAIR.nii.gz").touch()
    inner = dataset / "derivatives/other/sub-03/anat"
    inner.mkdir(parents=True)
    (inner / "sub-03_T1w.nii.gz").touch()
    assert len(find_scans(dataset)) == 3


def test_labels_are_kept_with_or_without_prefix(dataset):
    assert find_scans(dataset, subjects=["sub-01"], sessions=["2"]) == find_scans(
        dataset, subjects=["01"], sessions=["ses-2"]
    )
    assert len(find_scans(dataset, subjects=["01"], sessions=["2"])) == 1


def test_a_label_that_is_not_there_is_named_with_those_that_are(dataset):
    with pytest.raises(InputError, match=r"participant 07; the data set has 01, 02"):
        find_scans(dataset, subjects=["07"])


def test_no_data_set_is_refused(dataset, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_scans(tmp_path / "nothing")
    (dataset / "dataset_description.json").unlink()
    with pytest.raises(InputError, match="--skip-bids-validation"):
        find_scans(dataset)
    assert len(find_scans(dataset, validate=False)) == 3


def test_a_folder_without_t1w_is_refused(tmp_path):
    (tmp_path / "dataset_description.json").write_text("{}")
    with pytest.raises(InputError, match="no T1w scan"):
        find_scans(tmp_path)
