"""Sources are named by BIDS URIs, and found again from any folder and after a move; no link tells an absolute path."""

import json
import os
import shutil
from pathlib import Path

import pytest

from efface.bids import dataset_links
from efface.bids.dataset_links import UNLINKED, link_to, note_place, original_of, raw_folder, uri_of
from efface.bids.shareable import without_paths

SCAN = Path("sub-01/anat/sub-01_T1w.nii.gz")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def study(bids_dir, out_dir, sources=None):
    """A study's description and one recipe."""
    defaced = out_dir / "sub-01/anat/sub-01_desc-pydeface_T1w.nii.gz"
    defaced.parent.mkdir(parents=True)
    scan = bids_dir / SCAN
    scan.parent.mkdir(parents=True)
    scan.touch()
    link = {"DatasetLinks": {"raw": link_to(bids_dir, out_dir)}}
    (out_dir / "dataset_description.json").write_text(json.dumps(link))
    recipe = {"Sources": [uri_of(scan, bids_dir)] if sources is None else sources}
    (defaced.parent / "sub-01_desc-pydeface_T1w.json").write_text(json.dumps(recipe))
    note_place(bids_dir, out_dir)
    return defaced, scan


@pytest.mark.parametrize(
    ("bids", "out", "link"),
    [
        ("bids", "out", "../bids"),
        ("bids", "bids/derivatives/efface", "../.."),
        ("a/raw data", "b/c/out", "../../../a/raw%20data"),
        ("out/sourcedata/bids", "out", "sourcedata/bids"),
    ],
)
def test_the_link_is_relative_and_leads_to_the_data_set(tmp_path, monkeypatch, bids, out, link):
    bids_dir, out_dir = tmp_path / bids, tmp_path / out
    defaced, scan = study(bids_dir, out_dir)
    assert link_to(bids_dir, out_dir) == link
    monkeypatch.chdir("/")
    assert original_of(defaced, out_dir) == (scan.resolve(), "")
    monkeypatch.chdir(out_dir)
    found, _ = original_of(Path(os.path.relpath(defaced)), Path())
    assert found == scan.resolve()


def test_both_can_be_moved_together(tmp_path):
    defaced, _ = study(tmp_path / "old/bids", tmp_path / "old/out")
    shutil.move(tmp_path / "old", tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / defaced.relative_to(tmp_path / "old")
    found, _ = original_of(moved, tmp_path / "elsewhere/out")
    assert found == tmp_path / "elsewhere/bids" / SCAN
    assert found.is_file()


@pytest.mark.parametrize("where", ["user", "root"])
def test_a_link_that_would_tell_too_much_is_a_note_outside_the_study(tmp_path, monkeypatch, state, where):
    bids_dir, out_dir = tmp_path / "jdoe/bids", tmp_path / "out"
    if where == "user":
        monkeypatch.setattr(dataset_links, "_names_of_here", lambda: {"jdoe"})
    else:  # as if the two had nothing in common but the root
        monkeypatch.setattr(dataset_links.os.path, "relpath", lambda *_: f"{'../' * 30}{bids_dir}"[:-1] + "s")
    defaced, scan = study(bids_dir, out_dir)
    assert raw_folder(out_dir) == bids_dir.resolve()
    assert original_of(defaced, out_dir) == (scan, "")
    (note,) = (state / "efface").iterdir()
    assert note.stat().st_mode & 0o077 == 0
    assert (state / "efface").stat().st_mode & 0o077 == 0
    text = (out_dir / "dataset_description.json").read_text()
    assert UNLINKED in text
    assert "jdoe" not in text
    note.unlink()
    assert raw_folder(out_dir) == out_dir.resolve() / UNLINKED, "a copy or link there is found"


def test_a_note_is_removed_when_the_link_says_it_again(tmp_path, monkeypatch, state):
    with monkeypatch.context() as patch:
        patch.setattr(dataset_links, "_names_of_here", lambda: {"bids"})
        note_place(tmp_path / "bids", tmp_path / "out")
    assert len(list((state / "efface").iterdir())) == 1
    note_place(tmp_path / "bids", tmp_path / "out")
    assert list((state / "efface").iterdir()) == []


def test_a_place_that_cannot_be_noted_is_a_warning(tmp_path, monkeypatch, state, caplog):
    monkeypatch.setattr(dataset_links, "_names_of_here", lambda: {"bids"})
    state.write_text("no folder")
    note_place(tmp_path / "bids", tmp_path / "out")
    assert "link the data set at sourcedata/raw" in caplog.text


def test_a_user_without_a_home_folder_is_told_what_to_do(tmp_path, monkeypatch, caplog):
    def no_home():
        msg = "Could not determine home directory."
        raise RuntimeError(msg)

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(dataset_links.Path, "home", no_home)
    defaced, scan = study(tmp_path / "bids", tmp_path / "out")
    assert original_of(defaced, tmp_path / "out") == (scan.resolve(), "")
    assert without_paths(f"{tmp_path}/x is odd") == "x is odd"
    monkeypatch.setattr(dataset_links, "_names_of_here", lambda: {"bids"})
    note_place(tmp_path / "bids", tmp_path / "out")
    assert "there is no home folder" in caplog.text
    assert raw_folder(tmp_path / "out") is not None


def test_studies_of_earlier_versions_are_read(tmp_path):
    defaced, scan = study(tmp_path / "bids", tmp_path / "out", sources=["/data/bids/sub-01_T1w.nii.gz"])
    assert original_of(defaced, tmp_path / "out") == (Path("/data/bids/sub-01_T1w.nii.gz"), "")
    link = {"DatasetLinks": {"raw": (tmp_path / "bids").as_uri()}}
    (tmp_path / "out/dataset_description.json").write_text(json.dumps(link))
    assert raw_folder(tmp_path / "out") / SCAN == scan


@pytest.mark.parametrize(
    "sources",
    [[], "x", [3], None, ["bids:raw:../../etc/x.nii"], ["bids:raw:/etc/x.nii"], ["bids:other:x.nii"], ["bids::x.nii"]],
)
def test_a_source_that_is_not_in_the_data_set_is_refused(tmp_path, sources):
    defaced, _ = study(tmp_path / "bids", tmp_path / "out", sources=[] if sources is None else sources)
    found, why = original_of(defaced, tmp_path / "out")
    assert found is None
    assert "original" in why


@pytest.mark.parametrize("link", [None, 3, {}, {"raw": 3}, {"raw": ""}, {"raw": "https://example.org/x"}])
def test_a_description_without_a_usable_link_is_said(tmp_path, link):
    defaced, _ = study(tmp_path / "bids", tmp_path / "out")
    (tmp_path / "out/dataset_description.json").write_text(json.dumps({"DatasetLinks": link}))
    found, why = original_of(defaced, tmp_path / "out")
    assert found is None
    assert "DatasetLinks" in why
