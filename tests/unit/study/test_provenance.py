"""Recipes: what decides a result is in them, and a result is current only while they agree."""

import json

import pytest

from efface.study import provenance
from efface.study.provenance import is_current, is_finished, is_same, read_recipe, write_recipe, writing


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(b"image")
    return path


def test_a_result_is_current_while_its_recipe_is_the_same(path):
    write_recipe(path, {"params": {"buffer": 1.0}, "control": (1, 2)}, Warnings=[])
    assert is_current(path, {"params": {"buffer": 1.0}, "control": (1, 2)})
    assert not is_current(path, {"params": {"buffer": 2.0}, "control": (1, 2)})
    assert not is_current(path, {"params": {"buffer": 1.0}})
    path.unlink()
    assert not is_current(path, {"params": {"buffer": 1.0}, "control": (1, 2)})


def test_the_recipe_is_written_last_and_only_if_nothing_failed(path):
    with writing(path, {"a": 1}) as record:
        assert read_recipe(path) == {"Status": "unfinished", "Recipe": {}}
        assert not is_finished(path)
        record["Warnings"] = ["odd"]
    assert read_recipe(path) == {"Warnings": ["odd"], "Recipe": {"a": 1}}
    with pytest.raises(RuntimeError), writing(path, {"a": 2}):
        raise RuntimeError
    assert read_recipe(path) == {"Status": "unfinished", "Recipe": {}}
    with writing(path, None):
        pass
    assert not is_finished(path)


def test_the_digest_of_a_folder_holds_names_and_contents(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"1")
    (tmp_path / "notes.txt").write_bytes(b"1")

    def digest():
        provenance.data_digest.cache_clear()
        return provenance.data_digest(tmp_path, ("*.pt",))

    first = digest()
    (tmp_path / "notes.txt").write_bytes(b"2")
    assert digest() == first
    (tmp_path / "a.pt").write_bytes(b"2")
    changed = digest()
    (tmp_path / "a.pt").rename(tmp_path / "b.pt")
    assert len({first, changed, digest()}) == 3


def test_the_digest_is_computed_once_a_process(tmp_path, monkeypatch):
    (tmp_path / "once.pt").write_bytes(b"1")
    first = provenance.data_digest(tmp_path, ("*.pt",))
    monkeypatch.setattr(provenance.hashlib, "sha256", lambda *_: pytest.fail("digested again"))
    assert provenance.data_digest(tmp_path, ("*.pt",)) == first


def test_a_segmentation_depends_on_the_weights_that_are_used(tmp_path):
    published = tmp_path / "1_1_1/finetune_out/models/model_epoch_0027.pth"
    published.parent.mkdir(parents=True)
    published.write_bytes(b"weights")
    embedded = provenance.segmentation_data("slant", {})
    given = provenance.segmentation_data("slant", {"weights": str(tmp_path)})
    assert len({embedded, given, provenance.segmentation_data("atlas", {})}) == 3
    published.write_bytes(b"others")
    provenance.data_digest.cache_clear()
    assert provenance.segmentation_data("slant", {"weights": str(tmp_path)}) != given
    assert provenance.segmentation_data("slant", {}) == embedded


def test_the_version_of_an_external_program_is_asked(tmp_path):
    program = tmp_path / "mri_deface"
    program.write_text("#!/bin/sh\necho mri_deface v1.22\n")
    program.chmod(0o755)
    assert provenance.external_version("mri_deface", str(program)) == "1.22"
    assert provenance.external_version("mri_deface", str(tmp_path / "missing")) == provenance.NOT_INSTALLED
    assert provenance.external_version("defacer") == provenance.NOT_INSTALLED


def test_results_of_a_program_that_is_not_installed_here_stay_valid():
    stored = json.loads('{"a": 1, "external_version": "1.22"}')
    assert is_same(stored, {"a": 1, "external_version": provenance.NOT_INSTALLED})
    assert not is_same(stored, {"a": 1, "external_version": "1.23"})
    assert not is_same({"a": 1}, {"a": 1, "external_version": provenance.NOT_INSTALLED})
