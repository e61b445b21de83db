"""Damaged files of weights, arrays, labels: read whole, or refused in one line (more in validation/weights_fuzz.py)."""

import pytest

import loader_fuzz

FILES = 320


def test_the_good_files_are_read(tmp_path):
    for path, raw, load in loader_fuzz.targets(tmp_path).values():
        path.write_bytes(raw)
        load(path)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_damage_ends_in_another_error(tmp_path, seed):
    found = loader_fuzz.fuzz(FILES, seed, tmp_path)
    assert found.broken == []
    assert found.read.total() + found.refused.total() == FILES
    assert all(found.refused[kind] > FILES / 40 for kind in loader_fuzz.KINDS)
    assert found.read.total() > FILES / 10
