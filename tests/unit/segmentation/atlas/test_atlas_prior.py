"""The prior made from the installed atlas."""

import numpy as np

from efface.anatomy.templates import braincolor_labels
from efface.segmentation.atlas.atlas_prior import GROUPS, load_prior
from efface.spatial.point_sampling import sample_channels


def test_group_probabilities_add_up_to_one_and_find_their_labels():
    prior = load_prior()
    total = prior.groups.sum(axis=0)
    assert np.allclose(total, 1, atol=1e-3)
    labels, volume = braincolor_labels()
    index = np.argwhere(labels == 57)
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    best = sample_channels(prior.groups, prior.grid.affine, points).argmax(axis=0)
    assert np.mean(np.array(GROUPS)[best] == 57) > 0.8
