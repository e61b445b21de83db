"""The background of an image: the level of its air, and whether its air is noise of full height.

Air is not 0 in every image: -1000 in images like CT, the intercept of a scaled file, the floor of the noise. In the
uniform image of MP2RAGE (UNI) it is not even dark: a ratio of two images that hold noise alone is uniform noise over the
whole range. What looks for anatomy looks at `Background.image`, in which air is dark and at 0 in every case.

References
----------
Marques et al. "MP2RAGE, a self bias-field corrected sequence for improved segmentation and T1-mapping at high field."
NeuroImage 49 (2010) 1271-1281 (the UNI image).
O'Brien et al. "Robust T1-weighted structural brain imaging and morphometry at 7T using MP2RAGE." PLoS ONE 9 (2014)
e99676 (its noise; their remedy needs both inversions, this one does not).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.io.scan import Scan
from efface.spatial.types import FloatVolume, Volume

SAMPLED = 1 << 21
"""About so many voxels are looked at to find levels."""
BLANKED = 0.3
"""Share of all voxels with one and the same dark value from which that value is the air."""
BELOW = 0.2
"""Of these voxels: with more below them, they are the most frequent of the few whole numbers that noise has."""
LOWEST, HIGHEST = 0.001, 0.99
"""Quantiles between which the range of an image lies; fewer voxels than that are outliers."""
NEAR = 0.02
"""Of the range: the lowest value of all is the air's where it is this near to the lowest quantile, else an outlier."""
PADDING, PADDING_GAP = 0.01, 0.25
"""Share of all voxels with the lowest value, and how far the next value is away, of the range, where it is no air but
padding outside the scanner's circle."""
NOISE_RANGE = (1.0, 99.0)
"""Percentiles of an image that is full of noise between which the noise lies."""
NOISE_VOX = 1.5
"""Standard deviation of the neighbourhood in which noise is measured."""
TISSUE, NOISE = 0.21, 0.26
"""Standard deviation from voxel to voxel, of the range: tissue has less than the first, and noise of full height more
than the second; uniform noise has 0.29."""
NOISY_SHARE = 0.2
"""Share of noise from which it is the air of an image; whole heads have 0.4 or more of air, edges make up 0.03."""
NOISE_SLICES = 24


@dataclass(frozen=True)
class Background:
    """The background of one image.

    Attributes
    ----------
    air
        Intensity of air, the value of one of the image's voxels: what removed voxels are set to. Of an image with noise
        of full height the lowest value, because a middle one would look like tissue.
    noise
        Lower and upper end of the noise of full height that fills the air; None where air is dark.
    """

    air: float
    noise: tuple[float, float] | None = None

    def signal(self, data: FloatVolume) -> FloatVolume:
        """Intensities above the air's; the same array where air is at 0."""
        return data if self.air == 0 else np.asarray(data - np.float32(self.air), dtype=np.float32)

    def image(self, signal: FloatVolume) -> FloatVolume:
        """The image with dark air at 0, of intensities above the air's.

        What lies below the air's level is cut off, and noise of full height fades out, in the head's cavities too.
        """
        if self.noise is not None:
            return np.asarray(signal.clip(0) * _coherence(signal, self.noise[1] - self.noise[0]), dtype=np.float32)
        return signal if signal.min() >= 0 else signal.clip(0)

    def volume(self, scan: Scan) -> Volume:
        """`image` of a scan."""
        return Volume(self.image(self.signal(scan.data)), scan.affine)


def find_background(scan: Scan) -> Background:
    """Find the level of a scan's air, whatever its intensities are scaled to, and whether its air is noise.

    Times a slope and plus an intercept, an image has the same air, times the slope and plus the intercept.
    """
    air = air_level(scan.data)
    return Background(air, _noise_range(scan.data))


def above_air(scan: Scan) -> FloatVolume:
    """Intensities of a scan above its air's; see `Background.signal`."""
    return find_background(scan).signal(scan.data)


def dark_air(scan: Scan) -> Volume:
    """A scan with dark air at 0; see `Background.image`."""
    return find_background(scan).volume(scan)


def air_level(data: FloatVolume) -> float:
    """Intensity of air: the value of most dark voxels if there is one, else the lowest that is not an outlier.

    Parameters
    ----------
    data
        Intensities, shape (x, y, z).
    """
    lowest = float(data.min())
    sample = np.sort(data.ravel()[:: max(1, data.size // SAMPLED)])
    values, counts = np.unique(sample, return_counts=True)
    if len(values) > 1 and counts[0] >= PADDING * sample.size and counts[0] < BLANKED * sample.size:
        rest = sample[counts[0] :]
        if rest[0] - values[0] > PADDING_GAP * (_quantile(rest, HIGHEST) - rest[0]):
            sample, values, counts, lowest = rest, values[1:], counts[1:], float(rest[0])
    low, high = _quantile(sample, LOWEST), _quantile(sample, HIGHEST)
    most = int(counts.argmax())
    blanked = counts[most] >= BLANKED * sample.size and counts[:most].sum() <= BELOW * counts[most]
    if blanked and values[most] < (low + high) / 2:
        return float(values[most])
    return lowest if low - lowest <= NEAR * (high - low) else low


def _quantile(ordered: NDArray[Any], share: float) -> float:
    """The value below which a share of ordered values lies; one of them."""
    return float(ordered[int(share * (ordered.size - 1))])


def _noise_range(data: FloatVolume) -> tuple[float, float] | None:
    """Ends of the noise of full height in the air, or None; some slices along the longest axis are looked at."""
    axis = int(np.argmax(data.shape))
    step = max(1, data.shape[axis] // NOISE_SLICES)
    slices = np.moveaxis(data, axis, 0)[step // 2 :: step]
    low, high = (float(v) for v in np.percentile(slices, NOISE_RANGE))
    if high <= low:
        return None
    varied = _variation(slices, high - low, (1, 2)) > NOISE
    return (low, high) if varied.mean() >= NOISY_SHARE else None


def _coherence(data: FloatVolume, height: float) -> FloatVolume:
    """1 where neighbours are alike, as in tissue, 0 where they are as different as in noise of full height."""
    varied = _variation(data, height, (0, 1, 2))
    return np.asarray(np.clip((NOISE - varied) / (NOISE - TISSUE), 0, 1), dtype=np.float32)


def _variation(data: FloatVolume, height: float, axes: tuple[int, ...]) -> FloatVolume:
    """Standard deviation of independent noise that differs from voxel to voxel as much as the data do, of a height."""
    squares = np.zeros(data.shape, dtype=np.float32)
    for axis in axes:
        there = np.moveaxis(squares, axis, 0)
        step = np.moveaxis(np.square(np.diff(data, axis=axis) / np.float32(height)), axis, 0)
        there[1:] += step / 2
        there[:-1] += step / 2
        there[[0, -1]] += step[[0, -1]] / 2  # the outermost voxels have one neighbour
    sigma = [NOISE_VOX if axis in axes else 0.0 for axis in range(3)]
    mean = ndimage.gaussian_filter(squares / np.float32(2 * len(axes)), sigma)
    return np.asarray(np.sqrt(mean), dtype=np.float32)
