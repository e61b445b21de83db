"""The SLANT segmenter with one network for the whole brain at 1 mm.

A scan of about 1 mm is segmented on its own grid: neither image nor labels are resampled. Any other scan, and a head
that does not lie upright, is sampled on an upright grid of 1 mm, and the logarithms of the label probabilities are
interpolated on the scan's grid. The network sees the brain alone, and where in the template each cell of 2 mm is.
Labels lie inside the brain mask.
"""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from efface._gpu import gpu_memory
from efface._version import __version__
from efface.errors import AnatomyError
from efface.segmentation.bias_field import correct_bias
from efface.segmentation.labels import Labels, Provenance, ids_of, missing_labels
from efface.segmentation.slant.alignment import Alignment, aligned
from efface.segmentation.slant.label_probabilities import to_scan_grid
from efface.segmentation.slant.millimetre_unet import MULTIPLE
from efface.segmentation.slant.params import SlantParams
from efface.segmentation.slant.preprocessing import MINIMUM_BRAIN_VOX
from efface.segmentation.slant.sparse_probabilities import SparseProbabilities, arg_max
from efface.segmentation.slant.whole_weights import WholeBrainWeights
from efface.spatial.affine import apply_affine
from efface.spatial.masks import box_of
from efface.spatial.resampling import antialiased, resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, LabelVolume, Volume

if TYPE_CHECKING:
    from efface.anatomy.head_anatomy import HeadAnatomy

MARGIN_VOX = 1
"""Voxels around the brain that the network sees; with 4, Dice is the same and the time longer by a sixth."""
Z_RANGE = (-4.0, 4.4)
"""Limits of the z-scores; the same in training."""
OWN_SPACING_MM = (0.9, 1.1)
"""Spacings with which a scan is segmented on its own grid; in training, brains were scaled by as much."""
OWN_TILT_DEG = 20.0
"""Tilt against the template up to which the scan's axes are kept; in training, brains were turned by as much."""
LEAST_SHARE = 0.1
"""Least share of a voxel of the 1 mm grid by which its mean intensity in the brain is divided."""


def segment_whole(anatomy: "HeadAnatomy", params: SlantParams, weights: WholeBrainWeights) -> Labels:
    """Segment a brain into the 132 BrainCOLOR labels.

    Parameters
    ----------
    anatomy
        Anatomy of the scan.
    params
        Steps of the preprocessing, and whether to average with the mirror image.
    weights
        The network.

    Raises
    ------
    AnatomyError
        If the brain mask cannot be a brain.
    RegistrationError
        If the template does not fit the brain.
    GpuMemoryError
        If the network does not fit into the memory of the GPU.
    """
    warnings: list[str] = []
    brain = anatomy.brain
    alignment = aligned(anatomy, params, warnings)
    to_template = alignment.to_template
    box = _from_lattice(box_of(brain, MARGIN_VOX))
    z = _scored(anatomy, alignment, box, bias=params.bias)
    part = Volume(z, anatomy.scan.grid.cropped(box).affine)
    indices = np.zeros(brain.shape, dtype=np.int32)
    with gpu_memory("segmenting"):
        indices[box] = label_indices(
            part, brain[box], to_template, weights, mirror=params.mirror, corner_mm=anatomy.scan.affine[:3, 3]
        )
    values = ids_of(indices)
    used = asdict(replace(params, networks="whole"))
    return Labels(values, (*warnings, *missing_labels(values)), Provenance("slant", __version__, used))


def _from_lattice(box: tuple[slice, ...]) -> tuple[slice, ...]:
    """A box that begins at a multiple of `MULTIPLE` voxels.

    What the network says of a voxel depends a little on where the cells of 2 to 16 mm begin that it lies in. They begin
    at fixed places of the scan, so that a mask that is one voxel wider does not move them.
    """
    return tuple(slice(one.start // MULTIPLE * MULTIPLE, one.stop) for one in box)


def _scored(anatomy: "HeadAnatomy", alignment: Alignment, box: tuple[slice, ...], *, bias: bool) -> FloatVolume:
    """z-scores in the box of the brain."""
    values, grid = anatomy.image.data, anatomy.scan.grid
    if alignment.field is not None and bias:
        values, bias = correct_bias(values, alignment.field, grid.spacing_mm), False
    scored = alignment.scored_on(grid.cropped(box), alignment.to_template)
    return z_scores(values[box], anatomy.brain[box], grid.spacing_mm, bias=bias, scored=scored)


def z_scores(
    values: FloatVolume,
    mask: BoolVolume,
    spacing_mm: NDArray[np.float64],
    *,
    bias: bool = True,
    scored: BoolVolume | None = None,
) -> FloatVolume:
    """Correct the bias field, and z-score intensities over the brain.

    Parameters
    ----------
    values
        Intensities, shape (x, y, z).
    mask
        Brain mask, same shape.
    spacing_mm
        Voxel edge lengths, shape (3,).
    bias
        Whether to correct intensity non-uniformity (N4).
    scored
        Voxels of which mean and standard deviation are taken; None for the mask.

    Returns
    -------
    numpy.ndarray
        Within `Z_RANGE`, float32, 0 outside the mask, same shape.

    Raises
    ------
    AnatomyError
        If the mask is too small, or all its voxels have the same intensity.
    """
    inside = values[mask]
    volume_mm3 = inside.size * float(np.prod(spacing_mm))
    if volume_mm3 < MINIMUM_BRAIN_VOX:
        msg = f"the brain mask has {volume_mm3:.0f} mm³; expected at least {MINIMUM_BRAIN_VOX}: check it"
        raise AnatomyError(msg)
    low = min(float(np.percentile(inside, 0.1)), 0.0)
    corrected = np.clip(values - low, 0, None).astype(np.float32)
    if bias:
        corrected = correct_bias(corrected, mask, spacing_mm)
    inside = corrected[mask if scored is None else scored].astype(np.float64)
    if not inside.std() > 0:
        msg = (
            "all voxels of the brain have the same intensity; expected a T1-weighted scan: check it, and the brain mask"
        )
        raise AnatomyError(msg)
    scores = np.clip((corrected - inside.mean()) / inside.std(), *Z_RANGE)
    return np.where(mask, scores, 0).astype(np.float32)


def label_indices(
    z: Volume,
    mask: BoolVolume,
    to_template: Affine,
    weights: WholeBrainWeights,
    *,
    mirror: bool = False,
    corner_mm: NDArray[np.float64] | None = None,
) -> LabelVolume:
    """Most probable label of each voxel of a brain.

    Parameters
    ----------
    z
        As made by `z_scores`, in a box around the brain.
    mask
        Brain mask, same shape.
    to_template
        Scan mm to template mm, shape (4, 4).
    weights
        The network.
    mirror
        Average with the prediction for the mirror image.
    corner_mm
        As of `millimetre_grid`.

    Returns
    -------
    numpy.ndarray
        Label indices, int32, same shape; 0 outside the mask.
    """
    if is_own_grid(z.grid, to_template):
        spare = -np.array(mask.shape) % MULTIPLE
        pad = [(0, int(n)) for n in spare]
        seen = np.pad(z.data, pad)
        chunks = weights.scores(seen, np.pad(mask, pad), to_template @ z.affine, mirror=mirror, beside=0)
        x, y, depth = (slice(0, n) for n in mask.shape)
        labels = arg_max(chunks, _shape(seen))[x, y, depth]
    else:
        grid = millimetre_grid(z.grid, mask, to_template, corner_mm)
        seen, inside = _on_grid(z, mask, grid)
        chunks = weights.scores(seen, inside, to_template @ grid.affine, mirror=mirror)
        found = SparseProbabilities.gather(chunks, grid.shape)
        labels = to_scan_grid(found.by_label(), grid, np.eye(4), z.grid, threads=torch.get_num_threads(), halved=False)
    return np.where(mask, labels, 0).astype(np.int32)


def is_own_grid(grid: Grid, to_template: Affine) -> bool:
    """Whether a scan's own grid is upright and of about 1 mm."""
    low, high = OWN_SPACING_MM
    spacing = grid.spacing_mm
    near = bool((spacing > low - 1e-3).all() and (spacing < high + 1e-3).all())
    return near and _tilt_deg(grid, to_template) <= OWN_TILT_DEG


def millimetre_grid(
    grid: Grid, mask: BoolVolume, to_template: Affine, corner_mm: NDArray[np.float64] | None = None
) -> Grid:
    """An upright grid of 1 mm around a brain.

    Parameters
    ----------
    grid
        Of the mask.
    mask
        Brain mask.
    to_template
        Scan mm to template mm, shape (4, 4).
    corner_mm
        The centre of the scan's first voxel, where the lattice of `MULTIPLE` mm begins on which the grid begins (see
        `_from_lattice`); None takes that of the mask's grid.

    Returns
    -------
    Grid
        In scan mm. Its axes are those of the scan if they are upright, else those of the template; every side is a
        multiple of `MULTIPLE`.
    """
    axes = _rotation(grid.affine[:3, :3])
    if _tilt_deg(grid, to_template) > OWN_TILT_DEG:
        axes = _rotation(to_template[:3, :3]).T
    points = apply_affine(grid.affine, np.argwhere(mask)) @ axes
    # Of a voxel of 2 mm, the halves of 1 mm are sampled at their centres.
    half = np.abs(axes.T @ grid.affine[:3, :3]).sum(axis=1) / 2
    low, high = points.min(axis=0) - half - MARGIN_VOX + 0.5, points.max(axis=0) + half + MARGIN_VOX
    first = (grid.affine[:3, 3] if corner_mm is None else corner_mm) @ axes - half + 0.5
    low = first + np.floor((low - first) / MULTIPLE + 1e-6) * MULTIPLE
    size = (np.ceil((high - low) / MULTIPLE) * MULTIPLE).astype(int)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, axes @ low
    return Grid((int(size[0]), int(size[1]), int(size[2])), affine)


def _tilt_deg(grid: Grid, to_template: Affine) -> float:
    turn = _rotation(to_template[:3, :3]) @ _rotation(grid.affine[:3, :3])
    return float(np.rad2deg(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


def _rotation(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation nearest to a linear map, of whose columns only the directions count."""
    u, _, vt = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=0))
    nearest: NDArray[np.float64] = u @ vt
    return nearest


def _on_grid(z: Volume, mask: BoolVolume, grid: Grid) -> tuple[FloatVolume, BoolVolume]:
    """Mean intensity of the brain in each voxel of a grid, and whether the voxel lies in the brain."""
    coarser = grid.spacing_mm / z.grid.spacing_mm
    share = resample(Volume(antialiased(mask.astype(np.float32), coarser), z.affine), grid)
    total = resample(Volume(antialiased(z.data, coarser), z.affine), grid)
    inside = share > 0.5
    mean = np.where(inside, total / np.maximum(share, LEAST_SHARE), 0).astype(np.float32)
    return mean, inside


def _shape(volume: FloatVolume) -> tuple[int, int, int]:
    x, y, z = volume.shape
    return x, y, z
