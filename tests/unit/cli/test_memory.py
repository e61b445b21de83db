"""Freed memory is kept where the allocator can be told to, and nowhere else is anything asked of it."""

import ctypes

import pytest

from efface.cli import memory


class Library:
    """Stands for the C library: takes notes, and refuses blocks that are too large."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.set: dict[int, int] = {}

    def mallopt(self, what: int, value: int) -> int:
        if what == memory._MMAP_THRESHOLD and value > self.largest:
            return 0
        self.set[what] = value
        return 1


@pytest.mark.parametrize(("largest", "kept"), [(2**40, 2**30), (2**25, 2**25)])
def test_glibc_is_told_to_keep_what_is_freed_as_far_as_it_can(largest, kept, monkeypatch):
    library = Library(largest)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    memory.keep_freed_memory()
    assert library.set[memory._MMAP_THRESHOLD] == kept
    assert len(library.set) == 3


@pytest.mark.parametrize(("name", "largest"), [("", 2**40), ("musl", 2**40), ("glibc", 0)])
def test_nothing_is_set_elsewhere_or_where_it_is_refused(name, largest, monkeypatch):
    library = Library(largest)
    monkeypatch.setattr("platform.libc_ver", lambda: (name, "1"))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    memory.keep_freed_memory()
    assert library.set == {}
