"""Freed memory is kept where the allocator can be told to, and nowhere else is anything asked of it."""

import ctypes

import pytest

from efface.cli import memory


class Library:
    """Stands for the C library, and takes notes."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def mallopt(self, what: int, value: int) -> int:
        self.asked.append((what, value))
        return 1


@pytest.mark.parametrize(("library", "count"), [(("glibc", "2.36"), 3), (("", ""), 0), (("musl", "1"), 0)])
def test_only_glibc_is_told_to_keep_what_is_freed(library, count, monkeypatch):
    fake = Library()
    monkeypatch.setattr("platform.libc_ver", lambda: library)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: fake)
    memory.keep_freed_memory()
    assert len(fake.asked) == count
