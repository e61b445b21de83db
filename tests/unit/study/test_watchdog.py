"""Stop notes: which scan a note belongs to."""

from efface.bids.derivatives import UnitPaths
from efface.study.watchdog import StepTimer, stop_notes


def test_a_note_belongs_to_one_scan_only(tmp_path):
    first, neighbour = (UnitPaths(tmp_path, "01", "1", stem) for stem in ("sub-01_ses-1", "sub-01_ses-1_acq-mprage"))
    first.folder.mkdir(parents=True)
    for paths in (first, neighbour):
        paths.stopped("deface quickshear").write_text("a traceback")
        paths.stopped("load").touch()  # under way
    assert stop_notes(first.folder, first.stem) == [first.stopped("deface quickshear")]
    assert stop_notes(first.folder, neighbour.stem) == [neighbour.stopped("deface quickshear")]
    assert stop_notes(tmp_path / "missing", first.stem) == []


def test_a_timer_keeps_the_seconds_of_steps_that_ended(tmp_path):
    paths = UnitPaths(tmp_path, "01", None, "sub-01")
    paths.folder.mkdir()
    timer = StepTimer(paths, 60)
    with timer.step("load"):
        assert paths.stopped("load").exists()
    assert list(timer.seconds) == ["load"]
    assert not list(paths.folder.iterdir())
