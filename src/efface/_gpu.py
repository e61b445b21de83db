"""Reporting of too little memory by the libraries of the networks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from efface.errors import GpuMemoryError

_MESSAGES = ("CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
"""In the text of a plain RuntimeError: the GPU has no room even for the context or the workspace of a library."""

_PROCESSOR_MESSAGES = ("can't allocate memory", "bad_alloc")
"""The same where it is the processor's memory."""


@contextmanager
def gpu_memory(what: str) -> Iterator[None]:
    """Report too little memory, of the GPU or of the machine, as what it is.

    Parameters
    ----------
    what
        The computation, for the message.

    Raises
    ------
    GpuMemoryError
        Instead of torch's error, which is a RuntimeError and could be taken for another fault.
    MemoryError
        Likewise, where it is the machine's memory.
    """
    try:
        yield
    except RuntimeError as error:
        if any(text in str(error) for text in _PROCESSOR_MESSAGES):
            raise MemoryError(what) from error
        if not _is_out_of_memory(error):
            raise
        msg = (
            f"the GPU ran out of memory while {what}: run fewer jobs at once (--jobs 1), or use the processor "
            "(set CUDA_VISIBLE_DEVICES to nothing)"
        )
        raise GpuMemoryError(msg) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(text in str(error) for text in _MESSAGES)
