"""Numbers and lists in sentences."""

import pytest

from efface.wording import counted, listed


@pytest.mark.parametrize(("number", "words"), [(0, "0 voxels"), (1, "1 voxel"), (2, "2 voxels")])
def test_one_is_singular(number, words):
    assert counted(number, "voxel") == words


def test_a_list_reads_as_in_a_sentence():
    assert [listed(items) for items in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
