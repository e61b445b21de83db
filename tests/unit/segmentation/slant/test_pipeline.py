"""The SLANT segmenter as a whole, with made-up weights."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from efface import _threads
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.errors import GpuMemoryError, InputError
from efface.segmentation import SEGMENTERS, segment
from efface.segmentation.labels import LABEL_IDS, Labels, Provenance
from efface.segmentation.slant import preprocessing
from efface.segmentation.slant.checkpoints import CompactWeights, PublishedWeights, write_card
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.pipeline import open_weights, predict, segment_slant, segment_standard
from efface.segmentation.slant.tiling import EMBEDDED
from efface.spatial.types import Volume
from slant_weights import SMALL, TINY, ball, official_state, write_official


def test_a_folder_of_official_weights_segments_every_tile(tmp_path):
    torch.manual_seed(3)
    write_official(tmp_path, official_state(TINY))
    model = PublishedWeights(tmp_path, TINY, SMALL)
    image = np.random.default_rng(0).normal(size=SMALL.grid.shape).astype(np.float32)
    labels = segment_standard(image, model)
    assert labels.shape == SMALL.grid.shape
    assert labels.max() <= 132
    flat = model.predict("1_1_1", np.full(SMALL.tile_shape, 2.0, np.float32))
    assert flat.shape == SMALL.tile_shape


def test_a_missing_file_of_27_is_named(tmp_path):
    for name in EMBEDDED.names:
        (tmp_path / f"{name}.pth").touch()
    (tmp_path / "2_3_1.pth").unlink()
    with pytest.raises(InputError, match=r"no state dict of tile 2_3_1; expected .*2_3_1.pth"):
        open_weights(SlantParams(weights=str(tmp_path)))


def test_no_weights_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="--slant-weights DIR"):
        open_weights(SlantParams(compact=str(tmp_path / "none")))


def anatomy_of(volume, brain):
    scan = SimpleNamespace(
        volume=volume, data=volume.data, grid=volume.grid, shape=volume.data.shape, affine=volume.affine
    )
    return HeadAnatomy(scan, brain=brain)


@pytest.mark.slow
def test_a_step_of_the_preprocessing_can_be_left_out(compact, monkeypatch):
    volume, brain, turn = ball()
    done = []

    def aligned(*_):
        done.append("align")
        return EMBEDDED.to_template @ np.linalg.inv(turn)

    def corrected(image, *_):
        done.append("bias")
        return image

    monkeypatch.setattr("efface.segmentation.slant.alignment.scan_to_template", aligned)
    monkeypatch.setattr("efface.segmentation.slant.preprocessing._corrected", corrected)
    anatomy = anatomy_of(volume, brain)
    first = segment_slant(anatomy, SlantParams(compact=compact))
    assert done == ["align", "bias"]
    np.testing.assert_array_equal(segment_slant(anatomy, SlantParams(compact=compact)).values, first.values)
    done.clear()
    segment_slant(anatomy, SlantParams(compact=compact, bias=False))
    assert done == ["align"]
    done.clear()
    upright = anatomy_of(Volume(volume.data, EMBEDDED.to_template @ np.linalg.inv(turn) @ volume.affine), brain)
    assert (segment_slant(upright, SlantParams(compact=compact, align="no")).values == first.values).mean() > 0.999
    assert done == ["bias"]


@pytest.mark.parametrize("word", ["false", "False", "no", "0", False])
@pytest.mark.parametrize("step", ["bias", "normalise"])
def test_a_step_is_left_out_by_any_word_for_no(monkeypatch, step, word):
    seen = []

    def run(_anatomy, params):
        seen.append(params)
        return Labels(np.zeros((4, 4, 4), np.int32), (), Provenance("slant", "0"))

    monkeypatch.setattr("efface.segmentation.SEGMENTERS", {"slant": replace(SEGMENTERS["slant"], run=run)})
    segment(SimpleNamespace(scan=SimpleNamespace(spacing_mm=np.ones(3))), "slant", {step: word})
    assert getattr(seen[0], step) is False


def test_an_unknown_parameter_is_refused():
    with pytest.raises(InputError, match="expected networks, weights, compact, align, bias, normalise, mirror"):
        segment(None, "slant", {"sharpen": 1})


def seen_by_a_new_thread():
    """Torch's setting is that of the process for threads that start after it was made."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_a_segmentation_begins_with_all_cores_while_another_thread_is_being_limited(compact, monkeypatch):
    model = open_weights(SlantParams(compact=str(compact)))
    seen = []

    def run():
        predict(np.full(EMBEDDED.grid.shape, 1, np.float32), model)
        seen.append(torch.get_num_threads())

    monkeypatch.setattr(CompactWeights, "probabilities", lambda *_words, **_options: [])
    begins = threading.Thread(target=run)
    before = torch.get_num_threads()
    try:
        with _threads._THREAD_COUNT:
            torch.set_num_threads(1)
            begins.start()
            begins.join(0.5)
            torch.set_num_threads(2)
        begins.join(60)
        assert seen == [2]
    finally:
        torch.set_num_threads(before)


def test_overlapping_segmentations_leave_the_thread_count_alone(compact, monkeypatch):
    """The first to begin ends first: with one switch for the process, it would go on with one core for good."""
    model = open_weights(SlantParams(compact=str(compact)))
    first_ended, second_began = threading.Event(), threading.Event()
    inside, after = set(), {}

    def probabilities(_model, name, tile, **_options):
        inside.add(torch.get_num_threads())
        if tile[0, 0, 0] == 2:
            second_began.set()
            assert first_ended.wait(30)
        elif name == "1_1_1":
            second.start()
            assert second_began.wait(30)
        return []

    def run(number):
        predict(np.full(EMBEDDED.grid.shape, number, np.float32), model)
        after[number] = torch.get_num_threads()

    monkeypatch.setattr(CompactWeights, "probabilities", probabilities)
    second = threading.Thread(target=run, args=(2,))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(1)
        first_ended.set()
        second.join(30)
        assert inside == {1}
        assert after == {1: 2, 2: 2}
        assert torch.get_num_threads() == seen_by_a_new_thread() == 2
    finally:
        torch.set_num_threads(before)


def test_the_whole_puts_labels_on_the_scan_grid(compact, monkeypatch):
    volume, brain, turn = ball()
    affine = EMBEDDED.to_template @ np.linalg.inv(turn)
    monkeypatch.setattr("efface.segmentation.slant.alignment.scan_to_template", lambda *_: affine)
    labels = segment_slant(anatomy_of(volume, brain), SlantParams(compact=compact))
    assert labels.values.shape == volume.data.shape
    assert set(np.unique(labels.values)) == {0, LABEL_IDS[6]}
    centre = np.argwhere(labels.values > 0).mean(axis=0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    expected = [-85 + 2 * 23.5, -124 + 2 * 44.5, -72 + 2 * 34.5]  # voxels 20 to 27, 40 to 49, 30 to 39
    np.testing.assert_allclose(centre, turn[:3, :3] @ expected + turn[:3, 3], atol=1.5)
    assert labels.provenance.segmenter == "slant"
    assert "131 of 132 labels" in labels.warnings[0]
    assert preprocessing.ALIGNING_MM == 2.0


def test_a_full_gpu_is_reported_as_such(compact, monkeypatch):
    volume, brain, turn = ball()
    monkeypatch.setattr(
        "efface.segmentation.slant.alignment.scan_to_template", lambda *_: EMBEDDED.to_template @ np.linalg.inv(turn)
    )

    def full(*_args, **_kwargs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    threads = torch.get_num_threads()
    monkeypatch.setattr(CompactWeights, "probabilities", full)
    with pytest.raises(GpuMemoryError, match="the GPU ran out of memory while segmenting: run fewer jobs"):
        segment_slant(anatomy_of(volume, brain), SlantParams(compact=str(compact)))
    assert torch.get_num_threads() == threads


def test_a_full_gpu_is_reported_as_such_with_published_networks(tmp_path, monkeypatch):
    write_official(tmp_path, official_state(TINY))

    def full(*_args):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr("efface.segmentation.slant.checkpoints.load_published", full)
    with pytest.raises(GpuMemoryError, match="while segmenting"):
        segment_standard(np.zeros(SMALL.grid.shape, np.float32), PublishedWeights(tmp_path, TINY, SMALL))


def test_weights_are_read_once_and_again_when_a_file_has_changed(compact):
    params = SlantParams(compact=str(compact))
    first = open_weights(params)
    assert open_weights(params) is first
    assert first.card.training == {"heads": 0}
    write_card(compact, replace(first.card, training={"heads": 1234}))
    assert open_weights(params).card.training == {"heads": 1234}
