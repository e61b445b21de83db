"""The priors in average-head space."""

import numpy as np
import pytest

from efface.anatomy import templates
from efface.anatomy.templates import PRIOR_GRID, PRIORS
from efface.errors import DataPackageError


def test_priors_lie_on_their_grid_and_hold_what_they_say():
    for name in PRIORS:
        prior = templates.prior(name)
        assert prior.data.shape == PRIOR_GRID.shape
        np.testing.assert_allclose(prior.affine, PRIOR_GRID.affine)
    brain, face = templates.prior("brain").data, templates.prior("face").data
    assert 0.9 < brain.max() <= 1
    assert not (templates.prior("face_and_ears").data[brain > 0.1] > 0).any()
    assert not ((face > 0.9) & (brain > 0.1)).any()
    assert set(np.unique(templates.prior("features").data)) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_a_missing_prior_is_named():
    with pytest.raises(DataPackageError, match="chin"):
        templates.prior("chin")
