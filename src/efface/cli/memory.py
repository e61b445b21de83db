"""The memory of a command that works on one scan: blocks that were freed are used again."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Settings of glibc's ``mallopt``, by their numbers in ``malloc.h``."""
_KEPT = 2**30
"""Free memory at the end of the heap that is not given back."""
_LARGEST = (2**30, 2**25)
"""Larger blocks are given back; older versions of glibc refuse the first."""


def keep_freed_memory() -> None:
    """Let the allocator keep blocks that were freed, for the next ones of their size.

    Otherwise every volume and every layer of a network is taken from the system, filled with zeros by it, and given
    back: a sixth of the time of a command. Only glibc has these settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    settings = ctypes.CDLL(None)
    if any(settings.mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST):
        settings.mallopt(_TRIM_THRESHOLD, _KEPT)
        settings.mallopt(_ARENA_MAX, 1)  # threads share what was freed
