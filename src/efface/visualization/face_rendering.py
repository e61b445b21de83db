"""Rendering of the face on a scan by ray casting, without a display.

A `Surface` is where a smoothed scan crosses one threshold. Rays go from a camera, placed by the average head's rigid
pose in the scan, to the first crossing. Structures behind it, such as sinuses, are hidden; those that defacing exposed
are shown. To compare a scan before and after defacing, give both the same pose and the first one's threshold::

    before = head_surface(dark_air(original))
    after = head_surface(dark_air(defaced), threshold=before.threshold)
    pictures = [render_view(surface, "frontal", average_to_scan) for surface in (before, after)]

References
----------
Levoy. "Display of surfaces from volume data." IEEE Computer Graphics and Applications 8(3) (1988), 29-37 (shading by
the gradient of the volume).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage

from efface.anatomy.skin import BLOCK, GRID_MM, Surface
from efface.errors import InputError
from efface.spatial.types import Affine, Grid, Volume

VIEWS: Mapping[str, float] = MappingProxyType(
    {
        "frontal": 0.0,
        "three_quarter_left": 45.0,
        "three_quarter_right": -45.0,
        "profile_left": 90.0,
        "profile_right": -90.0,
    }
)
"""Degrees the camera is turned from the front; left and right are the person's, the side that is seen."""

CENTRE_MM = np.array([-1.0, 12.0, -36.0])
"""What the camera looks at: the middle of the average head, average-head RAS+ mm."""
DISTANCE_MM = 700.0
PICTURE_MM = 290.0
"""Height of the picture at the centre."""
SIZE_PX = (540, 480)

STEP_MM = 1.0
BISECTIONS = 6
NORMAL_MM = 2.0
"""Half the length of the differences that give the slope: shorter ones show the grid on flat skin."""
HIGHLIGHT_DEPTH_MM = 3.0
"""How far under the skin labels are looked up: a mask of the face need not reach its outermost voxel."""

SKIN = np.array([0.86, 0.76, 0.69])
BACKGROUND = np.array([0.07, 0.08, 0.10])
HIGHLIGHT_OPACITY = 0.6
AMBIENT = 0.12
LIGHTS = ((0.58, (-0.55, 0.60, 0.60)), (0.18, (0.80, 0.05, 0.55)), (0.30, (0.0, 0.1, 1.0)))
"""Key, fill and front light: strength, and where each is from the face (right of the picture, up, to the camera)."""
SHINE, SHININESS = 0.10, 18.0

Rgb = tuple[float, float, float]
Picture = NDArray[np.uint8]
"""Shape (height, width, 3), uint8 RGB; up is up."""


@dataclass(frozen=True, eq=False)
class Highlight:
    """Labels to tint the surface with.

    Attributes
    ----------
    labels
        Label numbers (0 = none), any grid; its affine is voxel to scan mm. A prior in average-head space needs no
        resampling: ``Volume(prior.data, average_to_scan @ prior.affine)``.
    colours
        RGB from 0 to 1 for each label number to be shown.
    """

    labels: Volume
    colours: Mapping[int, Rgb]


def render_views(
    surface: Surface,
    average_to_scan: Affine,
    *,
    views: Sequence[str] = tuple(VIEWS),
    size_px: tuple[int, int] = SIZE_PX,
    highlight: Highlight | None = None,
) -> dict[str, Picture]:
    """Make several pictures of a head; see `render_view`.

    Returns
    -------
    dict
        View to picture, in the order of `views`.

    Raises
    ------
    InputError
        As `render_view`.
    """
    return {v: render_view(surface, v, average_to_scan, size_px=size_px, highlight=highlight) for v in views}


def render_view(
    surface: Surface,
    view: str,
    average_to_scan: Affine,
    *,
    size_px: tuple[int, int] = SIZE_PX,
    highlight: Highlight | None = None,
) -> Picture:
    """Make one picture of a head.

    Parameters
    ----------
    surface
        The head.
    view
        One of `VIEWS`.
    average_to_scan
        Average head mm to scan mm, RAS+, shape (4, 4). Its rotation places the camera; its scales and shears do not
        count, so a head is seen as large as it is.
    size_px
        Height and width; the height shows `PICTURE_MM` at the middle of the head.
    highlight
        Labels to tint the surface with.

    Returns
    -------
    Picture
        Shape (height, width, 3), uint8 RGB.

    Raises
    ------
    InputError
        If the view is not known, `average_to_scan` is not a 4x4 affine that keeps left left, or a size is below 1.
    """
    if view not in VIEWS:
        msg = f"view must be one of {', '.join(VIEWS)}; received {view!r}"
        raise InputError(msg)
    if min(size_px) < 1:
        msg = f"size_px must be a height and a width of at least 1; received {size_px}"
        raise InputError(msg)
    camera = _camera(VIEWS[view], average_to_scan)
    rays = _rays(size_px)
    to_voxels = np.linalg.inv(surface.volume.affine) @ camera
    pixels, depth_mm = _first_crossings(surface, to_voxels, rays)
    points = rays[:, pixels] * depth_mm
    normals = _normals(surface, to_voxels, points)
    colours = np.repeat(SKIN[:, None], len(pixels), axis=1)
    if highlight is not None:
        _tint(colours, highlight, camera, points - HIGHLIGHT_DEPTH_MM * normals)
    picture = np.repeat(BACKGROUND[None], size_px[0] * size_px[1], axis=0)
    picture[pixels] = _shaded(colours, normals, points).T
    return np.asarray(np.rint(picture.clip(0, 1) * 255), dtype=np.uint8).reshape(*size_px, 3)


def _camera(azimuth_deg: float, average_to_scan: Affine) -> Affine:
    """Camera mm (right of the picture, up, away from the camera; the camera at 0) to scan mm, shape (4, 4)."""
    pose = np.asarray(average_to_scan, dtype=np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or np.linalg.det(pose[:3, :3]) <= 0:
        msg = f"average_to_scan must be a 4x4 affine of finite numbers with a positive determinant; received {pose}"
        raise InputError(msg.replace("\n", ""))
    rotation, _ = linalg.polar(pose[:3, :3])
    azimuth = np.deg2rad(azimuth_deg)
    to_camera = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    right = np.cross([0.0, 0.0, 1.0], to_camera)
    camera = np.eye(4)
    camera[:3, :3] = rotation @ np.column_stack([right, [0.0, 0.0, 1.0], -to_camera])
    camera[:3, 3] = pose[:3, :3] @ CENTRE_MM + pose[:3, 3] + DISTANCE_MM * rotation @ to_camera
    return camera


def _rays(size_px: tuple[int, int]) -> NDArray[np.float64]:
    """Camera mm that each pixel's ray advances for 1 mm of depth, row by row from the top left, shape (3, pixels)."""
    pitch = PICTURE_MM / size_px[0] / DISTANCE_MM
    up, right = ((np.arange(n) - (n - 1) / 2) * pitch for n in size_px)
    return np.stack([np.tile(right, size_px[0]), np.repeat(-up, size_px[1]), np.ones(size_px[0] * size_px[1])])


def _first_crossings(
    surface: Surface, to_voxels: Affine, rays: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which rays meet the surface, and at what depth (mm)."""
    origin, along = to_voxels[:3, 3:], to_voxels[:3, :3] @ rays
    near, far = _depths_mm(surface.volume.grid, to_voxels)
    active = np.arange(rays.shape[1])
    depth = np.full(len(active), near)
    stretch = np.linalg.norm(rays, axis=0)
    found, found_depth = [], []
    while active.size:
        points = origin + along[:, active] * depth
        leaps = _looked_up(surface.empty_blocks, points)
        step = np.maximum(leaps * (BLOCK * GRID_MM), STEP_MM) / stretch[active]
        close = np.flatnonzero(leaps == 0)
        hit = close[_sampled(surface, points[:, close]) >= surface.threshold]
        found.append(active[hit])
        found_depth.append(depth[hit])
        depth += step
        going = depth < far
        going[hit] = False
        active, depth = active[going], depth[going]
    pixels, behind = np.concatenate(found), np.concatenate(found_depth)
    before = behind - STEP_MM / stretch[pixels]
    for _ in range(BISECTIONS):
        middle = (before + behind) / 2
        inside = _sampled(surface, origin + along[:, pixels] * middle) >= surface.threshold
        behind = np.where(inside, middle, behind)
        before = np.where(inside, before, middle)
    return pixels, behind


def _depths_mm(grid: Grid, to_voxels: Affine) -> tuple[float, float]:
    """Depths between which the volume lies, and not behind the camera."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1)
    to_camera = np.linalg.inv(to_voxels)
    depth = to_camera[2, :3] @ corners + to_camera[2, 3]
    return max(float(depth.min()), GRID_MM), float(depth.max())


def _looked_up(blocks: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Values of the blocks that hold these points (voxels), or of the blocks nearest to them."""
    i, j, k = (np.clip(p.astype(np.intp) // BLOCK, 0, n - 1) for p, n in zip(points, blocks.shape, strict=True))
    return np.asarray(blocks[i, j, k])


def _sampled(surface: Surface, points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolated intensities at points (voxels, shape (3, n)); air outside."""
    return np.asarray(ndimage.map_coordinates(surface.volume.data, points, order=1))


def _normals(surface: Surface, to_voxels: Affine, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors out of the surface at points (camera mm), in camera axes, shape (3, n)."""
    centre, axes = to_voxels[:3, :3] @ points + to_voxels[:3, 3:], to_voxels[:3, :3, None] * NORMAL_MM
    down = [_sampled(surface, centre - axes[:, a]) - _sampled(surface, centre + axes[:, a]) for a in range(3)]
    normals = np.array(down, dtype=np.float64)
    normals /= np.maximum(np.linalg.norm(normals, axis=0), 1e-9)
    return normals


def _tint(colours: NDArray[np.float64], highlight: Highlight, camera: Affine, points: NDArray[np.float64]) -> None:
    """Mix the colour of the label at each point (camera mm) into `colours`, shape (3, n)."""
    to_labels = np.linalg.inv(highlight.labels.affine) @ camera
    voxels = to_labels[:3, :3] @ points + to_labels[:3, 3:]
    for label, colour in highlight.colours.items():
        mask = (highlight.labels.data == label).astype(np.float32)
        tinted = ndimage.map_coordinates(mask, voxels, order=1) > 0.5
        colours[:, tinted] += HIGHLIGHT_OPACITY * (np.array(colour)[:, None] - colours[:, tinted])


def _shaded(
    colours: NDArray[np.float64], normals: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Light the colours: a soft Lambert term for each light, and a little shine, shape (3, n)."""
    towards_eye = -points / np.linalg.norm(points, axis=0)
    light = np.full(points.shape[1], AMBIENT)
    shine = np.zeros(points.shape[1])
    for strength, (right, up, towards) in LIGHTS:
        direction = np.array([right, up, -towards])
        direction /= np.linalg.norm(direction)
        light += strength * np.maximum(direction @ normals, 0)
        half = direction[:, None] + towards_eye
        half /= np.linalg.norm(half, axis=0)
        shine += strength * np.maximum((half * normals).sum(axis=0), 0) ** SHININESS
    lit: NDArray[np.float64] = colours * light + SHINE * shine
    return lit
