"""Figure 5, the frontier: how often people are found again, against what is left to analyse."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from efface.metrics.dice import NINE_REGIONS
from efface.privacy.cohort import CONTROLS, SAME_SCAN
from efface.privacy.looks import UNTOUCHED
from efface.privacy.registry import ATTACKS
from efface.report.dice_figures import STYLE, new_figure
from efface.statistics.inference import Finding, median_of
from efface.visualization.palette import colour_of, title_of

UTILITIES = ("Dice of nine regions, median (mean of each scan)", "head changed, median ml")
MARKERS = "osD^vPX"


def plot_frontier(summary: pd.DataFrame, dice: pd.DataFrame, edits: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """Draw Figure 5: a row of panels an attack, a panel a measure of utility, a point a method.

    Parameters
    ----------
    summary
        The study's privacy_summary.tsv.
    dice, edits
        The study's dice.tsv and edits.tsv.
    methods
        In order.

    Notes
    -----
    Bars are 95 % intervals; the right end of each panel keeps most, its lower end is where nobody is found.
    """
    rows = summary[summary.gallery_scan == SAME_SCAN]
    attacks = list(rows.attack.drop_duplicates())
    useful = {m: (regional_dice(dice, m), changed_ml(edits, m)) for m in methods}
    with mpl.rc_context(STYLE):
        figure = new_figure(10, 0.7 + 3.1 * len(attacks))
        panels = figure.subplots(len(attacks), 2, sharex="col", sharey=True, squeeze=False)
        for pair, attack in zip(panels, attacks, strict=True):
            mine = rows[rows.attack == attack]
            for place, axes in enumerate(pair):
                _panel(axes, mine, methods, {m: found[place] for m, found in useful.items()})
            unusable = str(mine.unusable.iloc[0])
            title = ATTACKS[attack].title if attack in ATTACKS else attack
            note = " - a control failed: not to be used" if unusable else ""
            pair[0].set_title(f"{title}{note}", loc="left", fontsize=9)
            pair[0].set_ylabel("AUC, same person against others")
        panels[0, 0].set_ylim(_lowest(rows), 1.05)  # shared by all
        for axes, name in zip(panels[-1], UTILITIES, strict=True):
            axes.set_xlabel(name)
        panels[0, 1].invert_xaxis()  # shared: once for the column
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, ncols=min(7, len(labels)), loc="outside upper right")
    return figure


def regional_dice(dice: pd.DataFrame, method: str) -> Finding:
    """Median over scans of the mean Dice of the nine regions, with its interval over subjects."""
    mine = dice[(dice.method == method) & dice.region.isin(NINE_REGIONS) & (dice.level != "label")]
    of_scan = mine.dropna(subset=["value"]).groupby(["subject", "scan"]).value.mean()
    return median_of([values.to_numpy(dtype=float) for _, values in of_scan.groupby(level="subject")])


def changed_ml(edits: pd.DataFrame, method: str) -> Finding:
    """Median volume of head that a method changed, ml, with its interval over subjects."""
    mine = edits[edits.method == method].dropna(subset=["edited_head_ml"])
    return median_of([values.to_numpy(dtype=float) for _, values in mine.groupby("subject").edited_head_ml])


def _panel(axes: Any, rows: pd.DataFrame, methods: Sequence[str], useful: dict[str, Finding]) -> None:
    axes.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":", zorder=0)
    for number, method in enumerate(methods):
        found = rows[rows.method == method]
        if found.empty or useful[method].n == 0:
            continue
        row, across = found.iloc[0], useful[method]
        axes.errorbar(
            across.effect, row.auc, xerr=_bars(across.effect, across.low, across.high),
            yerr=_bars(row.auc, row.auc_low, row.auc_high), fmt=MARKERS[number % len(MARKERS)],
            color=colour_of(method), ecolor=colour_of(method), markersize=7, elinewidth=1, capsize=2,
            label=title_of(method),
        )  # fmt: skip
    control = rows[rows.method == UNTOUCHED]
    if len(control):
        axes.axhline(control.auc.iloc[0], color="#333333", linewidth=0.8, linestyle="--", zorder=0)
        axes.annotate(
            "not defaced", (0.01, control.auc.iloc[0]), xycoords=("axes fraction", "data"), va="bottom", fontsize=7
        )
    axes.grid(visible=True, color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)


def _lowest(rows: pd.DataFrame) -> float:
    """Where the axes of the AUC begin: at 0.3, or below the lowest interval."""
    values = rows[["auc", "auc_low"]].to_numpy(dtype=float)
    return min(0.3, float(np.min(values[np.isfinite(values)], initial=1.0)) - 0.03)


def _bars(value: float, low: float, high: float) -> Any:
    """Lengths of error bars; None where there is no interval."""
    if pd.isna(low) or pd.isna(high):
        return None
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def defaced(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of methods, without those of the controls."""
    return summary[~summary.method.isin(CONTROLS)]
