"""Recipes: what decides a result is in them, and a result is current only while they agree."""

import hashlib
import json
import re
from dataclasses import dataclass, replace

import pytest

from efface.bids.query import T1wScan
from efface.cli.options import with_slant_weights
from efface.errors import InputError
from efface.parameters import param
from efface.segmentation import SEGMENTERS
from efface.study import Settings, provenance, segmentations
from efface.study.provenance import is_current, is_finished, is_same, read_recipe, write_recipe, writing
from efface.study.rescan_job import RescanJob, SessionPair
from efface.study.scan_job import ScanJob
from efface.study.steps import StepContext


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
    published.write_bytes(b"others, and more of them")
    provenance._segmentation_data.cache_clear()
    assert provenance.segmentation_data("slant", {"weights": str(tmp_path)}) != given
    assert provenance.segmentation_data("slant", {}) == embedded


def test_recipes_hold_the_content_of_given_slant_weights_and_not_their_place(tmp_path):
    """Weights of one name and one size but of other content have other recipes; a copy elsewhere has the same ones."""

    def recipes(folder, content):
        weights = tmp_path / folder / "weights"
        weights.mkdir(parents=True)
        (weights / "1_1_1.pth").write_bytes(content)
        settings = Settings(
            tmp_path,
            tmp_path / "out",
            segmenter="slant",
            segmenter_params=with_slant_weights({}, str(weights), ("slant",)),
        )
        one, two = (T1wScan("01", s, f"sub-01_ses-{s}", tmp_path / f"sub-01_ses-{s}_T1w.nii.gz") for s in "12")
        context = StepContext.of(one, settings)
        jobs = ScanJob(one, settings), RescanJob(SessionPair(one, two), settings)
        return [job.recipe() for job in jobs] + [segmentations._recipe(context, "hash of the scan", "slant")]

    found, copied, others = recipes("a", b"network 1"), recipes("b", b"network 1"), recipes("c", b"network 2")
    assert found == copied
    assert all(one != other for one, other in zip(found, others, strict=True))
    assert str(tmp_path) not in json.dumps(found)
    digests = [*(recipe["data_sha256"]["slant"] for recipe in found[:2]), found[2]["data_sha256"]]
    assert len(set(digests)) == 1
    assert re.fullmatch("[0-9a-f]{64}", digests[0])


@pytest.fixture
def third(monkeypatch):
    """A segmenter that somebody adds to the table, with data of its own; `asked` counts how often it is asked."""

    @dataclass(frozen=True)
    class Params:
        model: str = param("small", "which model", choices=("small", "large"))

    asked = []

    def data(params):
        asked.append(params.model)
        return {"model": f"hash of {params.model}"}

    record = replace(SEGMENTERS["atlas"], name="third", params=Params, data=data)
    monkeypatch.setattr("efface.segmentation.SEGMENTERS", {**SEGMENTERS, "third": record})
    provenance._segmentation_data.cache_clear()
    yield asked
    provenance._segmentation_data.cache_clear()


def test_a_third_segmenter_says_itself_what_decides_its_results(third):
    small, large = (provenance.segmentation_data("third", params) for params in ({}, {"model": "large"}))
    assert len({small, large, *(provenance.segmentation_data(name, {}) for name in ("slant", "atlas"))}) == 4
    assert small == hashlib.sha256(b'{"model": "hash of small"}').hexdigest()
    assert provenance.segmentation_data("third", {"model": "large"}) == large
    assert third == ["small", "large"]  # once for each set of parameters


def test_wrong_parameters_of_a_segmenter_are_refused_each_time(third):
    for _ in range(2):
        with pytest.raises(InputError, match="model must be one of small, large"):
            provenance.segmentation_data("third", {"model": "huge"})


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
