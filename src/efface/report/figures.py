"""Figures of the paper, as SVG and PNG; the same table gives the same files."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from efface.measure.dice import NINE_REGIONS, WHOLE_BRAIN

COLOURS = {
    "defacer": "#CC79A7",
    "quickshear": "#E69F00",
    "mri_deface": "#56B4E9",
    "pydeface": "#0072B2",
    "fsl_deface": "#009E73",
    "mri_reface": "#D55E00",
}
"""Okabe and Ito's colours, which colour-blind people tell apart; the same method has the same colour everywhere."""
GROUPS = (WHOLE_BRAIN, *NINE_REGIONS)
_STYLE = {"svg.hashsalt": "efface", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}


def plot_effects(dice: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Draw the paper's Figure 2: Dice before/after defacing, ten groups, a box a method and a point a scan.

    Parameters
    ----------
    dice
        Columns region, level, method, value: the study's dice.tsv.
    methods
        In the order of the boxes.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        width = 0.8 / max(1, len(methods))
        shown = dice[dice.level != "label"]
        for place, method in enumerate(methods):
            offset = (place - (len(methods) - 1) / 2) * width
            of_method = shown[shown.method == method]
            values = [of_method[of_method.region == group].value.dropna().to_numpy() for group in GROUPS]
            _boxes(axes, values, np.arange(len(GROUPS)) + offset, width * 0.8, COLOURS.get(method, "#666666"), method)
        axes.set_xticks(range(len(GROUPS)), [g.replace(" ", "\n") for g in GROUPS])
        axes.set_xlim(-0.6, len(GROUPS) - 0.4)
        axes.set_ylabel("Dice, original against defaced")
        axes.yaxis.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        scans = shown.scan.nunique()
        axes.set_title(f"Effect of defacing on the segmentation (n = {scans} scans)", loc="left", fontsize=10)
        axes.legend(frameon=False, ncols=len(methods), loc="lower right", bbox_to_anchor=(1, 1), fontsize=9)
    return figure


def _boxes(axes: Any, values: list[Any], places: Any, width: float, colour: str, label: str) -> None:
    box = axes.boxplot(
        values, positions=places, widths=width, showfliers=False, patch_artist=True, manage_ticks=False,
        medianprops={"color": "black", "linewidth": 1.2}, boxprops={"facecolor": colour, "alpha": 0.45},
        whiskerprops={"color": colour}, capprops={"color": colour},
    )  # fmt: skip
    for patch in box["boxes"]:
        patch.set_edgecolor(colour)
    spread = np.random.default_rng(0)  # sideways only, so that points do not hide each other
    for place, points in zip(places, values, strict=True):
        jitter = spread.uniform(-0.3, 0.3, len(points)) * width
        axes.plot(place + jitter, points, "o", color=colour, markersize=2.5, markeredgewidth=0, alpha=0.85)
    axes.plot([], [], "s", color=colour, label=label)


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Render as ``svg`` or ``png``, without a date, so that the bytes repeat."""
    buffer = BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()
