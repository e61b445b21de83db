"""Outputs appear whole or not at all, and every refusal is one line."""

import errno
import os
import stat
from pathlib import Path

import pytest

from efface.errors import OutputError
from efface.io.atomic import as_private_as, check_output, copy_atomically, write_atomically


def failing(number: int):
    """A write that stops half-way, as a full disk stops it."""

    def write_bytes(path: Path, data: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(number, os.strerror(number))

    return write_bytes


def refused(path: Path, **options) -> str:
    """The one line with which an output is refused."""
    with pytest.raises(OutputError) as caught:
        write_atomically(path, b"new content", **options)
    text = str(caught.value)
    assert "\n" not in text
    assert ": " in text, "the text must end with what to do"
    return text


def test_bytes_are_written_and_nothing_else_is_left(tmp_path):
    write_atomically(tmp_path / "out.nii", b"content")
    assert (tmp_path / "out.nii").read_bytes() == b"content"
    assert [p.name for p in tmp_path.iterdir()] == ["out.nii"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").write_bytes(b"")
    write_atomically(tmp_path / "out.nii", b"content")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "out.nii")}
    assert len(modes) == 1


def test_an_existing_file_is_kept_without_force_and_replaced_with_it(tmp_path):
    path = tmp_path / "out.nii"
    path.write_bytes(b"old")
    assert "exists already: give --force" in refused(path)
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new", force=True)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("force", [False, True])
def test_a_missing_folder_is_refused(tmp_path, force):
    text = refused(tmp_path / "nowhere" / "out.nii", force=force)
    assert f"{tmp_path / 'nowhere'} does not exist: create it" in text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert "does not exist" in refused(tmp_path / "file" / "out.nii")


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_as_output_is_refused_even_with_force(tmp_path, force):
    assert "is a folder; expected a file name" in refused(tmp_path, force=force)


def test_a_name_that_is_too_long_is_refused(tmp_path):
    assert "File name too long" in refused(tmp_path / ("x" * 300 + ".nii"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left to write .*: free some disk space and run again"),
        (errno.EDQUOT, "no space left to write"),
        (errno.EACCES, "output folder .* is read-only: choose a folder you can write to"),
        (errno.EROFS, "is read-only"),
        (errno.EIO, "cannot write .*Input/output error.: choose another"),
    ],
)
def test_a_write_that_fails_half_way_leaves_nothing_new(tmp_path, monkeypatch, number, words, force):
    path = tmp_path / "out.nii"
    if force:
        path.write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", failing(number))
    with pytest.raises(OutputError, match=words) as caught:
        write_atomically(path, b"new content", force=force)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == (["out.nii"] if force else [])
    assert not force or path.read_bytes() == b"old"


def test_a_write_that_fails_at_once_leaves_nothing(tmp_path, monkeypatch):
    def write_bytes(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    assert "no space left" in refused(tmp_path / "out.nii")
    assert list(tmp_path.iterdir()) == []


def test_a_rename_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def replace(path: Path, target: Path) -> Path:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", replace)
    assert "read-only" in refused(tmp_path / "out.nii")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def write_bytes(path: Path, data: bytes) -> int:
        path.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "out.nii", b"content")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_real_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    try:
        assert "read-only" in refused(tmp_path / "out.nii")
    finally:
        tmp_path.chmod(0o755)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_looked_into_is_refused(tmp_path, monkeypatch):
    def is_dir(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", is_dir)
    with pytest.raises(OutputError, match="is read-only: choose a folder"):
        check_output(tmp_path / "out.nii", force=False)


def test_a_free_path_passes_the_check_and_is_not_created(tmp_path):
    check_output(tmp_path / "out.nii", force=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("modes", "expected"), [([0o644, 0o600], 0o600), ([0o640, 0o604], 0o600), ([], 0o644)])
def test_what_is_made_of_files_is_for_those_who_may_read_them_all(tmp_path, modes, expected):
    sources = [tmp_path / str(i) for i in range(len(modes))]
    for source, mode in zip(sources, modes, strict=True):
        source.touch()
        source.chmod(mode)
    old = os.umask(0o022)
    try:
        with as_private_as([*sources, tmp_path / "not there"]):
            write_atomically(tmp_path / "out", b"x")
        write_atomically(tmp_path / "other", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == expected
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o644, "only inside the block"


def test_a_file_of_another_group_is_closed_to_its_own(tmp_path, monkeypatch):
    """What a group may read, the group that owns the output may not, unless everybody may."""
    source = tmp_path / "in"
    source.touch()
    source.chmod(0o660)
    monkeypatch.setattr(
        "efface.io.atomic._group_of", lambda status: 4711 if status.st_ino == source.stat().st_ino else 1
    )
    with as_private_as([source]):
        write_atomically(tmp_path / "out", b"x")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600


def test_a_copy_is_for_the_readers_of_its_source(tmp_path):
    (tmp_path / "in").write_bytes(b"x")
    (tmp_path / "in").chmod(0o600)
    copy_atomically(tmp_path / "in", tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
