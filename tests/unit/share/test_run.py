"""A whole data set is shared: a row for every file, nothing that shows a face, nothing that names somebody."""

import gzip
import json
import os

import numpy as np
import pytest

import phantom
import raw_data_set
from efface.bids.filters import load_filter
from efface.errors import InputError, OutputError
from efface.report.share_page import build_share_page
from efface.share import Became, ShareSettings, run, session_task, share
from efface.share.decisions import Decision
from efface.share.publish import picture_path
from efface.share.records import read_table
from efface.study.backends import Local
from efface.study.ratings import Rating, append_rating, now

T1 = "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz"
BOLD = "sub-01/ses-a/func/sub-01_ses-a_task-rest_bold.nii.gz"
PHASE = "sub-01/ses-a/func/sub-01_ses-a_task-rest_part-phase_bold.nii.gz"


@pytest.fixture
def raw(tmp_path, monkeypatch):
    raw_data_set.stand_in(monkeypatch)
    return raw_data_set.make(tmp_path / "raw")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def shared(raw, out, /, **options):
    run_options = {key: options.pop(key) for key in ("subjects", "sessions", "bids_filter") if key in options}
    return share(ShareSettings(raw, out, **options), backend=Local(1), **run_options)


def outcomes(result):
    return {row.path: row.outcome for row in result.rows}


def texts(folder):
    """All that is written, decompressed."""
    data = b""
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            data += gzip.decompress(content) if path.name.endswith(".gz") else content
    return data


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")
        if path.is_file() and path.name != ".efface.lock"
    }  # fmt: skip


def test_every_file_has_a_row_and_every_face_is_gone(raw, out):
    before = snapshot(raw)
    result = shared(raw, out)
    files = {p.relative_to(raw).as_posix() for p in raw.rglob("*") if p.is_symlink() or p.is_file()}
    assert set(outcomes(result)) == files
    for path in (T1, T1.replace("T1w", "FLAIR"), BOLD, PHASE, "sub-02/anat/sub-02_T1w.nii.gz"):
        assert outcomes(result)[path] is Became.DEFACED
        assert np.ptp(raw_data_set.face_of(out / path)) == 0
        assert np.ptp(raw_data_set.face_of(raw / path)) > 0
    assert outcomes(result)["sub-02/anat/sub-02_T2w.nii.gz"] is Became.WITHHELD
    assert snapshot(raw) == before
    assert read_table(out) == list(result.rows)


def test_outside_the_edit_every_voxel_keeps_its_bits_in_every_volume(raw, out):
    shared(raw, out, header="keep")
    for path in (T1, BOLD):
        before, after = (gzip.decompress((root / path).read_bytes()) for root in (raw, out))
        assert before[:352] == after[:352]
        changed = np.frombuffer(before[352:], np.int16) != np.frombuffer(after[352:], np.int16)
        face = np.zeros(phantom.SHAPE, bool)
        face[raw_data_set.FACE] = True
        assert not changed[~np.tile(face.ravel(order="F"), changed.size // face.size)].any()
        assert changed.any()


def test_nobody_is_named_and_no_date_is_left(raw, out):
    shared(raw, out)
    written = texts(out)
    for word in (b"Miller", b"Hospital", b"2019-03-01", b"notes.docx\tcopied", str(raw).encode()):
        assert word not in written, word
    t1 = json.loads((out / T1.replace(".nii.gz", ".json")).read_text())
    assert t1["EchoTime"] == 0.003
    assert t1["DeidentificationMethodCodeSequence"][0]["CodeValue"] == "113102"


def test_tables_list_what_is_there(raw, out):
    shared(raw, out)
    assert (out / "participants.tsv").read_text() == "participant_id\tage\nsub-01\t40\nsub-02\t50\n"
    assert (out / "sub-01/sub-01_sessions.tsv").read_text() == "session_id\tage\nses-a\t40\n"
    assert (out / "sub-01/ses-a/sub-01_ses-a_scans.tsv").read_text() == (
        "filename\nanat/sub-01_ses-a_T1w.nii.gz\nanat/sub-01_ses-a_FLAIR.nii.gz\n"
    )
    assert (out / "CHANGES").read_text().endswith("1.2.3 2020-01-01\n  - First.\n")
    assert (out / "CHANGES").read_text().startswith("1.2.4 ")
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "raw"
    assert description["GeneratedBy"][0]["Name"] == "efface"
    assert description["DatasetLinks"] == {"raw": "../raw"}


def test_masks_have_the_names_of_bids_or_lie_among_the_derivatives(raw, out):
    shared(raw, out)
    mask = out / "sub-01/ses-a/anat/sub-01_ses-a_mod-T1w_defacemask.nii.gz"
    assert raw_data_set.face_of(mask).all()
    assert not list((out / "sub-01/ses-a/func").glob("*mask*"))
    masks = sorted(p.name for p in (out / "derivatives/efface/sub-01/ses-a/func").iterdir())
    assert masks == [
        "sub-01_ses-a_task-rest_desc-bold_mask.nii.gz", "sub-01_ses-a_task-rest_part-phase_desc-bold_mask.nii.gz",
    ]  # fmt: skip


def test_the_picture_of_an_image_goes_with_it_and_into_the_report(raw, out):
    def pictures():
        return {path.relative_to(out).as_posix() for path in out.rglob("*.jpg")}

    result = shared(raw, out)
    images = [image.row.path for image in result.images if image.row.outcome is not Became.WITHHELD]
    assert pictures() == {picture_path(path) for path in images}
    assert build_share_page(out).read_text().count("data:image/jpeg") == len(images)
    flair = T1.replace("T1w", "FLAIR")
    (raw / flair).unlink()
    shared(raw, out)
    assert pictures() == {picture_path(path) for path in images if path != flair}


def test_table_and_report_say_as_which_number_of_the_synthetic_faces_the_person_comes_out(raw, out):
    result = shared(raw, out)
    assert {row.path: row for row in result.rows}[T1].singled_out == "432"
    assert "what is left singles the original out as number 432 of 1,001" in build_share_page(out).read_text()


def test_a_second_run_changes_no_byte_and_computes_nothing(raw, out):
    assert shared(raw, out).computed == 2
    before = snapshot(out)
    again = shared(raw, out)
    assert again.computed == 0
    assert snapshot(out) == before


def test_what_changed_is_made_again_and_what_is_gone_is_taken_out(raw, out):
    shared(raw, out)
    raw_data_set.write_image(raw / T1, "LAS")
    os.utime(raw / T1, ns=(1, 1))
    (raw / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    result = shared(raw, out)
    assert result.computed == 1
    assert not raw_data_set.face_of(out / T1).any()
    assert not (out / "sub-02").exists()
    assert "sub-02/anat/sub-02_T1w.nii.gz" not in outcomes(result)


def withholding(monkeypatch, path):
    """The checks withhold one image."""

    def carried(image, *_more):
        decision = raw_data_set.decided(image)
        if image.found.path == path:
            return Decision(Became.WITHHELD, "a face is left", "Failure I", decision.edit)
        return decision

    monkeypatch.setattr(session_task, "decide_carried", carried)


def test_what_is_withheld_is_nowhere_and_its_sidecars_and_tables_neither(raw, out, monkeypatch):
    withholding(monkeypatch, BOLD)
    result = shared(raw, out)
    rows = {row.path: row for row in result.rows}
    for path in (BOLD, PHASE, BOLD.replace(".nii.gz", ".json"), BOLD.replace("bold.nii.gz", "events.tsv")):
        assert rows[path].outcome is Became.WITHHELD
        assert rows[path].reason
        assert not (out / path).exists()
    assert rows[BOLD].reason == "a face is left"
    assert (out / T1).is_file()
    assert not any(path.name.endswith("bold.nii.gz") for path in out.rglob("*"))


def vote(out, path, verdict, reviewer="A"):
    record = next(json.loads(p.read_text()) for p in out.rglob("*_shared.json") if "ses-a" in p.name)
    candidate = next(image["candidate"] for image in record["images"] if image["row"]["path"] == path)
    append_rating(
        out / "derivatives/efface",
        Rating(now(), reviewer, "01", "a", path.rpartition("/")[2].removesuffix(".nii.gz"), "pydeface", verdict,
               "", candidate),
    )  # fmt: skip


def test_a_vote_releases_what_was_withheld_and_another_takes_it_out_again(raw, out, monkeypatch):
    flair = T1.replace("T1w", "FLAIR")
    withholding(monkeypatch, flair)
    shared(raw, out)
    assert not (out / flair).exists()
    vote(out, flair, "Success")
    result = shared(raw, out)
    assert outcomes(result)[flair] is Became.DEFACED
    assert not raw_data_set.face_of(out / flair).any()
    vote(out, flair, "Failure I", reviewer="B")
    result = shared(raw, out)
    assert outcomes(result)[flair] is Became.WITHHELD
    assert not (out / flair).exists()
    assert "a reviewer voted Failure I" in {row.path: row for row in result.rows}[flair].reason


def test_a_vote_on_another_result_counts_for_nothing(raw, out, monkeypatch):
    flair = T1.replace("T1w", "FLAIR")
    withholding(monkeypatch, flair)
    shared(raw, out)
    vote(out, flair, "Success")
    raw_data_set.write_image(raw / flair, "LPS", volumes=2)  # another image under the same name
    assert outcomes(shared(raw, out))[flair] is Became.WITHHELD


def test_parts_without_a_magnitude_image_are_withheld(raw, out):
    (raw / BOLD).unlink()
    result = shared(raw, out)
    assert outcomes(result)[PHASE] is Became.WITHHELD
    assert not (out / PHASE).exists()


def test_a_session_without_a_reference_is_withheld_unless_another_one_may_decide(raw, out, monkeypatch):
    other = "sub-01/ses-b/anat/sub-01_ses-b_angio.nii.gz"
    raw_data_set.write_image(raw / other)
    result = shared(raw, out)
    assert outcomes(result)[other] is Became.WITHHELD
    assert "--across-sessions" in {row.path: row for row in result.rows}[other].reason
    assert outcomes(shared(raw, out, across_sessions=True))[other] is Became.DEFACED


def test_an_image_that_cannot_be_read_is_withheld_with_the_reason(raw, out):
    (raw / BOLD).write_bytes(b"no image")
    row = {row.path: row for row in shared(raw, out).rows}[BOLD]
    assert row.outcome is Became.WITHHELD
    assert "not a NIfTI" in row.reason
    assert str(raw) not in row.reason


def test_a_part_of_the_data_set_is_shared_and_the_rest_stays(raw, out):
    shared(raw, out, subjects=["sub-02"])
    assert not (out / "sub-01").exists()
    assert (out / "participants.tsv").read_text() == "participant_id\tage\nsub-02\t50\n"
    result = shared(raw, out, subjects=["01"])
    assert (out / "sub-02/anat/sub-02_T1w.nii.gz").is_file()
    assert (out / T1).is_file()
    assert outcomes(result)["sub-02/anat/sub-02_T1w.nii.gz"] is Became.DEFACED


def test_a_filter_leaves_images_out_with_a_row(raw, out):
    result = shared(raw, out, bids_filter=load_filter({"t1w": {"datatype": "anat"}}))
    assert outcomes(result)[BOLD] is Became.LEFT_OUT
    assert not (out / BOLD).exists()
    with pytest.raises(InputError, match="no image to share"):
        shared(raw, out, bids_filter=load_filter({"t1w": {"datatype": "dwi"}}))


def test_dates_are_moved_alike_in_every_run_and_the_number_is_nowhere(raw, out):
    shared(raw, out, dates="shift")
    tables = [out / "sub-01/sub-01_sessions.tsv", out / "sub-01/ses-a/sub-01_ses-a_scans.tsv"]
    first = [path.read_text() for path in tables]
    days = {line.split("\t")[1][:10] for text in first for line in text.splitlines()[1:]}
    assert len(days) == 1
    assert "2019-03-01" not in days
    shared(raw, out, dates="shift")
    assert [path.read_text() for path in tables] == first


def test_what_is_taken_along_is_as_it_was(raw, out):
    result = shared(raw, out, also=("code",))
    assert (out / "code/run.py").read_text() == "no raw BIDS"
    assert outcomes(result)["code/run.py"] is Became.COPIED


def test_links_are_made_where_nothing_changes_and_the_data_set_is_never_written_to(raw, out, monkeypatch):
    copied = Decision(Became.COPIED, "no face")
    monkeypatch.setattr(session_task, "decide_carried", lambda *_: copied)
    flair = T1.replace("T1w", "FLAIR")
    shared(raw, out, header="keep", link=True)
    assert (out / flair).samefile(raw / flair)
    before = (raw / flair).read_bytes()
    monkeypatch.setattr(session_task, "decide_carried", raw_data_set.decided)
    os.utime(raw / flair, ns=(5, 5))
    shared(raw, out, header="keep", link=True)
    assert (raw / flair).read_bytes() == before
    assert not raw_data_set.face_of(out / flair).any()


def test_no_output_has_wider_permissions_than_its_source(raw, out):
    (raw / T1).chmod(0o600)
    shared(raw, out)
    for path in (T1, "sub-01/ses-a/anat/sub-01_ses-a_mod-T1w_defacemask.nii.gz", T1.replace(".nii.gz", ".json")):
        assert (out / path).stat().st_mode & 0o077 == 0, path


def test_a_session_whose_worker_died_is_withheld_and_what_it_had_shared_is_taken_out(raw, out, monkeypatch):
    shared(raw, out)
    os.utime(raw / T1, ns=(1, 1))
    monkeypatch.setattr(run, "_outcomes", lambda _executor, todo: (task.lost("out of memory") for task in todo))
    result = shared(raw, out)
    assert outcomes(result)[T1] is Became.WITHHELD
    assert not (out / T1).exists()
    assert (out / "sub-02/anat/sub-02_T1w.nii.gz").is_file()


@pytest.mark.parametrize("place", ["", "inner", ".."])
def test_folders_that_lie_in_each_other_are_refused(raw, place):
    with pytest.raises(InputError, match="must not lie in each other"):
        ShareSettings(raw, raw / place if place else raw)


def test_wrong_settings_and_folders_are_refused_before_anything_is_written(raw, out, tmp_path):
    for wrong in ({"method": "none"}, {"dates": "x"}, {"header": "x"}, {"params": {"no": "1"}}):
        with pytest.raises(InputError):
            ShareSettings(raw, out, **wrong)
    for wrong in ({"subjects": ["77"]}, {"sessions": ["z"]}):
        with pytest.raises(InputError, match="it has"):
            shared(raw, out, **wrong)
    with pytest.raises(InputError, match="does not exist"):
        shared(tmp_path / "none", out)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        shared(raw, out)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_an_edit_of_one_image_is_given_to_others_of_its_acquisition_only(raw, out, monkeypatch):
    """A registration that fails is no reason to take the mask of an image of another acquisition."""

    def fails(image, *_more):
        if image.found.suffix == "bold" and "part" not in image.found.entities:
            return Decision(Became.WITHHELD, "could not be aligned")
        return raw_data_set.decided(image)

    monkeypatch.setattr(session_task, "decide_carried", fails)
    row = {row.path: row for row in shared(raw, out).rows}[BOLD]
    assert (row.outcome, row.reason) == (Became.WITHHELD, "could not be aligned")


def test_a_json_that_describes_a_table_keeps_its_columns_only(raw, out):
    described = {"onset": {"Units": "s"}, "InstitutionName": "Hospital", "SamplingFrequency": 100.0}
    name = BOLD.replace("bold.nii.gz", "events.json")
    (raw / name).write_text(json.dumps(described))
    (raw / "participants.json").write_text('{"age": {"Units": "year"}}')
    rows = {row.path: row for row in shared(raw, out).rows}
    assert json.loads((out / name).read_text()) == {"onset": {"Units": "s"}, "SamplingFrequency": 100.0}
    assert rows[name].reason == "removed InstitutionName"
    assert (out / "participants.json").read_text() == '{"age": {"Units": "year"}}'


def test_recordings_and_all_that_measures_a_head_with_them_are_left_out(raw, out):
    for name in ("sub-02_task-rest_eeg.edf", "sub-02_task-rest_eeg.json", "sub-02_coordsystem.json"):
        (raw / "sub-02/eeg").mkdir(exist_ok=True)
        (raw / "sub-02/eeg" / name).write_text("{}")
    result = outcomes(shared(raw, out))
    assert all(outcome is Became.LEFT_OUT for path, outcome in result.items() if "/eeg/" in path)
    assert not (out / "sub-02/eeg").exists()


def test_a_run_of_a_part_leaves_tables_and_sidecars_of_the_others(raw, out):
    shared(raw, out)
    before = snapshot(out)
    shared(raw, out, subjects=["sub-02"])
    assert snapshot(out) == before
    assert {row.path: row.outcome for row in read_table(out)}["sub-01/sub-01_sessions.tsv"] is Became.COPIED


def test_dates_as_people_write_them_go_from_every_table(raw, out):
    (raw / "phenotype").mkdir()
    (raw / "phenotype/bdi.tsv").write_text("participant_id\tbdi\tvisit\nsub-01\t3\t2019-03-04\nsub-99\t4\tn/a\n")
    (raw / "participants.tsv").write_text(
        'participant_id\tdob\tscan_day\tage\n"sub-01"\t02/01/1989\t4-Mar-2019\t40\nsub-02\t2.1.1979\tn/a\t50\n'
    )
    shared(raw, out)
    assert (out / "phenotype/bdi.tsv").read_text() == "participant_id\tbdi\nsub-01\t3\n"
    assert (out / "participants.tsv").read_text() == 'participant_id\tage\n"sub-01"\t40\nsub-02\t50\n'


def test_a_table_of_participants_without_a_header_is_withheld(raw, out):
    (raw / "participants.tsv").write_text("sub-01\t40\t1979-01-02\n")
    row = {row.path: row for row in shared(raw, out).rows}["participants.tsv"]
    assert row.outcome is Became.WITHHELD
    assert "header" in row.reason
    assert not (out / "participants.tsv").exists()


def test_images_left_out_for_their_names_are_told_of(raw, out):
    raw_data_set.write_image(raw / "sub-02/anat/sub-03_T1w.nii.gz", suffix_json=False)
    assert [row.path for row in shared(raw, out).misnamed] == ["sub-02/anat/sub-03_T1w.nii.gz"]
