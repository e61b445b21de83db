"""The memory of a command that works on one scan: large blocks that were freed are used again."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Settings of glibc's ``mallopt``, by their numbers in ``malloc.h``."""
_LARGEST = 2**30


def keep_freed_memory() -> None:
    """Let the allocator keep blocks that were freed, for the next ones of their size.

    Otherwise every volume and every layer of a network is taken from the system, filled with zeros by it, and given
    back: a sixth of the time of a command. Its memory is not given back before the command ends, which is soon. Only
    glibc has these settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    settings = ctypes.CDLL(None)
    settings.mallopt(_ARENA_MAX, 1)  # threads share what was freed
    settings.mallopt(_MMAP_THRESHOLD, _LARGEST)
    settings.mallopt(_TRIM_THRESHOLD, _LARGEST)
