"""What each file of a data set is to `efface share`, by its name and place."""

import pytest

import raw_data_set
from efface.errors import InputError
from efface.share.inventory import Found, Kind, take_inventory


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return raw_data_set.make(tmp_path_factory.mktemp("inventory") / "raw")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("dataset_description.json", Kind.DESCRIPTION),
        ("README", Kind.TEXT),
        ("CHANGES", Kind.CHANGES),
        ("participants.tsv", Kind.PARTICIPANTS),
        ("task-rest_bold.json", Kind.SIDECAR),
        ("notes.docx", Kind.LEFT_OUT),
        ("code/run.py", Kind.LEFT_OUT),
        ("sourcedata/sub-01/scan.dcm", Kind.LEFT_OUT),
        ("derivatives/other/sub-01_T1w.nii.gz", Kind.LEFT_OUT),
        ("sub-01/sub-01_sessions.tsv", Kind.SESSIONS),
        ("sub-01/ses-a/sub-01_ses-a_scans.tsv", Kind.SCANS),
        ("sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz", Kind.IMAGE),
        ("sub-01/ses-a/anat/sub-01_ses-a_T1w.json", Kind.SIDECAR),
        ("sub-01/ses-a/func/sub-01_ses-a_task-rest_events.tsv", Kind.TEXT),
        ("sub-02/anat/sub-02_T2w.nii.gz", Kind.ABSENT),
    ],
)
def test_every_file_is_found_for_what_it_is(root, path, kind):
    found = {one.path: one for one in take_inventory(root)}
    assert found[path].kind is kind
    assert set(found) == {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_symlink() or p.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "sub-01/anat/sub-02_T1w.nii.gz",  # another subject than its folder
        "sub-01/anat/sub-01_desc-brain_T1w.nii.gz",  # made of a scan
        "sub-01/anat/sub-01_mod-T1w_defacemask.nii.gz",  # of another program: it can follow the skin
        "sub-01/anat/sub-01_T1w.mgz",
        "sub-01/anat/T1w.nii.gz",
        "sub-01/anat/sub-01_photo.jpg",
        "sub-01/dicom/sub-01_T1w.nii.gz",
        "sub-01/eeg/sub-01_task-rest_eeg.edf",
        "sub-01/anat/deeper/sub-01_T1w.nii.gz",
    ],
)
def test_what_is_no_raw_bids_or_cannot_be_looked_into_is_left_out(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    (one,) = take_inventory(tmp_path)
    assert one.kind is Kind.LEFT_OUT
    assert one.reason


def test_version_control_is_one_line_and_ignored_files_are_left_out(tmp_path):
    for name in (".git/objects/aa", ".datalad/config", "extra/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".bidsignore").write_text("extra/\n")
    found = {one.path: one.kind for one in take_inventory(tmp_path)}
    assert found == {
        ".git/": Kind.LEFT_OUT, ".datalad/": Kind.LEFT_OUT, "extra/a.txt": Kind.LEFT_OUT, ".bidsignore": Kind.TEXT,
    }  # fmt: skip


def test_what_is_asked_for_is_taken_along_and_must_be_there(root):
    found = {one.path: one.kind for one in take_inventory(root, ["code", "sourcedata/sub-01/scan.dcm"])}
    assert found["code/run.py"] is found["sourcedata/sub-01/scan.dcm"] is Kind.ALSO
    for wrong in ("cod", "../raw/code", "/etc"):
        with pytest.raises(InputError, match="--also"):
            take_inventory(root, [wrong])


def test_a_folder_that_is_a_link_is_looked_into_once_even_where_it_leads_back(tmp_path):
    raw_data_set.write_image(tmp_path / "elsewhere/anat/sub-01_T1w.nii.gz")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/sub-01").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/anat/again").symlink_to(tmp_path / "raw")
    found = [one.path for one in take_inventory(tmp_path / "raw")]
    assert found == ["sub-01/anat/sub-01_T1w.json", "sub-01/anat/sub-01_T1w.nii.gz"]


def test_labels_come_from_the_folders():
    one = Found("sub-01/ses-a/anat/sub-01_ses-a_inv-2_MP2RAGE.nii.gz", Kind.IMAGE)
    assert (one.subject, one.session, one.datatype, one.suffix) == ("01", "a", "anat", "MP2RAGE")
    assert one.entities == {"sub": "01", "ses": "a", "inv": "2"}
    assert Found("participants.tsv", Kind.PARTICIPANTS).subject == ""
    assert Found("sub-01/sub-01_sessions.tsv", Kind.SESSIONS).session == ""
