"""A function run in a process of its own that is killed at its n-th write: in mid-file, before or after a rename.

The process is forked from a server that has no threads. A fork of the test process would have the locks of threads that
do not exist in it, and might wait for them for ever.
"""

import io
import multiprocessing
import os
import signal
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
LOADED_LATE = ("torch", "pathspec", "scipy.stats", "PIL.JpegImagePlugin", "PIL.PngImagePlugin")
"""What efface loads only where it is needed: every process that is killed would load it anew, for seconds."""
CONTEXT.set_forkserver_preload(
    ["pytest", "efface.share.run", "efface.study", "efface.quality", "efface.segmentation", *LOADED_LATE]
)
PATIENCE_S = 600


def writes(function, *args) -> int:
    """Run a function to its end, and count its writes and renames."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_counted, args=(sender, function, args))
    process.start()
    sender.close()
    count = receiver.recv()
    process.join(PATIENCE_S)
    return count


def is_killed(event: int, function, *args) -> bool:
    """Run a function that dies at the n-th write or rename, and say whether it did; else it must end well."""
    process = CONTEXT.Process(target=_dying, args=(event, function, args))
    process.start()
    process.join(PATIENCE_S)
    if process.exitcode not in (0, -signal.SIGKILL):
        process.kill()
        msg = f"the process ended with {process.exitcode}"
        raise AssertionError(msg)
    return process.exitcode != 0


class _Disk:
    """Counts writes and renames, and kills the process at one of them."""

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    def is_last(self) -> bool:
        self.count += 1
        return self.count == self.last

    def watch(self) -> None:
        """Stand before `Path.write_bytes`, `Path.open` for writing, and `Path.replace`."""
        disk, write, rename, opened = self, Path.write_bytes, Path.replace, Path.open

        class Stream(io.FileIO):
            def write(self, data) -> int:
                if disk.is_last():
                    super().write(memoryview(data).cast("B")[: len(data) // 2])
                    die()
                return super().write(data)

        def dying_write(path: Path, data: bytes) -> int:
            if disk.is_last():
                write(path, data[: len(data) // 2])
                die()
            return write(path, data)

        def dying_rename(path: Path, target: Path) -> Path:
            if disk.is_last():
                if disk.last % 2:
                    rename(path, target)
                die()
            return rename(path, target)

        def dying_open(path: Path, mode: str = "r", *args, **kwargs):
            return Stream(path, "w") if mode == "wb" else opened(path, mode, *args, **kwargs)

        Path.write_bytes, Path.replace, Path.open = dying_write, dying_rename, dying_open


def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def _dying(event: int, function, args) -> None:
    _Disk(event).watch()
    function(*args)


def _counted(sender, function, args) -> None:
    disk = _Disk(0)
    disk.watch()
    function(*args)
    sender.send(disk.count)
