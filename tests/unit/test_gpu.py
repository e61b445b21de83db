"""Too little GPU memory is told apart from other errors of torch."""

import pytest
import torch

from efface._gpu import gpu_memory
from efface.errors import GpuMemoryError


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_too_little_memory_is_reported_as_such(error):
    with (
        pytest.raises(GpuMemoryError, match="the GPU ran out of memory while testing: run fewer jobs"),
        gpu_memory("testing"),
    ):
        raise error


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory",
        "std::bad_alloc",
    ],
)
def test_too_little_memory_of_the_machine_is_no_other_fault(text):
    with pytest.raises(MemoryError, match="testing") as caught, gpu_memory("testing"):
        raise RuntimeError(text)
    assert not isinstance(caught.value, GpuMemoryError)


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes do not fit") as caught, gpu_memory("testing"):
        raise RuntimeError("shapes do not fit")
    assert not isinstance(caught.value, GpuMemoryError)
