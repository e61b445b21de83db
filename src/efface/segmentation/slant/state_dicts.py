"""State dicts of networks: opened within a limit, compared with the network, and only then read."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.io.tensor_files import FLOATS, StoredTensor, open_tensors
from efface.io.untrusted import refusing

EXPECTED = "a PyTorch state dict of one tile"
MORE_BYTES = 2**22
"""What a file may have beside the tensors of the network: statistics, an unused layer, names, padding."""


def open_state(path: Path, network: Callable[[], nn.Module]) -> dict[str, StoredTensor]:
    """Tensors of a state dict, not read yet.

    Parameters
    ----------
    path
        A file of ``torch.save``.
    network
        Makes the network; the file cannot be larger than its tensors in double precision, and `MORE_BYTES`.

    Raises
    ------
    InputError
        If it cannot be read, or is larger, packed or unpacked.
    """
    with torch.device("meta"):
        numbers = sum(value.numel() for value in network().state_dict().values())
    return open_tensors(path, what="SLANT weights", expected=EXPECTED, largest=8 * numbers + MORE_BYTES)


def check_tensors(
    found: Mapping[str, StoredTensor | Tensor], expected: Mapping[str, Tensor], where: str, advice: str
) -> None:
    """Compare names, shapes and types of tensors with those of a network, before any is read.

    Parameters
    ----------
    found
        Tensors of a file.
    expected
        State dict of the network; its tensors may be on the device ``meta``.
    where
        Path of the file.
    advice
        What to do.

    Raises
    ------
    InputError
        If one is missing, has another shape, or holds no floating-point numbers; the text names it.
    """
    for key, wanted in expected.items():
        shape, value = tuple(wanted.shape), found.get(key)
        received = "nothing" if value is None else "no tensor"
        if isinstance(value, Tensor | StoredTensor):
            type_ = str(value.dtype).removeprefix("torch.")
            received = str(tuple(value.shape)) + ("" if type_ in FLOATS else f" of {type_}")
        if received != str(shape):
            msg = f"SLANT weights {where}: tensor {key} must have shape {shape}; received {received}: {advice}"
            raise InputError(msg)


def read_tensors(found: Mapping[str, StoredTensor | Tensor], expected: Iterable[str], where: str) -> dict[str, Tensor]:
    """Read tensors that `check_tensors` has accepted, as float32.

    Raises
    ------
    InputError
        If their numbers are damaged, or not finite.
    """
    read = {}
    with refusing(f"SLANT weights {where}", EXPECTED):
        for key in expected:
            value = found[key]
            read[key] = (value if isinstance(value, Tensor) else value.read()).float()
            if not torch.isfinite(read[key]).all():
                msg = f"tensor {key} holds numbers that are not finite"
                raise ValueError(msg)
    return read
