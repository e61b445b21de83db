"""Private folders: open to nobody else, gone at the end, and after a kill at the next start."""

import signal
import stat
import subprocess
import sys

import pytest

from efface.io.scratch import clean_up, private_temporary_folder

WAITS = """
import sys, time
from efface.io.scratch import private_temporary_folder
with private_temporary_folder() as folder:
    (folder / "face.nii").write_bytes(b"a face")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def left(temporary):
    return [path for path in temporary.rglob("*") if path.name.startswith("run-")]


def test_a_private_folder_is_closed_to_others_and_gone_at_the_end(temporary):
    with private_temporary_folder() as folder:
        (folder / "face.nii").touch()
        assert folder.is_relative_to(temporary)
        assert (mode(folder), mode(folder.parent)) == (0o700, 0o700)
    assert not left(temporary)


def test_a_private_folder_is_gone_after_an_error(temporary):
    def interrupted():
        with private_temporary_folder() as folder:
            (folder / "face.nii").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not left(temporary)


def test_what_a_killed_run_left_goes_at_the_next_start_and_a_living_run_keeps_its_own(temporary):
    runs = [subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        killed, living = (temporary / run.stdout.readline().strip() for run in runs)
        runs[0].send_signal(signal.SIGKILL)
        runs[0].wait()
        assert (killed / "face.nii").is_file()
        assert clean_up() == 1
        assert not killed.exists()
        assert (living / "face.nii").is_file()
        assert clean_up() == 0
    finally:
        for run in runs:
            run.kill()
            run.wait()
            run.stdout.close()
    assert clean_up() == 1
    assert not left(temporary)


def test_a_folder_in_use_by_this_process_is_left_alone():
    with private_temporary_folder() as folder:
        assert clean_up() == 0
        assert folder.is_dir()


def test_a_root_that_others_can_open_is_closed(temporary):
    with private_temporary_folder() as folder:
        root = folder.parent
    root.chmod(0o777)
    with private_temporary_folder() as folder:
        assert mode(root) == 0o700


def test_a_link_put_where_the_root_should_be_is_not_followed(temporary, tmp_path_factory):
    with private_temporary_folder() as folder:
        root = folder.parent
    trap = tmp_path_factory.mktemp("trap")
    root.rmdir()
    root.symlink_to(trap)
    with private_temporary_folder() as folder:
        assert not folder.resolve().is_relative_to(trap)
        assert (mode(folder), mode(folder.parent)) == (0o700, 0o700)
        parent = folder.parent
    assert not parent.exists()
    assert clean_up() == 0


def test_a_file_where_the_root_should_be_does_not_stop_a_run(temporary):
    with private_temporary_folder() as folder:
        root = folder.parent
    root.rmdir()
    root.touch()
    with private_temporary_folder() as folder:
        assert folder.is_dir()
