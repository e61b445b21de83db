"""The digest of a weights folder."""

import os

import pytest

from efface.errors import InputError
from efface.segmentation.slant import weights_folder
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.weights_folder import (
    EMBEDDED_WEIGHTS,
    EMBEDDED_WHOLE_BRAIN,
    folder_in_use,
    is_whole_brain,
    weights_digest,
)


def test_every_file_that_decides_a_result_is_in_the_digest(compact):
    digests = {weights_digest(compact)}
    for name in ("card.json", "label_prior.npz", "pooled.pt"):
        content = (compact / name).read_bytes()
        (compact / name).write_bytes(content + b" ")
        digests.add(weights_digest(compact))
    (compact / "2_2_2.pt").write_bytes(b"own network")
    digests.add(weights_digest(compact))
    (compact / "2_2_2.pt").rename(compact / "2_2_3.pt")
    digests.add(weights_digest(compact))
    assert len(digests) == 6
    (compact / "log.tsv").write_text("step")
    assert weights_digest(compact) in digests


def test_a_file_of_the_same_size_with_other_content_changes_the_digest(compact):
    before = weights_digest(compact)
    path = compact / "card.json"
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    os.utime(path, ns=(1, 1))
    assert weights_digest(compact) != before


def test_published_networks_are_found_where_the_container_has_them(tmp_path):
    path = tmp_path / "1_1_1/finetune_out/models/model_epoch_0027.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a")
    first = weights_digest(tmp_path)
    path.write_bytes(b"ab")
    assert weights_digest(tmp_path) != first


def test_files_are_digested_once_a_process(compact, monkeypatch):
    first = weights_digest(compact)
    monkeypatch.setattr(weights_folder.hashlib, "sha256", lambda *_: pytest.fail("digested again"))
    assert weights_digest(compact) == first


def test_parameters_select_the_folder(tmp_path):
    assert folder_in_use(SlantParams()) == EMBEDDED_WHOLE_BRAIN
    assert folder_in_use(SlantParams(networks="tiles")) == EMBEDDED_WEIGHTS
    assert folder_in_use(SlantParams(compact="ours")).name == "ours"
    assert folder_in_use(SlantParams(weights="theirs", compact="ours")).name == "theirs"
    with pytest.raises(InputError, match=r"none do not exist: expected a folder .*--slant-weights DIR"):
        weights_digest(tmp_path / "none")


def test_what_is_in_the_folder_says_which_kind_of_network_it_is(tmp_path, compact):
    assert is_whole_brain(SlantParams())
    assert not is_whole_brain(SlantParams(networks="tiles"))
    assert not is_whole_brain(SlantParams(compact=str(compact)))
    (tmp_path / "whole_brain.pt").touch()
    assert is_whole_brain(SlantParams(compact=str(tmp_path), networks="tiles"))
    assert not is_whole_brain(SlantParams(weights=str(tmp_path)))
