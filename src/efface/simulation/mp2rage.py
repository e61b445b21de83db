"""The uniform image of MP2RAGE (UNI), simulated from a T1-weighted head, with its noise outside the head.

References
----------
Marques et al. "MP2RAGE, a self bias-field corrected sequence for improved segmentation and T1-mapping at high field."
NeuroImage 49 (2010) 1271-1281.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efface.spatial.types import FloatVolume

HIGHEST = 4095
"""UNI is stored from 0 to this."""
EMPTY, FULL = 0.08, 0.23
"""T1-weighted intensity, relative to white matter, below which a voxel has no protons, and from which it has all."""
DARKEST, BRIGHTEST = -0.55, 0.70
"""Ratio of the first to the second inversion image where the T1-weighted intensity is 0, and in white matter."""
BRIGHTER_FAT = 0.05
INVERSION_2 = 1000.0


@dataclass(frozen=True, eq=False)
class Mp2rage:
    """Images of one simulated acquisition, int16.

    Attributes
    ----------
    uni
        The uniform image, 0 to `HIGHEST`; noise over the whole range where there are no protons.
    inversion_2
        Magnitude of the second inversion image.
    """

    uni: NDArray[np.int16]
    inversion_2: NDArray[np.int16]


def simulate(head: FloatVolume, white: float, snr: float, rng: np.random.Generator) -> Mp2rage:
    """Simulate both inversions with complex noise, and combine them.

    Parameters
    ----------
    head
        T1-weighted intensities, air near 0, shape (x, y, z).
    white
        Intensity of white matter.
    snr
        Signal of white matter in the second inversion image over the standard deviation of the noise of each channel.
    rng
        Source of the noise.
    """
    relative = np.clip(head / white, 0.0, 1.6)
    protons = np.clip((relative - EMPTY) / (FULL - EMPTY), 0, 1) * (0.75 + 0.25 * np.clip(relative, 0, 1.2))
    ratio = DARKEST + (BRIGHTEST - DARKEST) * np.clip(relative, 0, 1) + BRIGHTER_FAT * np.clip(relative - 1, 0, 0.6)
    first, second = (clean + _complex_noise(head.shape, 1 / snr, rng) for clean in (protons * ratio, protons))
    combined = (np.conj(first) * second).real / (np.abs(first) ** 2 + np.abs(second) ** 2)
    uni = np.rint((combined + 0.5) * HIGHEST).astype(np.int16)
    return Mp2rage(uni, np.rint(np.abs(second) * INVERSION_2).astype(np.int16))


def _complex_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.complex128]:
    real, imaginary = rng.normal(0.0, sigma, (2, *shape))
    return np.asarray(real + 1j * imaginary, dtype=np.complex128)
