"""Cerebrospinal fluid, grey and white matter of a T1-weighted brain: a mixture with partial volume.

Five components: the three pure tissues, with one noise level, and the two mixtures at their borders (fluid with
grey, grey with white), whose voxels hold any proportion. A voxel's prior is the atlas's tissue map at that place.
Modelling the mixtures keeps the mean of thin cortex from being pulled towards its neighbours.

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
"""About as many voxels, evenly taken, decide: seven numbers need no more."""
CSF_LIMIT = 0.5
"""Least share of grey matter, on the way from fluid to grey, of a voxel that counts as tissue."""
WHITE_LIMIT = 0.36
"""Least share of white matter, on the way from grey to white, of a voxel that counts as white."""


@dataclass(frozen=True)
class Tissue:
    """Mean intensity of the pure tissues and the noise (standard deviation) common to them."""

    csf: float
    grey: float
    white: float
    noise: float

    @property
    def csf_limit(self) -> float:
        """Intensity between fluid and tissue."""
        return self.csf + CSF_LIMIT * (self.grey - self.csf)

    @property
    def white_limit(self) -> float:
        """Intensity between grey and white."""
        return self.grey + WHITE_LIMIT * (self.white - self.grey)

    def memberships(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Soft membership in fluid, grey and white, each in [0.001, 1], shape (3, n), for intensities (n,)."""
        width = 0.66 * self.noise
        csf = 1 / (1 + np.exp(np.clip((values - self.csf_limit) / width, -60, 60)))
        white = 1 / (1 + np.exp(np.clip((self.white_limit - values) / width, -60, 60)))
        members: NDArray[np.float32] = np.stack([csf, 1 - csf - white, white]).clip(1e-3, 1).astype(np.float32)
        return members


def fit_tissue(values: NDArray[np.float32], priors: NDArray[np.float32]) -> Tissue:
    """Estimate the tissue means and the noise by expectation maximisation.

    Parameters
    ----------
    values
        Intensities of the brain's voxels, shape (n,).
    priors
        Probabilities of fluid, grey and white at those voxels, shape (3, n); need not add up to one.
    """
    every = max(1, values.size // SAMPLE)
    prior = np.clip(priors[:, ::every].astype(np.float64), 0.02, 1)
    csf, grey, white = prior / prior.sum(axis=0)
    v = values[::every].astype(np.float64)
    prior = np.stack([csf, (csf + grey) / 2, grey, (grey + white) / 2, white])
    mean = np.array([np.average(v, weights=p**2) for p in (csf, grey, white)])
    low, high = np.percentile(v, (1, 99))
    noise, share = 0.08 * (high - low), np.full(5, 0.2)
    for _ in range(ITERATIONS):
        centres = np.array([mean[0], (mean[0] + mean[1]) / 2, mean[1], (mean[1] + mean[2]) / 2, mean[2]])
        uniform = np.diff(mean) ** 2 / 12
        spread = np.sqrt(noise**2 + np.array([0, uniform[0], 0, uniform[1], 0]))
        z = (v - centres[:, None]) / spread[:, None]
        posterior = prior * (share / spread)[:, None] * np.exp(-0.5 * z * z)
        posterior /= posterior.sum(axis=0) + 1e-30
        share = posterior.sum(axis=1) / prior.sum(axis=1)
        share /= share.sum()
        pure = posterior[[0, 2, 4]]
        weight = pure.sum(axis=1) + 1e-9
        mean = (pure @ v) / weight
        noise = max(np.sqrt(sum(pure[k] @ (v - mean[k]) ** 2 for k in range(3)) / weight.sum()), 1e-3 * (high - low))
    return Tissue(float(mean[0]), float(mean[1]), float(mean[2]), float(noise))
