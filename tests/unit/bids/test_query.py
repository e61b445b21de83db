"""Which scans a BIDS folder holds."""

import os

import pytest

import bids_dataset
from efface.bids.filters import load_filter
from efface.bids.query import find_scans
from efface.errors import InputError


@pytest.fixture
def dataset(tmp_path):
    return bids_dataset.make(tmp_path / "bids")


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


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_sessions_runs_and_acquisitions_are_picked_by_a_filter(tmp_path):
    root = touch(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_acq-mprage_run-01_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_acq-mprage_run-02_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_acq-mp2rage_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii",
    )

    def stems(query):
        return [s.stem for s in find_scans(root, bids_filter=load_filter({"t1w": query}), validate=False)]

    assert stems({"acquisition": "mprage", "run": 2}) == ["sub-01_ses-a_acq-mprage_run-02"]
    assert stems({"acquisition": None}) == ["sub-02"]
    assert stems({"run": None}) == ["sub-01_ses-a_acq-mp2rage", "sub-02"]
    assert stems({"extension": ".nii"}) == ["sub-02"]
    with pytest.raises(InputError, match="matches the BIDS filter"):
        stems({"acquisition": "space"})


@pytest.mark.parametrize(
    "name",
    [
        "sub-01/anat/sub-02_T1w.nii.gz",
        "sub-01/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-<b>_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-a'b_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-a\nb_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-.._T1w.nii.gz",
        "sub-01/anat/sub-01_mprage_T1w.nii.gz",
        "sub-01/anat/sub-01__T1w.nii.gz",
        "sub-a b/anat/sub-a b_T1w.nii.gz",
        "sub-/anat/sub-_T1w.nii.gz",
    ],
)
def test_a_file_whose_name_is_not_bids_is_refused_or_left_out_but_never_placed(dataset, caplog, name):
    touch(dataset, name)
    with pytest.raises(InputError, match="no valid BIDS name") as caught:
        find_scans(dataset)
    assert "\n" not in str(caught.value)
    assert len(find_scans(dataset, validate=False)) == 3
    assert "1 T1w files" in caplog.text
    assert caplog.text.count("\n") == 1


def test_a_scan_that_is_there_compressed_and_not_is_refused(dataset):
    touch(dataset, "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii")
    with pytest.raises(InputError, match="twice"):
        find_scans(dataset)


def test_only_the_folders_of_the_wanted_subjects_are_looked_into(dataset):
    touch(dataset, "sub-03/anat/sub-04_T1w.nii.gz")
    assert len(find_scans(dataset, subjects=["01"])) == 2


def test_a_long_list_of_labels_is_cut_short(tmp_path):
    root = touch(tmp_path, *(f"sub-{i:03d}/anat/sub-{i:03d}_T1w.nii.gz" for i in range(60)))
    with pytest.raises(InputError, match="and 40 more"):
        find_scans(root, subjects=["999"], validate=False)


def test_links_to_scans_elsewhere_are_scans_and_a_dead_link_is_one_too(dataset, tmp_path):
    folder = dataset / "sub-03/anat"
    folder.mkdir(parents=True)
    (folder / "sub-03_T1w.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    (dataset / "sub-04").symlink_to(tmp_path / "nowhere")
    assert [s.subject for s in find_scans(dataset)] == ["01", "01", "02", "03"]


def test_a_data_set_in_a_folder_with_a_dot_is_found(tmp_path):
    assert len(find_scans(bids_dataset.make(tmp_path / "study-1.0"))) == 3


def test_the_index_of_two_thousand_subjects_reads_no_folder_per_scan(tmp_path, monkeypatch):
    """A large data set is slow where the disk is searched again for every scan; five listings per subject are enough."""
    root = touch(tmp_path, *(f"sub-{i:04d}/anat/sub-{i:04d}_T1w.nii.gz" for i in range(2000)))
    listings = []
    listed = os.scandir
    monkeypatch.setattr(os, "scandir", lambda *where: listings.append(where) or listed(*where))
    assert len(find_scans(root, validate=False)) == 2000
    assert 0 < len(listings) <= 5 * 2000


# What is no scan to deface


def left(root, **options):
    return [s.stem for s in find_scans(root, validate=False, **options)]


BIDSIGNORE = {
    "a subject": ("sub-01/", ["sub-02", "sub-03_acq-bad"]),
    "a subject at the root only": ("/sub-01/\n/anat/", ["sub-02", "sub-03_acq-bad"]),
    "names": ("*_acq-bad_*", ["sub-01", "sub-02"]),
    "everything but one": ("sub-*/\n!sub-02/", ["sub-02"]),
    "any depth": ("**/sub-03*", ["sub-01", "sub-02"]),
    "a comment, an empty line and spaces": ("# sub-01/\n\n  \nsub-02/  \n", ["sub-01", "sub-03_acq-bad"]),
    "a byte order mark and lines of Windows": ("\ufeffsub-01/\r\nsub-02/\r\n", ["sub-03_acq-bad"]),
    "nothing": ("", ["sub-01", "sub-02", "sub-03_acq-bad"]),
}


@pytest.fixture
def three(tmp_path):
    return touch(tmp_path, *(f"{stem[:6]}/anat/{stem}_T1w.nii.gz" for stem in ("sub-01", "sub-02", "sub-03_acq-bad")))


@pytest.mark.parametrize("case", BIDSIGNORE)
def test_what_bidsignore_names_is_no_part_of_the_data_set(three, caplog, case):
    text, expected = BIDSIGNORE[case]
    (three / ".bidsignore").write_bytes(text.encode())
    assert left(three) == expected
    assert ("left out (ignored by .bidsignore)" in caplog.text) == (len(expected) < 3)


def test_a_misnamed_file_that_is_ignored_is_no_fault_of_the_data_set(dataset):
    touch(dataset, "sub-01/ses-1/anat/sub-01_mprage_T1w.nii.gz")
    with pytest.raises(InputError, match="no valid BIDS name"):
        find_scans(dataset)
    (dataset / ".bidsignore").write_text("*_mprage_*")
    assert len(find_scans(dataset)) == 3


def test_a_line_that_is_no_pattern_is_named_and_the_others_are_used(three, caplog):
    (three / ".bidsignore").write_text("sub-01/\n!\n")
    assert left(three) == ["sub-02", "sub-03_acq-bad"]
    assert "line 2 is no pattern" in caplog.text


def test_a_data_set_of_which_all_is_ignored_says_so(three):
    (three / ".bidsignore").write_text("*\n")
    with pytest.raises(InputError, match=r"no T1w scan to deface: 3 files are left out \(ignored by .bidsignore\)"):
        left(three)


def test_of_complex_data_the_magnitude_is_the_scan(tmp_path, caplog):
    parts = ("part-mag", "part-phase", "part-real", "part-imag")
    root = touch(tmp_path, *(f"sub-01/anat/sub-01_{part}_T1w.nii.gz" for part in parts), "sub-02/anat/sub-02_T1w.nii")
    assert left(root) == ["sub-01_part-mag", "sub-02"]
    assert left(root, bids_filter=load_filter({"t1w": {"part": ["mag", "phase", None]}})) == [
        "sub-01_part-mag",
        "sub-02",
    ]
    assert "1 T1w files are left out (part-phase: no magnitude image)" in caplog.text
    with pytest.raises(InputError, match="part-phase: no magnitude image"):
        left(touch(tmp_path / "b", "sub-01/anat/sub-01_part-phase_T1w.nii.gz"))


def test_what_was_made_of_a_scan_is_taken_only_where_a_filter_names_it(tmp_path, caplog):
    names = ("", "_desc-preproc", "_space-MNI152NLin6Asym_res-2_desc-preproc", "_desc-defaced")
    root = touch(tmp_path, *(f"sub-01/anat/sub-01{name}_T1w.nii.gz" for name in names))
    touch(root, "sub-01/anat/sub-01_mod-T1w_defacemask.nii.gz", "sub-01/anat/sub-01_inv-1_MP2RAGE.nii.gz")
    assert left(root) == ["sub-01"]
    assert "2 T1w files are left out (desc-: made of a scan)" in caplog.text
    assert left(root, bids_filter=load_filter({"description": "preproc"})) == ["sub-01_desc-preproc"]
    both = {"desc": "preproc", "space": "*", "resolution": 2}
    assert left(root, bids_filter=load_filter(both)) == ["sub-01_space-MNI152NLin6Asym_res-2_desc-preproc"]


def test_a_description_that_was_not_fetched_gets_the_right_advice(dataset):
    path = dataset / "dataset_description.json"
    path.unlink()
    path.symlink_to(".git/annex/objects/a/b/MD5E-s3--0/MD5E-s3--0.json")
    with pytest.raises(InputError, match=r"is a link of git-annex .*`datalad get .*dataset_description.json`"):
        find_scans(dataset)
