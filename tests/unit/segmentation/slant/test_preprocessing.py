"""Resampling to the standard grid and intensity normalisation."""

import numpy as np
import pytest

from efface.errors import AnatomyError
from efface.segmentation.slant.preprocessing import CLIP, QUANTILES, huber_line, normalise, standardise
from efface.segmentation.slant.tiling import EMBEDDED
from efface.spatial.types import Volume
from slant_weights import ball


def test_a_robust_line_ignores_a_bright_tail():
    x = np.linspace(-2, 2, 200)
    y = 1.5 * x - 0.25
    y[190:] += 30
    slope, offset = huber_line(x, y)
    assert slope == pytest.approx(1.5, abs=0.05)
    assert offset == pytest.approx(-0.25, abs=0.05)


def test_a_standard_head_has_standard_intensities_whatever_the_scanner():
    volume, brain, to_scan = ball()
    head = standardise(volume, brain, to_scan, EMBEDDED.grid)
    assert head.image[head.brain].mean() == pytest.approx(0, abs=0.02)
    target = 0.7 * head.quantiles + 0.3
    louder = standardise(Volume(9 * volume.data + 300, volume.affine), brain, to_scan, EMBEDDED.grid, bias=False)
    fitted = normalise(louder, target)
    assert np.median(fitted[head.brain]) == pytest.approx(np.quantile(target, 0.5), abs=0.1)
    assert fitted.min() >= CLIP[0]
    assert len(head.quantiles) == len(QUANTILES)


def test_a_brain_off_the_grid_is_an_anatomy_error():
    volume, brain, _ = ball()
    with pytest.raises(AnatomyError, match="0 voxels of the brain lie on the standard grid"):
        standardise(volume, brain, np.diag([1.0, 1, 1, 1]) + np.eye(4)[:, [3]] @ [[0, 0, 0, 900.0]], EMBEDDED.grid)
