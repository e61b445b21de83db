"""The review of a shared data set: withheld images first, made again in private; votes go where share finds them."""

import nibabel as nib
import numpy as np
import pytest

import raw_data_set
from efface.defacing import Edit
from efface.errors import InputError
from efface.review.session import Session
from efface.share import Became, ShareSettings, session_task, share
from efface.share.decisions import Decision
from efface.share.records import read_table
from efface.study.backends import Local

FLAIR = "sub-01/ses-a/anat/sub-01_ses-a_FLAIR.nii.gz"
BOLD = "sub-01/ses-a/func/sub-01_ses-a_task-rest_bold.nii.gz"


def run(raw, out):
    share(ShareSettings(raw, out), backend=Local(1))
    return {row.path: row for row in read_table(out)}


@pytest.fixture
def withheld(tmp_path, monkeypatch):
    """A shared data set of which the FLAIR and the series are withheld: half of the face is left in them."""
    raw_data_set.stand_in(monkeypatch)
    raw, out, scratch = raw_data_set.make(tmp_path / "raw"), tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()

    def half(image, *_more):
        mask = raw_data_set.face_edit(image.scan).mask
        mask[:20] = False
        quality = {"verdict": "Failure I", "score": 0.6, "reason": "half of the face is left"}
        return Decision(Became.WITHHELD, "half of the face is left", "Failure I", Edit(mask, 0.0, "pydeface"),
                        {"quality": quality})  # fmt: skip

    monkeypatch.setattr(session_task, "decide_carried", half)
    run(raw, out)
    return raw, out, scratch


def case_of(session, path):
    return next(case for case in session.cases.values() if case.record.row.path == path)


def test_withheld_images_come_first(withheld):
    _, out, scratch = withheld
    session = Session(out, scratch=scratch)
    order = [row[0] for row in session.study("A")["cases"]]
    first = {session.cases[name].record.row.path for name in order[:2]}
    assert first == {FLAIR, BOLD}, "the phase follows its magnitude image"
    assert len(order) == 4
    details = session.details(order[0], "A")
    assert "half of the face" in details["reason"]
    assert set(details["volumes"]) == {"before", "after", "edit"}


@pytest.mark.parametrize("path", [FLAIR, BOLD])
def test_what_was_withheld_is_made_again_in_private_only(withheld, path):
    raw, out, scratch = withheld
    volumes = case_of(Session(out, scratch=scratch), path).volumes()
    before, after, edit = (np.asarray(nib.load(volumes[kind]).dataobj) for kind in ("before", "after", "edit"))
    assert not after[edit > 0].any()
    np.testing.assert_allclose(after[edit == 0], before[edit == 0])
    original = np.asarray(nib.load(raw / path).dataobj)
    np.testing.assert_allclose(before, original if original.ndim == 3 else original.mean(axis=-1), rtol=1e-5)
    assert volumes["before"].parent == volumes["after"].parent == scratch
    assert not (out / path).exists()


def test_a_vote_releases_and_nothing_is_written_to_the_data_set(withheld):
    raw, out, scratch = withheld
    session = Session(out, scratch=scratch)
    session.vote(case_of(session, FLAIR).id, "A", "Success", "")
    assert (out / "derivatives/efface/review/votes.jsonl").is_file()
    assert not (out / "review").exists()
    assert "1 votes" in session.export()
    rows = run(raw, out)
    assert rows[FLAIR].outcome is Became.DEFACED
    assert (out / FLAIR).is_file()
    again = Session(out, scratch=scratch)
    case = case_of(again, FLAIR)
    assert not case.is_withheld
    assert again.details(case.id, "A")["vote"]["verdict"] == "Success"
    again.vote(case.id, "A", "Failure I", "a look at the eyes")
    assert run(raw, out)[FLAIR].outcome is Became.WITHHELD
    assert not (out / FLAIR).exists()


def test_where_the_data_set_is_gone_the_page_says_so(withheld):
    raw, out, scratch = withheld
    raw.rename(raw.with_name("moved"))
    session = Session(out, scratch=scratch)
    details = session.details(case_of(session, FLAIR).id, "A")
    assert "before" not in details["volumes"]
    assert "DatasetLinks" in details["no_original"]


def test_a_review_without_a_private_folder_is_refused(withheld):
    _, out, _ = withheld
    with pytest.raises(InputError, match="private folder"):
        Session(out)
