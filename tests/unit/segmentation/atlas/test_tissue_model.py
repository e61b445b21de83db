"""The tissue mixture on made-up intensities."""

import numpy as np
import pytest

from efface.segmentation.atlas.tissue_model import fit_tissue


def test_tissue_means_are_found_despite_partial_volume():
    rng = np.random.default_rng(3)
    share = rng.uniform(size=4000)
    pure = np.repeat([0.2, 0.6, 0.9], [3000, 2500, 3000])
    mixed = np.concatenate([0.2 + 0.4 * share[:2500], 0.6 + 0.3 * share[2500:]])
    values = np.concatenate([pure, mixed]) + rng.normal(0, 0.05, 12500)
    tissue = fit_tissue(values.astype(np.float32), np.full((3, values.size), 1 / 3, np.float32) + _hint(values))
    assert tissue.csf == pytest.approx(0.2, abs=0.02)
    assert tissue.grey == pytest.approx(0.6, abs=0.04)
    assert tissue.white == pytest.approx(0.9, abs=0.02)
    fluid, grey, white = tissue.memberships(np.array([0.1, 0.6, 1.0], np.float32))
    assert np.argmax([fluid, grey, white], axis=0).tolist() == [0, 1, 2]


def _hint(values):
    return np.stack([values < 0.4, (values > 0.4) & (values < 0.75), values > 0.75]) * 0.2
