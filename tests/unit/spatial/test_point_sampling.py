"""Interpolation of channels and labels at points."""

import numpy as np

from efface.spatial.point_sampling import sample_channels, sample_labels

OBLIQUE = np.array([[1.9, 0.3, 0, -20], [-0.3, 1.9, 0, 5], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])


def test_sampling_a_linear_function_is_exact_on_an_oblique_grid():
    index = np.stack(np.meshgrid(*[np.arange(n) for n in (7, 8, 9)], indexing="ij"), axis=-1)
    world = index @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    channels = np.stack([world @ [1, 2, 3], world @ [-1, 0, 5]]).astype(np.float32)
    points = (np.random.default_rng(0).uniform(0, [6, 7, 8], (50, 3))) @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    found = sample_channels(channels, OBLIQUE, points)
    np.testing.assert_allclose(found, np.stack([points @ [1, 2, 3], points @ [-1, 0, 5]]), rtol=1e-4, atol=1e-2)


def test_label_sampling_is_argmax_of_interpolated_one_hot():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, (7, 8, 9)).astype(np.int32)
    points = rng.uniform(0, [6, 7, 8], (200, 3)) @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3]
    one_hot = np.stack([labels == k for k in range(4)]).astype(np.float32)
    expected = sample_channels(one_hot, OBLIQUE, points).argmax(axis=0)
    np.testing.assert_array_equal(sample_labels(labels, OBLIQUE, points), expected)
