"""No part of the package keeps an undefaced scan alive, and too little GPU memory is called by its name."""

import gc
import weakref

import numpy as np
import pytest
import torch

import average_head
import phantom
from efface.anatomy import brain_extraction, landmark_network
from efface.defacing import apply_edit, plan
from efface.errors import GpuMemoryError
from efface.quality import judge


def test_an_undefaced_scan_is_gone_when_its_anatomy_is(monkeypatch):
    """A cache of a module would keep the last face in the memory of the process."""
    anatomy = average_head.anatomy()
    assert anatomy.landmarks
    defaced = apply_edit(anatomy.scan, plan(anatomy, "quickshear", {"buffer": 0}))
    judge(anatomy, defaced)
    alive = weakref.ref(anatomy.scan)
    del anatomy
    gc.collect()
    assert alive() is None
    assert defaced.shape


class Full:
    """Networks on a GPU without room."""

    def run_model(self, _data):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_full_gpu_is_not_a_missing_brain(monkeypatch):
    monkeypatch.setattr(brain_extraction, "_extractor", Full)
    with pytest.raises(GpuMemoryError, match="the GPU ran out of memory while finding the brain: run fewer jobs"):
        brain_extraction.brain_mask(np.zeros((20, 20, 20), np.float32))


def test_a_full_gpu_is_not_a_missing_face():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, _x):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(GpuMemoryError, match="while finding facial landmarks"):
        landmark_network.feature_probabilities(average_head.volume(5.0), Network())


def test_another_error_of_the_networks_stays_what_it_is(monkeypatch):
    class Broken:
        def run_model(self, _data):
            raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(brain_extraction, "_extractor", Broken)
    with pytest.raises(brain_extraction.AnatomyError, match="shapes do not fit"):
        brain_extraction.brain_mask(phantom.head().values.astype(np.float32))
