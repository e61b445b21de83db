"""Report too little GPU memory as what it is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from efface.errors import GpuMemoryError


@contextmanager
def gpu_memory(what: str) -> Iterator[None]:
    """Report too little GPU memory as what it is.

    Parameters
    ----------
    what
        What is being done, for the message.

    Raises
    ------
    GpuMemoryError
        Instead of torch's error, which is a RuntimeError and could be taken for another fault.
    """
    try:
        yield
    except RuntimeError as error:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(error, torch.OutOfMemoryError):
            raise
        msg = (
            f"the GPU ran out of memory while {what}: run fewer jobs at once (--jobs 1), or use the processor "
            "(set CUDA_VISIBLE_DEVICES to nothing)"
        )
        raise GpuMemoryError(msg) from error
