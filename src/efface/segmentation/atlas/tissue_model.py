"""Mixture model of cerebrospinal fluid, grey and white matter in T1-weighted intensities, with partial volume.

The mixture has five components: the three pure tissues, with a common noise level, and the mixtures of fluid with grey
matter and of grey with white matter, whose voxels contain both tissues in any proportion. The prior of a voxel is the
tissue map of the atlas at its position. Without the two mixtures, the mean of the thin cortex would be biased towards
its neighbours.

References
----------
Shattuck et al. "Magnetic resonance image tissue classification using a partial volume model." NeuroImage 13 (2001)
856-876.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 40
SAMPLE = 150_000
"""Number of voxels, evenly spaced in the list, that the fit uses; more do not change its few parameters."""
CSF_LIMIT = 0.5
"""Minimum fraction of grey matter in a voxel of fluid and grey matter that counts as tissue."""
WHITE_LIMIT = 0.36
"""Minimum fraction of white matter in a voxel of grey and white matter that counts as white."""


@dataclass(frozen=True)
class Tissue:
    """Fitted mixture.

    Attributes
    ----------
    csf, grey, white
        Mean intensities of the pure tissues.
    noise
        Standard deviation of each of them.
    """

    csf: float
    grey: float
    white: float
    noise: float

    @property
    def csf_limit(self) -> float:
        """Intensity that separates fluid from tissue."""
        return self.csf + CSF_LIMIT * (self.grey - self.csf)

    @property
    def white_limit(self) -> float:
        """Intensity that separates grey from white matter."""
        return self.grey + WHITE_LIMIT * (self.white - self.grey)

    def memberships(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute soft memberships in fluid, grey and white matter.

        Parameters
        ----------
        values
            Intensities, shape (n,).

        Returns
        -------
        numpy.ndarray
            Each in [0.001, 1], float32, shape (3, n).
        """
        width = 0.66 * self.noise
        csf = 1 / (1 + np.exp(np.clip((values - self.csf_limit) / width, -60, 60)))
        white = 1 / (1 + np.exp(np.clip((self.white_limit - values) / width, -60, 60)))
        members: NDArray[np.float32] = np.stack([csf, 1 - csf - white, white]).clip(1e-3, 1).astype(np.float32)
        return members


def fit_tissue(values: NDArray[np.float32], priors: NDArray[np.float32]) -> Tissue:
    """Fit the mixture by expectation maximisation.

    Parameters
    ----------
    values
        Intensities of the brain voxels, shape (n,).
    priors
        Probabilities of fluid, grey and white matter in these voxels, shape (3, n); need not add up to one.
    """
    every = max(1, values.size // SAMPLE)
    prior = np.clip(priors[:, ::every].astype(np.float64), 0.02, 1)
    csf, grey, white = prior / prior.sum(axis=0)
    v = values[::every].astype(np.float64)
    prior = np.stack([csf, (csf + grey) / 2, grey, (grey + white) / 2, white])
    mean = np.array([np.average(v, weights=p**2) for p in (csf, grey, white)])
    low, high = np.percentile(v, (1, 99))
    noise, weight = 0.08 * (high - low), np.full(5, 0.2)
    for _ in range(ITERATIONS):
        centres = np.array([mean[0], (mean[0] + mean[1]) / 2, mean[1], (mean[1] + mean[2]) / 2, mean[2]])
        uniform = np.diff(mean) ** 2 / 12
        spread = np.sqrt(noise**2 + np.array([0, uniform[0], 0, uniform[1], 0]))
        z = (v - centres[:, None]) / spread[:, None]
        posterior = prior * (weight / spread)[:, None] * np.exp(-0.5 * z * z)
        posterior /= posterior.sum(axis=0) + 1e-30
        weight = posterior.sum(axis=1) / prior.sum(axis=1)
        weight /= weight.sum()
        pure = posterior[[0, 2, 4]]
        size = pure.sum(axis=1) + 1e-9
        mean = (pure @ v) / size
        noise = max(np.sqrt(sum(pure[k] @ (v - mean[k]) ** 2 for k in range(3)) / size.sum()), 1e-3 * (high - low))
    return Tissue(float(mean[0]), float(mean[1]), float(mean[2]), float(noise))
