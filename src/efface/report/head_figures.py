"""Figures 1 and 3 of the paper: the same head after every method; the worst case of each."""

import functools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from scipy import ndimage

from efface.anatomy.background import above_air, dark_air
from efface.anatomy.skin import Surface, head_surface
from efface.anatomy.templates import average_head
from efface.bids.derivatives import UnitPaths
from efface.errors import EffaceError
from efface.io.scan import Scan, load_scan
from efface.report.dice_figures import STYLE, new_figure
from efface.report.image_loading import (
    FACE_LEFT,
    Comparison,
    DisplayPolicy,
    camera_pose,
    load_comparison,
    load_original,
    reason_of,
)
from efface.segmentation.labels import LABELS, REGIONS
from efface.spatial.grid_limits import check_voxels
from efface.spatial.masks import largest_component
from efface.spatial.types import BoolVolume, FloatVolume, LabelVolume, Volume
from efface.visualization.face_rendering import BACKGROUND, render_view
from efface.visualization.palette import GAINED, LOST, MOVED, REGION_COLOURS, colour_of, title_of
from efface.visualization.slices import brightest, grey_slice, middle, turned

FACE_PX = (360, 320)
FACE_VIEW = "three_quarter_left"
SLICE_MM = (250.0, 222.0)
"""Height and width of the sagittal pictures; scans that are larger are cropped around the head's middle."""
CROP_MM = 12.0
PLANES = ("sagittal", "coronal", "axial")
OPACITY = 0.45

_MIDDLE = np.array([-1.0, 12.0, -20.0, 1.0])
"""Middle of the sagittal picture, average-head mm."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Panel:
    """One cell of a figure: a picture, or why there is none."""

    picture: Picture | None
    missing: str = ""


# --- Figure 1 -----------------------------------------------------------------------------------------------------


def method_panels(paths: UnitPaths, methods: Sequence[str], policy: DisplayPolicy) -> dict[str, tuple[Panel, Panel]]:
    """Sagittal slice and 3-D face of the head before (key ``before``) and after every method.

    Where originals may not be shown, "before" is the average head.
    """
    found: dict[str, tuple[Panel, Panel]] = {}
    threshold: float | None = None
    if policy.originals:
        try:
            before = load_original(paths, next(m for m in methods if paths.defaced(m).is_file()))
            surface = head_surface(dark_air(before))
            threshold = surface.threshold
            found["before"] = _panels(before, paths, methods, surface)
        except (EffaceError, StopIteration) as error:
            found["before"] = (Panel(None, reason_of(error, paths)),) * 2
    else:
        found["before"] = _average_panels()
    for method in methods:
        if policy.hides(paths.stem, method):
            found[method] = (Panel(None, FACE_LEFT),) * 2
            continue
        try:
            after = load_scan(paths.defaced(method))
            surface = head_surface(dark_air(after), threshold=threshold)
            found[method] = _panels(after, paths, methods, surface)
        except EffaceError as error:
            found[method] = (Panel(None, reason_of(error, paths)),) * 2
    return found


def _panels(scan: Scan, paths: UnitPaths, methods: Sequence[str], surface: Surface) -> tuple[Panel, Panel]:
    pose = camera_pose(paths, tuple(methods), scan)
    face = render_view(surface, FACE_VIEW, pose, size_px=FACE_PX)
    centre = np.linalg.inv(scan.affine) @ pose @ _MIDDLE
    return Panel(_sagittal(Volume(above_air(scan), scan.affine), centre[:3])), Panel(face)


@functools.cache
def _average_panels() -> tuple[Panel, Panel]:
    head = average_head()
    surface = head_surface(head)
    inside = surface.volume.data >= surface.threshold
    surface.volume.data[inside & ~largest_component(inside)] = (
        0  # an ear of the average hangs before its face, folded over
    )
    face = render_view(surface, FACE_VIEW, np.eye(4), size_px=FACE_PX)
    centre = np.linalg.inv(head.affine) @ _MIDDLE
    return Panel(_sagittal(head, centre[:3])), Panel(face)


def _sagittal(volume: Volume, centre_vox: NDArray[np.float64]) -> Picture:
    """A sagittal slice in a frame of `SLICE_MM` around a voxel, nearest neighbour, black beyond the scan."""
    spacing = volume.grid.spacing_mm
    plane = turned(volume.data[int(np.clip(np.rint(centre_vox[0]), 0, volume.data.shape[0] - 1))])
    pitch = SLICE_MM[0] / FACE_PX[0]
    rows = plane.shape[0] - 1 - centre_vox[2] + (np.arange(FACE_PX[0]) - FACE_PX[0] / 2) * pitch / spacing[2]
    columns = centre_vox[1] + (np.arange(FACE_PX[1]) - FACE_PX[1] / 2) * pitch / spacing[1]
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    shown = ndimage.map_coordinates(plane, grid, order=1) / brightest(volume.data) * 255
    return np.repeat(np.clip(shown, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def plot_methods(panels: Mapping[str, tuple[Panel, Panel]], *, before: str, scan: str) -> Figure:
    """Draw Figure 1: a column a method, the sagittal slice above the 3-D face.

    Parameters
    ----------
    panels
        Of `method_panels`.
    before
        What stands over the first column.
    scan
        Which scan is shown.
    """
    with mpl.rc_context(STYLE):
        wide = 10.0
        cell = wide / len(panels)
        figure = new_figure(wide, 2 * cell * FACE_PX[0] / FACE_PX[1] + 0.5, tight=True)
        cells = figure.subplots(2, len(panels), squeeze=False)
        for column, (name, pair) in enumerate(panels.items()):
            for axes, panel in zip(cells[:, column], pair, strict=True):
                _show(axes, panel, FACE_PX)
            title = before if name == "before" else title_of(name)
            cells[0, column].set_title(title, fontsize=9, pad=7)
            if name != "before":
                _bar(cells[0, column], colour_of(name))
        figure.supxlabel(scan, fontsize=8, color="#444444", x=0.005, ha="left")
    return figure


# --- Figure 3 -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Worst:
    """The worst case of one method."""

    method: str
    scan: str
    dice: float
    plane: str
    panels: tuple[Panel, Panel, Panel]


def worst_case(paths: UnitPaths, method: str, segmenter: str, dice: float, policy: DisplayPolicy) -> Worst:
    """Draw one column of Figure 3; a file that cannot be used leaves its reason in the panels."""
    if policy.hides(paths.stem, method):
        policy = DisplayPolicy()  # the crops below are of the brain: masked, they show no face
    try:
        seen = load_comparison(paths, method, segmenter, policy)
    except EffaceError as error:
        return Worst(method, paths.stem, dice, "", (Panel(None, reason_of(error, paths)),) * 3)
    axis, index = _most_changed(seen)
    box = _box(seen, axis)
    panels = tuple(Panel(picture) for picture in _pictures(seen, axis, index, box))
    return Worst(method, paths.stem, dice, PLANES[axis], (panels[0], panels[1], panels[2]))


def _most_changed(seen: Comparison) -> tuple[int, int]:
    """Axis and index of the slice on which the area with another label is largest."""
    changed = seen.labels_before != seen.labels_after
    spacing = np.linalg.norm(seen.affine[:3, :3], axis=0)
    best = (-1.0, 0, changed.shape[0] // 2)
    for axis in range(3):
        area = changed.sum(axis=tuple(a for a in range(3) if a != axis)) * float(np.delete(spacing, axis).prod())
        best = max(best, (float(area.max()), axis, int(area.argmax())), key=lambda x: x[0])
    if best[0] <= 0:
        return 0, middle(seen.brain, 0)
    return best[1], best[2]


def _box(seen: Comparison, axis: int) -> tuple[slice, slice]:
    """Rows and columns of a turned slice around the brain."""
    spacing = np.linalg.norm(seen.affine[:3, :3], axis=0)
    shown: BoolVolume = seen.brain | (seen.labels_before > 0) | (seen.labels_after > 0)
    flat = turned(np.asarray(shown.any(axis=axis)))
    steps = np.delete(spacing, axis)[::-1]
    ranges = []
    for direction in (0, 1):
        inside = np.flatnonzero(flat.any(axis=1 - direction))
        margin = int(np.ceil(CROP_MM / steps[direction]))
        low, high = (inside[0], inside[-1]) if inside.size else (0, flat.shape[direction] - 1)
        ranges.append(slice(max(0, int(low) - margin), int(high) + margin + 1))
    return ranges[0], ranges[1]


def _pictures(seen: Comparison, axis: int, index: int, box: tuple[slice, slice]) -> list[Picture]:
    top = brightest(seen.before)

    def grey(volume: FloatVolume) -> NDArray[np.float32]:
        return grey_slice(volume, axis, index, top)[box]

    def labels(values: LabelVolume) -> NDArray[np.int32]:
        return np.asarray(turned(np.take(values, index, axis=axis))[box])

    first, second = labels(seen.labels_before), labels(seen.labels_after)
    difference = _tinted(
        0.75 * grey(seen.before),
        {
            LOST: (first > 0) & (second == 0),
            GAINED: (first == 0) & (second > 0),
            MOVED: (first > 0) & (second > 0) & (first != second),
        },
        0.9,
    )
    shown = [_tinted(grey(v), _by_region(x), OPACITY) for v, x in ((seen.before, first), (seen.after, second))]
    spacing = np.delete(np.linalg.norm(seen.affine[:3, :3], axis=0), axis)
    return [_square(picture, spacing[1] / spacing[0]) for picture in (*shown, difference)]


def _by_region(labels: NDArray[np.int32]) -> dict[str, NDArray[np.bool_]]:
    known = {label.id: label.region for label in LABELS}
    present = set(np.unique(labels)) & set(known)
    return {
        colour: np.isin(labels, [i for i in present if known[i] == region])
        for region, colour in REGION_COLOURS.items()
        if region in REGIONS
    }


def _tinted(picture: NDArray[np.float32], masks: Mapping[str, NDArray[np.bool_]], opacity: float) -> NDArray[np.float32]:
    for colour, mask in masks.items():
        picture[mask] = (1 - opacity) * picture[mask] + opacity * 255 * np.array(to_rgb(colour))
    return picture


def _square(picture: NDArray[np.float32], rows_per_column: float) -> Picture:
    """Stretch rows so that pixels are square, nearest neighbour."""
    count = max(1, round(picture.shape[0] * rows_per_column))
    check_voxels((count, picture.shape[1]), "drawing a slice")
    rows = np.minimum((np.arange(count) / rows_per_column).astype(int), picture.shape[0] - 1)
    return np.asarray(np.clip(picture[rows], 0, 255), dtype=np.uint8)


def plot_worst(cases: Sequence[Worst]) -> Figure:
    """Draw Figure 3: a column a method; original and defaced with their segmentations, and the difference."""
    with mpl.rc_context(STYLE):
        figure = new_figure(10, 3 * 10 / max(4, len(cases)) * 0.95 + 1.1, tight=True)
        cells = figure.subplots(3, max(4, len(cases)), squeeze=False)
        for column in range(cells.shape[1]):
            for row in range(3):
                axes = cells[row, column]
                if column >= len(cases):
                    axes.axis("off")
                    continue
                case = cases[column]
                _show(axes, case.panels[row], (300, 300))
                if column == 0:
                    axes.set_ylabel(("original", "defaced", "difference")[row], fontsize=9)
                if row == 0:
                    axes.set_title(f"{title_of(case.method)}\nDice {case.dice:.4f}", fontsize=9, pad=7)
                    _bar(axes, colour_of(case.method))
                if row == 2:
                    axes.set_xlabel(f"{case.scan}\n{case.plane}", fontsize=7, color="#444444")
        _legends(figure)
    return figure


def _legends(figure: Figure) -> None:
    regions = [Patch(color=colour, label=region) for region, colour in REGION_COLOURS.items()]
    kinds = ((LOST, "brain before only"), (GAINED, "brain after only"), (MOVED, "another label"))
    changes = [Patch(color=colour, label=f"difference: {text}") for colour, text in kinds]
    figure.legend(
        handles=[*regions, *changes], loc="outside lower center", ncols=7, frameon=False, fontsize=7.5,
        handlelength=1.0, columnspacing=1.2,
    )  # fmt: skip


def _show(axes: Any, panel: Panel, size: tuple[int, int]) -> None:
    picture = panel.picture
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if picture is None:
        blank = np.full((*size, 3), 235, np.uint8)
        axes.imshow(blank, interpolation="none")
        axes.text(0.5, 0.5, _wrapped(panel.missing), transform=axes.transAxes, ha="center", va="center", fontsize=6.5)
        return
    axes.imshow(picture, interpolation="antialiased")
    axes.set_facecolor(BACKGROUND)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 22)[:9])


def _bar(axes: Any, colour: str) -> None:
    """The method's colour, between its name and its pictures."""
    axes.add_patch(Rectangle((0, 1.01), 1, 0.025, transform=axes.transAxes, color=colour, clip_on=False))
