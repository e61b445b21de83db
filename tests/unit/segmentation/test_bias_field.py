"""Correction of the bias field."""

import numpy as np
from scipy import ndimage

from efface.segmentation.bias_field import correct_bias


def test_bias_field_is_removed_and_the_level_kept():
    shape = (28, 32, 36)
    x = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None, None]
    mask = np.linalg.norm(np.indices(shape) - np.array(shape)[:, None, None, None] / 2, axis=0) < 13
    rng = np.random.default_rng(2)
    truth = np.where(rng.random(shape) < 0.5, 60.0, 100.0).astype(np.float32)
    truth = ndimage.uniform_filter(truth, 3)
    biased = (truth * np.exp(0.4 * x)).astype(np.float32)
    before, after = (np.std((v / truth)[mask]) for v in (biased, correct_bias(biased, mask, np.full(3, 2.0))))
    assert after < 0.35 * before
