"""Damaged files of a training: one line, and what to do."""

import numpy as np
import pytest
import torch

from efface.errors import InputError
from efface.training.defacer import _resumed
from efface.training.priors import Located
from efface.training.slant_data import load_head
from efface.training.slant_fit import _load_checkpoint, refusing


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_checkpoint_is_one_line(tmp_path, damage):
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 3}, path)
    if damage is not None:
        path.write_bytes(damage)
    network = torch.nn.Linear(1, 1)
    optimiser = torch.optim.AdamW(network.parameters())
    with pytest.raises(InputError, match=r"checkpoint .* cannot be read .*: remove it to begin again") as caught:
        _resumed(path, network, optimiser)
    assert str(caught.value).isprintable()
    with pytest.raises(InputError, match="cannot be read"), refusing("checkpoint", "another"):
        _load_checkpoint(path, {})


def test_no_checkpoint_is_the_beginning(tmp_path):
    network = torch.nn.Linear(1, 1)
    assert _resumed(tmp_path / "none.pt", network, torch.optim.AdamW(network.parameters())) == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", None])
def test_a_damaged_head_is_one_line(tmp_path, content):
    path = tmp_path / "head.npz"
    np.savez(path, image=np.zeros(3))
    if content is not None:
        path.write_bytes(content)
    for read in (lambda: load_head(tmp_path, "head"), lambda: Located.load(path)):
        with pytest.raises(InputError, match=r"head .*head\.npz cannot be read .*: remove it, and run"):
            read()
