"""State dicts are read as torch reads them, and hostile files in one line, without running or allocating anything."""

import random
import resource
from collections import OrderedDict

import pytest
import torch

import state_dicts
from efface.errors import InputError
from efface.io.tensor_files import open_tensors

LARGEST = 2**22


def contents():
    torch.manual_seed(1)
    wide = torch.randn(6, 8)
    return OrderedDict(
        float32=torch.randn(3, 4, 5), float64=torch.randn(2, dtype=torch.float64), float16=torch.randn(7).half(),
        bfloat16=torch.randn(7).bfloat16(), int64=torch.arange(5), int8=torch.arange(-3, 3, dtype=torch.int8),
        truth=torch.tensor([True, False]), number=torch.tensor(3.5), turned=wide.T, part=wide[2:4, 1:3], same=wide,
        channels=torch.randn(1, 3, 2, 2, 2).to(memory_format=torch.channels_last_3d),
        learned=torch.nn.Parameter(torch.randn(3)),
    )  # fmt: skip


def opened(path):
    return open_tensors(path, what="weights", expected="a state dict", largest=LARGEST)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_those_that_torch_reads(tmp_path, legacy):
    path = tmp_path / "state.pth"
    path.write_bytes(state_dicts.saved(contents(), legacy=legacy))
    reference, found = torch.load(path, weights_only=True), opened(path)
    assert list(found) == list(reference)
    for name, tensor in reference.items():
        assert (found[name].shape, f"torch.{found[name].dtype}") == (tuple(tensor.shape), str(tensor.dtype))
        read = found[name].read()
        assert read.dtype == tensor.dtype
        assert read.is_contiguous()
        assert torch.equal(read, tensor)


@pytest.mark.parametrize("legacy", [False, True])
def test_attributes_and_what_is_no_tensor_are_passed_over(tmp_path, legacy):
    state = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2)).state_dict()
    assert state._metadata
    state["epoch"], state["name"], state["more"] = 27, "slant", {"rate": 0.1, "steps": [1, 2]}
    path = tmp_path / "state.pth"
    path.write_bytes(state_dicts.saved(state, legacy=legacy))
    assert [*opened(path), "epoch", "name", "more"] == list(state)


def test_weights_that_were_saved_on_a_gpu_are_read(tmp_path):
    raw = state_dicts.saved({"a": torch.arange(4.0)}, legacy=True)
    cuda = raw.replace(b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage").replace(
        b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"
    )
    assert cuda != raw
    (tmp_path / "gpu.pth").write_bytes(cuda)
    assert opened(tmp_path / "gpu.pth")["a"].read().tolist() == [0, 1, 2, 3]


RAW = {legacy: state_dicts.saved({"trust": torch.arange(4.0)}, legacy=legacy) for legacy in (False, True)}
HOSTILE = state_dicts.hostile(RAW[False], RAW[True], "never")


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_state_dict_is_one_line(tmp_path, what, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(HOSTILE[what])
    with pytest.raises(
        InputError, match=r"weights .*weights\.pth cannot be read \(.+\): expected a state dict"
    ) as caught:
        opened(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert [one.name for one in tmp_path.iterdir()] == ["weights.pth"]  # nothing in it was run


def test_a_file_that_inflates_is_refused_by_its_directory(tmp_path):
    path = tmp_path / "bomb.pth"
    path.write_bytes(state_dicts.bomb())
    assert path.stat().st_size < 10**6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=rf"it would unpack to 5368\d+ bytes, at most {LARGEST} can be right"):
        opened(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def test_a_memo_of_billions_costs_nothing(tmp_path):
    memo = b"\x80\x02}r\xff\xff\xff\x7f."
    path = tmp_path / "memo.pth"
    path.write_bytes(state_dicts.repacked(RAW[False], lambda name, old: memo if name.endswith("pkl") else old))
    assert opened(path) == {}


def test_a_large_file_a_folder_and_a_missing_one_are_said(tmp_path):
    (tmp_path / "large.pth").write_bytes(bytes(LARGEST + 1))
    for name, reason in (("large.pth", "at most"), ("", "no regular file"), ("none.pth", "No such file")):
        with pytest.raises(InputError, match=reason):
            opened(tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
def test_random_damage_is_one_line(tmp_path, legacy):
    rng, raw, refused = random.Random(7), state_dicts.saved(contents(), legacy=legacy), []
    path = tmp_path / "weights.pth"
    for _ in range(150):
        path.write_bytes(state_dicts.damaged(raw, rng))
        try:
            tensors = opened(path)
        except InputError as error:
            refused.append(str(error))
        else:
            assert all(tensor.storage.numbers * 8 <= LARGEST for tensor in tensors.values())
    assert len(refused) > 50
    assert all(message.isprintable() for message in refused)
