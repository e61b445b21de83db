"""Data of the report's interactive figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from efface.metrics.dice import NINE_REGIONS, POOLED, WHOLE_BRAIN
from efface.report.dice_figures import rescan_groups
from efface.segmentation.labels import LABELS
from efface.study import Tables
from efface.visualization.palette import colour_of, title_of

MAX_LABEL_NUMBERS = 400_000
"""With more numbers than this (for example 500 scans and six methods) the single labels stay in dice.tsv."""


def chart_data(tables: Tables, methods: Sequence[str], links: Mapping[str, str]) -> dict[str, Any]:
    """Everything the figure draws: scans, groups, and values by measure, region and group.

    Parameters
    ----------
    tables
        Of the study.
    methods
        In the order of the rows.
    links
        Scan to the address of its page.

    Returns
    -------
    dict
        ``scans`` (name, link), ``groups`` (title, colour, rescan), ``measures``: title, whether better is up, and
        ``regions``: name, and for each group the list of [scan number, value].
    """
    scans = list(links)
    groups: list[tuple[str, str | None, str]] = [(m, None, title_of(m)) for m in methods]
    groups += [g for g in rescan_groups(tables.rescan, ()) if g[0] not in methods]
    order = {name: place for place, name in enumerate(scans)}
    measures = []
    sources: list[tuple[str, int, pd.DataFrame, str]] = [
        ("Dice, original against defaced", 4, tables.dice, "value"),
        ("Volume change, %", 3, tables.volumes, "volume_change_percent"),
        ("95 % Hausdorff distance, mm", 3, tables.distances, "hd95_mm"),
        ("Mean surface distance, mm", 4, tables.distances, "surface_distance_mm"),
    ]
    for title, digits, frame, column in sources:
        if frame.empty:
            continue
        rescan = tables.rescan[tables.rescan.measure == ("dice" if column == "value" else column)]
        rows = pd.concat([_tidy(frame, column), _tidy(rescan[~rescan.method.isin(methods)], "value")])
        regions = _regions(rows, order, groups, digits)
        if regions:
            measures.append({"title": title, "digits": digits, "regions": regions})
    return {
        "scans": [{"name": name, "link": link} for name, link in links.items()],
        "groups": [{"title": t, "colour": colour_of(m), "rescan": m not in methods} for m, _, t in groups],
        "measures": measures,
    }


def _tidy(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    columns = ["scan", "method", "implementation", "level", "region", column]
    return frame[columns].rename(columns={column: "value"}).dropna(subset=["value"])


def _regions(
    rows: pd.DataFrame, order: Mapping[str, int], groups: Sequence[tuple[str, str | None, str]], digits: int
) -> list[dict[str, Any]]:
    wanted = [WHOLE_BRAIN, POOLED, *NINE_REGIONS]
    if (rows.level == "label").sum() <= MAX_LABEL_NUMBERS:
        wanted += [label.name for label in LABELS]
    rows = rows[rows.scan.isin(order) & (rows.region.isin(wanted))]
    found = {key: part for key, part in rows.groupby(["region", "method"], sort=False)}  # noqa: C416 - a GroupBy, not pairs
    regions = []
    for region in wanted:
        values = []
        for method, implementation, _ in groups:
            part = found.get((region, method))
            if part is not None and implementation is not None:
                part = part[part.implementation == implementation]
            values.append([] if part is None else _pairs(part, order, digits))
        if any(values):
            regions.append({"name": region, "values": values})
    return regions


def _pairs(part: pd.DataFrame, order: Mapping[str, int], digits: int) -> list[list[float]]:
    pairs = zip(part.scan, part.value, strict=True)
    return [[order[scan], round(float(value), digits)] for scan, value in pairs]
