"""The spatial prior of the atlas: probabilities of structures, tissues and gyri in the space of the BrainCOLOR template.

The label volume of the atlas holds whole gyri, from the white matter out into the sulci; the scan decides which of their
voxels are cortex. Therefore the prior has few *groups*: one for every deep structure, and for each hemisphere one for
cortex and one for white matter. These two divide the hemisphere in the proportions of the tissue template. `Prior.gyri`
says which cortical label a voxel of cortex gets.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.templates import braincolor_labels
from efface.segmentation.braincolor_template import load_template, load_tissue
from efface.segmentation.labels import LABELS, REGIONS
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import Box, box_corners, covering_box
from efface.spatial.resampling import resample
from efface.spatial.types import Affine, BoolVolume, FloatVolume, Grid, LabelVolume, Volume

FLUID_IDS = (0, *REGIONS["ventricles"])
"""Groups of cerebrospinal fluid; 0 is everything outside the labels, mostly sulcal fluid."""
CORTEX = {"right": 1000, "left": 1001}
"""Group number of the cortex of each hemisphere; the number of every other group is its BrainCOLOR id."""
FIRST_CORTICAL_ID = 100
CEREBRAL_WHITE = {"right": 44, "left": 45}
CEREBELLAR_WHITE_IDS = REGIONS["cerebellar WM"]
MIXED_IDS = (*REGIONS["brainstem"], *REGIONS["cerebellar GM"])
"""Groups with both grey and white matter (cerebellar folia are thinner than a voxel)."""
NUCLEUS_IDS = tuple(
    label.id
    for label in LABELS
    if label.id < FIRST_CORTICAL_ID
    and label.id not in (*FLUID_IDS, *MIXED_IDS, *CEREBRAL_WHITE.values(), *CEREBELLAR_WHITE_IDS)
)
GROUPS = (
    *FLUID_IDS,
    *NUCLEUS_IDS,
    *MIXED_IDS,
    *CEREBELLAR_WHITE_IDS,
    *CEREBRAL_WHITE.values(),
    *CORTEX.values(),
)

LABEL_SMOOTHING_MM = 0.8
TISSUE_SMOOTHING_MM = 1.5
TISSUE_FLOOR = 0.1
"""Part of the tissue prior that is uniform: the sulci of a scan are not where the average has them."""


@dataclass(frozen=True)
class Prior:
    """The atlas on a grid of 113x137x113 voxels of 1.5 mm.

    Attributes
    ----------
    template
        T1-like image of the brain, 0 outside.
    tissue
        Probabilities of fluid, grey and white matter, shape (3, x, y, z).
    groups
        Probabilities of `GROUPS`, in that order, shape (groups, x, y, z); they add up to one.
    gyri
        By hemisphere, the nearest cortical label of every voxel, on the 1 mm grid of `labels_affine`.
    labels_affine
        Voxel to RAS+ mm of `gyri`, shape (4, 4).
    """

    template: Volume
    tissue: NDArray[np.float32]
    groups: NDArray[np.float32]
    gyri: dict[str, LabelVolume]
    labels_affine: Affine

    @property
    def grid(self) -> Grid:
        """Grid of `template`, `tissue` and `groups`."""
        return self.template.grid


@functools.cache
def load_prior() -> Prior:
    """Make the prior from the installed atlas; takes about four seconds, once a process.

    Raises
    ------
    DataPackageError
        If a package with atlas data is not installed.
    """
    labels, volume = braincolor_labels()
    tissue, _ = load_tissue()
    template = load_template()
    return Prior(
        template,
        tissue,
        _group_probabilities(tissue, labels, volume.affine, template.grid),
        {side: _nearest_gyrus(labels, side) for side in CORTEX},
        volume.affine,
    )


def _group_probabilities(
    tissue: NDArray[np.float32], labels: LabelVolume, labels_affine: Affine, grid: Grid
) -> NDArray[np.float32]:
    """Probabilities of `GROUPS` on the grid, shape (groups, x, y, z)."""
    smooth = np.stack([ndimage.gaussian_filter(t, TISSUE_SMOOTHING_MM / grid.spacing_mm) for t in tissue])
    smooth /= smooth.sum(axis=0) + 1e-6
    floor = TISSUE_FLOOR / 3
    csf, grey, white = (1 - TISSUE_FLOOR) * smooth + floor

    groups = {0: np.zeros(grid.shape, np.float32)}
    for label_id in (*FLUID_IDS[1:], *NUCLEUS_IDS, *MIXED_IDS, *CEREBELLAR_WHITE_IDS):
        groups[label_id] = _smoothed(labels == label_id, labels_affine, grid)
    hemispheres = {
        side: _smoothed(_cortical(labels, side) | (labels == CEREBRAL_WHITE[side]), labels_affine, grid)
        for side in CORTEX
    }
    groups[0] = np.clip(1 - sum(groups.values()) - sum(hemispheres.values()), 0, 1)
    for side, whole in hemispheres.items():
        groups[CORTEX[side]] = whole * grey
        groups[CEREBRAL_WHITE[side]] = whole * white
        groups[0] += whole * csf
    for label_id in REGIONS["cerebellar GM"]:
        sulcal = groups[label_id] * np.clip(csf - floor, 0, 1)
        groups[0] += sulcal
        groups[label_id] -= sulcal
    stacked = np.stack([groups[g] for g in GROUPS])
    stacked /= stacked.sum(axis=0) + 1e-6
    return stacked.astype(np.float32)


def _smoothed(mask: BoolVolume, affine: Affine, grid: Grid) -> FloatVolume:
    """Smooth a mask in a box around it, and resample it to the grid."""
    margin = 6
    box = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in ndimage.find_objects(mask.astype(np.int8))[0])
    x, y, z = mask.shape
    local = Grid((x, y, z), affine).cropped(box).affine
    sigma = LABEL_SMOOTHING_MM / np.linalg.norm(affine[:3, :3], axis=0)
    part = _part_of_grid(grid, local, tuple(s.stop - s.start for s in box))
    out = np.zeros(grid.shape, np.float32)
    smooth = Volume(ndimage.gaussian_filter(mask[box].astype(np.float32), sigma), local)
    out[part] = resample(smooth, grid.cropped(part))
    return out


def _part_of_grid(grid: Grid, affine: Affine, shape: tuple[int, ...]) -> Box:
    """Voxels of the grid that a volume with this affine and shape can overlap."""
    corners = box_corners((-1, -1, -1), shape)
    return covering_box(apply_affine(invert(grid.affine) @ affine, corners), grid.shape)


def _cortical(labels: LabelVolume, side: str) -> BoolVolume:
    """Voxels of the cortical labels of one side: BrainCOLOR ids are even on the right and odd on the left."""
    cortical: BoolVolume = (labels >= FIRST_CORTICAL_ID) & (labels % 2 == (0 if side == "right" else 1))
    return cortical


def _nearest_gyrus(labels: LabelVolume, side: str) -> LabelVolume:
    """Nearest cortical label of one side, at every voxel."""
    nearest = ndimage.distance_transform_edt(~_cortical(labels, side), return_distances=False, return_indices=True)
    gyri: LabelVolume = labels[tuple(nearest)]
    return gyri
