"""Figures 2 and 4 of the paper, as SVG and PNG; the same table gives the same files."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from efface.metrics.dice import NINE_REGIONS, WHOLE_BRAIN
from efface.visualization.palette import RESCAN_TITLES, colour_of, title_of
from efface.wording import counted

__all__ = ["GROUPS", "figure_bytes", "new_figure", "plot_effects", "plot_rescans", "rescan_groups"]

GROUPS = (WHOLE_BRAIN, *NINE_REGIONS)
REGISTERED = ("rescan-1-2", "rescan-2-1")
"""Rescans in which one session is registered to the other."""
DPI = 200
STYLE = {
    "svg.hashsalt": "efface", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": "#555555", "axes.linewidth": 0.8,
    "xtick.color": "#333333", "ytick.color": "#333333",
}  # fmt: skip


def new_figure(wide_in: float, tall_in: float, *, tight: bool = False) -> Figure:
    """An empty figure that needs no display; `tight` leaves hardly any room between its cells."""
    engine = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.0, hspace=0.0) if tight else None
    figure = Figure(figsize=(wide_in, tall_in), layout=engine or "constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_effects(dice: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Draw the paper's Figure 2: Dice before/after defacing, ten groups, a box a method and a point a scan.

    Parameters
    ----------
    dice
        Columns scan, region, level, method, value: the study's dice.tsv.
    methods
        In the order of the boxes.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(10, 4.6)
        axes = figure.add_subplot()
        width = 0.84 / max(1, len(methods))
        shown = dice[dice.level != "label"]
        for place, method in enumerate(methods):
            offset = (place - (len(methods) - 1) / 2) * width
            of_method = shown[shown.method == method]
            values = [of_method[of_method.region == group].value.dropna().to_numpy() for group in GROUPS]
            _boxes(axes, values, np.arange(len(GROUPS)) + offset, width * 0.82, method)
        for edge in np.arange(len(GROUPS) - 1) + 0.5:
            axes.axvline(edge, color="#e3e3e3", linewidth=0.8, zorder=0)
        axes.set_xticks(range(len(GROUPS)), [g.replace(" ", "\n") for g in GROUPS])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.5, len(GROUPS) - 0.5)
        axes.set_ylabel("Dice, original against defaced")
        _grid(axes)
        axes.set_title(f"n = {counted(shown.scan.nunique(), 'scan')}", loc="left", fontsize=9)
        figure.legend(*axes.get_legend_handles_labels(), frameon=False, ncols=len(methods), loc="outside upper right")
    return figure


def _boxes(axes: Any, values: list[NDArray[Any]], places: NDArray[Any], width: float, method: str) -> None:
    colour = colour_of(method)
    box = axes.boxplot(
        values, positions=places, widths=width, showfliers=False, patch_artist=True, manage_ticks=False,
        medianprops={"color": "black", "linewidth": 1.4}, boxprops={"facecolor": colour, "alpha": 0.4},
        whiskerprops={"color": colour}, capprops={"color": colour},
    )  # fmt: skip
    for patch in box["boxes"]:
        patch.set_edgecolor(colour)
    spread = np.random.default_rng(0)  # sideways only, so that points do not hide each other
    for place, points in zip(places, values, strict=True):
        jitter = spread.uniform(-0.35, 0.35, len(points)) * width
        size = 2.8 if len(points) < 60 else 1.8
        axes.plot(place + jitter, points, "o", color=colour, markersize=size, markeredgewidth=0, alpha=0.8)
    axes.plot([], [], "s", color=colour, label=title_of(method))


def rescan_groups(rescan: pd.DataFrame, methods: Sequence[str]) -> list[tuple[str, str, str]]:
    """Groups of Figure 4 that have rows: (method or rescan group, implementation, title), in the paper's order.

    A title names the transform of the registration only where several were run.
    """
    rows = rescan[["method", "implementation"]].drop_duplicates()
    transforms = rows[rows.method.isin(REGISTERED)].implementation.unique()
    found: list[tuple[str, str, str]] = []
    for method in (*methods, *RESCAN_TITLES):
        for implementation in rows[rows.method == method].implementation:
            many = method in REGISTERED and len(transforms) > 1
            title = f"{title_of(method)}, {implementation}" if many else title_of(method)
            found.append((method, implementation, title))
    return found


def plot_rescans(rescan: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Draw the paper's Figure 4: the effect of defacing beside that of scanning again, a panel a region.

    Parameters
    ----------
    rescan
        The study's rescan.tsv: columns subject, method (or rescan group), implementation, measure, level, region, value.
    methods
        In the order of the groups; the rescan groups follow.
    """
    dice = rescan[(rescan.measure == "dice") & (rescan.level != "label")]
    groups = rescan_groups(dice, methods)
    with mpl.rc_context(STYLE):
        figure = new_figure(10, 5.6)
        panels = figure.subplots(2, 5, sharex=True, sharey=True)
        for axes, region in zip(panels.flat, GROUPS, strict=True):
            in_region = dice[dice.region == region]
            columns = [
                in_region[(in_region.method == m) & (in_region.implementation == i)].set_index("subject").value
                for m, i, _ in groups
            ]
            _subjects(axes, columns, [colour_of(m) for m, _, _ in groups])
            axes.set_title(region, fontsize=9)
            axes.set_xticks(range(len(groups)), [title for _, _, title in groups], rotation=90)
            _grid(axes)
        for axes in panels[:, 0]:
            axes.set_ylabel("Dice")
        subjects = counted(dice.subject.nunique(), "subject")
        figure.suptitle(f"n = {subjects} with two sessions", x=0.01, ha="left", fontsize=9)
    return figure


def _subjects(axes: Any, columns: Sequence["pd.Series[float]"], colours: Sequence[str]) -> None:
    """A point a subject, its points joined by a thin line, and a bar at the median."""
    table = pd.concat([c.groupby(level=0).first() for c in columns], axis=1) if columns else pd.DataFrame()
    places = np.arange(len(columns))
    for _, values in table.iterrows():
        axes.plot(places, values.to_numpy(dtype=float), "-", color="#bbbbbb", linewidth=0.5, zorder=1)
    for place, (column, colour) in enumerate(zip(columns, colours, strict=True)):
        points = column.dropna().to_numpy()
        axes.plot(np.full(len(points), place), points, "o", color=colour, markersize=4, markeredgewidth=0, alpha=0.85)
        if len(points):
            axes.plot([place - 0.38, place + 0.38], [np.median(points)] * 2, color="black", linewidth=1.6, zorder=3)


def _grid(axes: Any) -> None:
    axes.yaxis.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render as ``svg`` or ``png``, without a date, so that the bytes repeat."""
    buffer = BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
