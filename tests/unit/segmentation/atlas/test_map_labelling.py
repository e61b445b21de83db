"""Labelling of enclosed fluid."""

import numpy as np

from efface.segmentation.atlas.map_labelling import fill_cavities


def test_fluid_inside_white_matter_becomes_ventricle_and_cisterns_stay_empty():
    labels = np.full((15, 16, 17), 44, dtype=np.int32)
    labels[2:5, 2:5, 2:5] = 51
    labels[5:7, 2:5, 2:5] = 0  # a horn beyond the atlas's ventricle
    labels[10:15, 8:16, 8:17] = 35
    labels[12, 11:13, 11:13] = 0  # a cistern enclosed by brainstem
    labels[0, 15, 0] = 0  # outside
    filled = fill_cavities(labels)
    assert (filled[5:7, 2:5, 2:5] == 51).all()
    assert (filled[12, 11:13, 11:13] == 0).all()
    assert filled[0, 15, 0] == 0
