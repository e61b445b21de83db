"""One HTML file a study, and one a scan beside it; everything embedded, nothing fetched."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

import jinja2
import numpy as np
import pandas as pd

from efface._version import __version__
from efface.deface import METHODS
from efface.errors import EffaceError, InputError
from efface.files import write_atomically
from efface.measure.dice import WHOLE_BRAIN
from efface.paths import GroupPaths, UnitPaths, recipe_of
from efface.report.figures import COLOURS, GROUPS, figure_bytes, plot_effects
from efface.report.slices import PLANES, Views, strip
from efface.report.words import method_sentences
from efface.scan import load_mask, load_scan
from efface.study import Tables, load_tables

STRIP_PX, PAGE_PX = 150, 260


@dataclass(frozen=True)
class Picture:
    """An image to embed: a data URI, and what it shows in words."""

    uri: str
    alt: str


@dataclass(frozen=True)
class Case:
    """One scan and method as the report shows it."""

    method: str
    colour: str
    dice: dict[str, float]
    edited_head_ml: float
    edited_brain_ml: float
    picture: Picture | None
    missing: str


@dataclass(frozen=True)
class ScanEntry:
    """One scan as the report shows it."""

    scan: str
    link: str
    cases: tuple[Case, ...]


def build_report(out_dir: Path, *, originals: bool = True) -> Path:
    """Write figures, report.html, and a page beside it for every scan.

    Parameters
    ----------
    out_dir
        Output of a study whose group tables are there.
    originals
        Show slices of the undefaced scans too. The report then shows faces, and says so on top.

    Returns
    -------
    Path
        Of report.html.

    Raises
    ------
    InputError
        If the tables are missing.
    OutputError
        If the report cannot be written.
    """
    paths = GroupPaths(out_dir)
    tables = load_tables(out_dir)
    settings = _settings(paths)
    methods = [m for m in METHODS if m in settings["Methods"]]
    figure = plot_effects(tables.dice, methods)
    paths.figures.mkdir(exist_ok=True)
    pictures = {kind: figure_bytes(figure, kind) for kind in ("svg", "png")}
    for kind, data in pictures.items():
        write_atomically(paths.figures / f"figure2_dice.{kind}", data, force=True)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("efface.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = _number
    common = {"version": __version__, "settings": settings, "originals": originals, "colours": COLOURS}
    entries = list(_entries(out_dir, tables, methods, environment, common, originals=originals))
    page = environment.get_template("report.html.j2").render(
        **common,
        sentences=method_sentences(tables, methods),
        summary=_summary(tables.dice, methods),
        groups=GROUPS,
        figure=Picture(_uri(pictures["png"], "png"), _figure_alt(tables, methods)),
        failures=tables.failures.to_dict("records"),
        entries=entries,
        specs=[METHODS[m] for m in methods],
    )
    write_atomically(paths.report, page.encode(), force=True)
    return paths.report


def _entries(
    out_dir: Path,
    tables: Tables,
    methods: list[str],
    environment: jinja2.Environment,
    common: dict[str, Any],
    *,
    originals: bool,
) -> Iterator[ScanEntry]:
    """Write every scan's page, and give what the main page shows of it, one scan in memory at a time."""
    everything = pd.concat([tables.edits, tables.failures])[["subject", "session", "scan"]].drop_duplicates()
    template = environment.get_template("scan.html.j2")
    for subject, session, scan in sorted(everything.itertuples(index=False, name=None)):
        paths = UnitPaths(out_dir, subject, session or None, scan)
        cases, rows = [], []
        for method in methods:
            views, missing = _views(paths, method, originals=originals)
            small = _picture(views, "sagittal", STRIP_PX, f"{scan}, {method}") if views else None
            case = _case(tables, scan, method, small, missing)
            cases.append(case)
            large = [_picture(views, plane, PAGE_PX, f"{scan}, {method}, {plane}") for plane in PLANES] if views else []
            rows.append((case, large))
        failures = tables.failures[tables.failures.scan == scan].to_dict("records")
        page = template.render(**common, scan=scan, rows=rows, groups=GROUPS, failures=failures)
        path = paths.folder / f"{scan}_report.html"
        write_atomically(path, page.encode(), force=True)
        yield ScanEntry(scan, quote(str(path.relative_to(out_dir))), tuple(cases))


def _views(paths: UnitPaths, method: str, *, originals: bool) -> tuple[Views | None, str]:
    """Volumes to show, or why there are none."""
    path = paths.defaced(method)
    if not path.is_file():
        return None, "there is no defaced scan"
    try:
        after = load_scan(path)
        mask = load_mask(paths.mask(method), after)
        brain = load_mask(paths.brain(), after) if paths.brain().is_file() else None
        before = load_scan(_source(path)).data if originals else None
    except EffaceError as error:
        return None, str(error)
    if before is not None and before.shape != after.shape:
        return None, "the original has changed since it was defaced"
    return Views(before, after.data, mask, brain, after.spacing_mm), ""


def _source(defaced: Path) -> str:
    """Where the original is, by the recipe.

    Raises
    ------
    InputError
        If the recipe does not say.
    """
    try:
        sources = json.loads(recipe_of(defaced).read_text(encoding="utf-8"))["Sources"]
        return str(sources[0])
    except (OSError, ValueError, KeyError, IndexError) as error:
        msg = f"{recipe_of(defaced)} does not name the original: run the study again"
        raise InputError(msg) from error


def _picture(views: Views, plane: str, height_px: int, what: str) -> Picture:
    shown = "edit and after" if views.before is None else "before, edit in orange, and after"
    return Picture(_uri(strip(views, plane, height_px), "jpeg"), f"{what}: {shown}")


def _case(tables: Tables, scan: str, method: str, picture: Picture | None, missing: str) -> Case:
    dice = tables.dice
    mine = dice[(dice.scan == scan) & (dice.method == method) & (dice.level != "label")]
    edits = tables.edits[(tables.edits.scan == scan) & (tables.edits.method == method)]
    columns = ("edited_head_ml", "edited_brain_ml")
    ml, brain_ml = (float(edits[c].iloc[0]) if len(edits) else float("nan") for c in columns)
    values = dict(zip(mine.region, mine.value, strict=True))
    return Case(method, COLOURS.get(method, "#666666"), values, ml, brain_ml, picture, missing)


def _summary(dice: pd.DataFrame, methods: list[str]) -> list[dict[str, Any]]:
    """Median and quartiles for every method and group."""
    rows = []
    for method in methods:
        row: dict[str, Any] = {"method": method}
        for group in GROUPS:
            values = dice[(dice.method == method) & (dice.region == group) & (dice.level != "label")].value.dropna()
            row[group] = None if values.empty else np.percentile(values, (50, 25, 75)).tolist()
        rows.append(row)
    return rows


def _figure_alt(tables: Tables, methods: list[str]) -> str:
    medians = []
    for method in methods:
        chosen = (tables.dice.method == method) & (tables.dice.region == WHOLE_BRAIN)
        values = tables.dice[chosen].value.dropna()
        medians.append(f"{method} {_number(float(values.median()) if len(values) else float('nan'))}")
    return f"Box plot of Dice per region and method; whole-brain medians: {', '.join(medians)}"


def _settings(paths: GroupPaths) -> dict[str, Any]:
    try:
        content = json.loads(paths.description.read_text(encoding="utf-8"))
        settings = dict(content["Efface"])
        settings["Raw"] = unquote(urlparse(content["DatasetLinks"]["raw"]).path)
    except (OSError, ValueError, KeyError) as error:
        msg = f"{paths.description} is not efface's: run `efface study BIDS {paths.out_dir} participant` again"
        raise InputError(msg) from error
    return settings


def _number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
