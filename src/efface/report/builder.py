"""Build the report: one HTML file for a study and one for each scan, without external resources."""

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from efface._version import __version__
from efface.bids.derivatives import GroupPaths, UnitPaths
from efface.defacing import METHODS
from efface.io.atomic import as_private_as, write_atomically
from efface.metrics.dice import WHOLE_BRAIN
from efface.report import head_figures, narrative, scan_selection, summary
from efface.report.chart import chart_data
from efface.report.dice_figures import figure_bytes, plot_effects, plot_rescans, rescan_groups
from efface.report.embed import Picture, png_picture
from efface.report.frontier_figure import plot_frontier
from efface.report.headline import headline
from efface.report.image_loading import DisplayPolicy
from efface.report.inputs import faces_left, read_tables
from efface.report.methods_section import Record, bibliography, paragraph, read_record, segmenter_works
from efface.report.pages import MethodResult, ScanEntry, link_of, remove_old_pages, units_of, write_pages
from efface.report.privacy_section import privacy_section, sentences
from efface.report.reproduction import commands
from efface.study import Tables
from efface.visualization.palette import colour_of, title_of
from efface.wording import counted, listed

GALLERY = 12
"""How many of the worst cases the report itself shows; every case is on its scan's page."""

BIDS_DIR, OUT_DIR = "BIDS_DIR", "OUT_DIR"
"""Stand for the folders in the commands: a report tells no path."""


def build_report(out_dir: Path, *, include_originals: bool = False) -> Path:
    """Write the figures, report.html, and a page beside it for every scan, from the files of a study.

    Parameters
    ----------
    out_dir
        Output of a study whose group tables are there.
    include_originals
        Show undefaced scans too. Reports are mailed around, so by default none is in it: Figure 1 shows the average
        head instead of the scan before, Figure 3 the brain alone, and a defaced scan in which the quality check found
        the face left is not drawn.

    Returns
    -------
    Path
        Of report.html.

    Raises
    ------
    InputError
        If a table is missing or cannot be read.
    OutputError
        If the report cannot be written.
    """
    results = GroupPaths(out_dir).unit_results()
    with as_private_as(results, owner_only=include_originals):
        return _build(GroupPaths(out_dir), include_originals=include_originals)


def _build(paths: GroupPaths, *, include_originals: bool) -> Path:
    out_dir = paths.out_dir
    tables = read_tables(out_dir)
    units = units_of(out_dir, tables)
    record = read_record(paths, units)
    methods = [m for m in METHODS if m in record.methods]
    policy = DisplayPolicy(include_originals, faces_left(tables))
    environment = _environment()
    common = {"version": __version__, "record": record, "originals": include_originals, **_script()}
    entries = write_pages(units, tables, methods, policy, environment.get_template("scan.html.j2"), common)
    remove_old_pages(out_dir, units)
    paths.figures.mkdir(exist_ok=True)
    page = environment.get_template("report.html.j2").render(
        **common,
        **_content(paths, tables, units, methods, record),
        figures=_figures(paths, tables, units, methods, record.segmenter, policy),
        entries=sorted(entries, key=lambda e: (not e.failed, e.lowest, e.scan)),
        gallery=_gallery(entries),
    )
    write_atomically(paths.report, page.encode(), force=True)
    return paths.report


def _script() -> dict[str, str]:
    """The script of the interactive figure, and its hash for the content security policy."""
    script = importlib.resources.files(__package__).joinpath("templates/explore.js").read_text(encoding="utf-8")
    return {"script": script, "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}


def _content(
    paths: GroupPaths, tables: Tables, units: Sequence[UnitPaths], methods: list[str], record: Record
) -> dict[str, Any]:
    """What the template shows besides pictures and pages: words and numbers from the tables and the record."""
    rows = summary.table_one(tables, methods)
    return {
        "methods": methods,
        "specs": [METHODS[m] for m in methods],
        "groups": summary.ROWS,
        "failures": tables.failures.to_dict("records"),
        "left_out": summary.left_out(tables.left_out),
        "headline": headline(tables, methods),
        "sentences": narrative.method_sentences(tables, methods),
        "table_one": rows,
        "sources": summary.sources_of(rows),
        "medians": summary.medians(tables.dice, methods),
        "against_rescan": summary.against_rescan(tables.statistics, methods),
        "halfway": summary.against_rescan(tables.statistics, methods, halfway=True),
        "pairs": summary.pairs(tables.statistics),
        "own_grids": summary.own_grids(tables, methods),
        "passed": _passed(tables, methods),
        "privacy": privacy_section(tables.privacy, methods),
        "chart": chart_data(tables, methods, {u.stem: link_of(u) for u in units}),
        "tables": [n for n in _TABLES if (paths.out_dir / n).is_file()],
        "works": segmenter_works(record),
        "paragraph": paragraph(record, tables),
        "bibliography": bibliography(record, tables),
        "command": commands(record.settings, BIDS_DIR, Path(OUT_DIR)),
        "rules": {"typical": scan_selection.TYPICAL_RULE, "worst": scan_selection.WORST_RULE},
        "has_quality": len(tables.quality) > 0,
    }


def _passed(tables: Tables, methods: Sequence[str]) -> dict[str, Any] | None:
    """What the report shows of the scans that passed the quality check with every method; None where there are none."""
    passed = tables.passed()
    if passed.dice.empty:
        return None
    shown = [m for m in methods if (passed.dice.method == m).any()]
    return {
        "scans": passed.dice.scan.nunique(),
        "methods": shown,
        "sentences": narrative.method_sentences(passed, shown),
        "medians": summary.medians(passed.dice, shown),
        "against_rescan": summary.against_rescan(passed.statistics, shown),
        "halfway": summary.against_rescan(passed.statistics, shown, halfway=True),
        "pairs": summary.pairs(passed.statistics),
        "own_grids": summary.own_grids(passed, shown),
    }


_TABLES = (
    "dice.tsv", "edits.tsv", "failures.tsv", "volumes.tsv", "distances.tsv", "rescan.tsv", "statistics.tsv",
    "statistics_passed.tsv", "qc.tsv", "table1.tsv", "rescan_pairs.tsv", "left_out.tsv",
    "privacy.tsv", "privacy_summary.tsv", "privacy_ranks.tsv",
)  # fmt: skip


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("efface.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(number=_number, signed=_signed, pvalue=_pvalue, counted=counted, title_of=title_of)
    environment.filters["colour_of"] = colour_of
    return environment


def _figures(
    paths: GroupPaths,
    tables: Tables,
    units: Sequence[UnitPaths],
    methods: list[str],
    segmenter: str,
    policy: DisplayPolicy,
) -> dict[str, Picture]:
    """Draw every figure that the study has the numbers for, and write it as SVG and PNG."""
    by_scan = {unit.stem: unit for unit in units}
    drawn: dict[str, tuple[Figure, str]] = {}
    typical = scan_selection.typical_scan(tables.dice, methods)
    if typical in by_scan:
        panels = head_figures.method_panels(by_scan[typical], methods, policy)
        before = "before" if policy.originals else "average head"
        alt = f"{typical}: sagittal slice and 3-D face {'before and ' if policy.originals else ''}after each method"
        drawn["figure1_methods"] = (head_figures.plot_methods(panels, before=before, scan=typical), alt)
    drawn["figure2_dice"] = (plot_effects(tables.dice, methods), _effects_alt(tables, methods))
    worst = scan_selection.worst_scans(tables.dice, methods)
    cases = [
        head_figures.worst_case(by_scan[scan], method, segmenter, dice, policy)
        for method, (scan, dice) in worst.items()
        if scan in by_scan
    ]
    if cases:
        said = listed([f"{title_of(c.method)} {c.dice:.4f} ({c.scan})" for c in cases])
        drawn["figure3_worst"] = (head_figures.plot_worst(cases), f"Worst case of each method, whole-brain Dice: {said}")
    if tables.rescan.method.str.startswith("rescan-").any():
        drawn["figure4_rescan"] = (plot_rescans(tables.rescan, methods), _rescan_alt(tables, methods))
    if len(tables.privacy):
        alt = f"Re-identification against utility: {' '.join(sentences(tables.privacy))}"
        drawn["figure5_frontier"] = (plot_frontier(tables.privacy, tables.dice, tables.edits, methods), alt)
    pictures: dict[str, Picture] = {}
    for name in ("figure1_methods", "figure2_dice", "figure3_worst", "figure4_rescan", "figure5_frontier"):
        for kind in ("svg", "png"):
            path = paths.figures / f"{name}.{kind}"
            if name not in drawn:
                path.unlink(missing_ok=True)
                continue
            data = figure_bytes(drawn[name][0], kind)
            write_atomically(path, data, force=True)
            if kind == "png":
                pictures[name] = png_picture(data, drawn[name][1])
    return pictures


def _gallery(entries: Sequence[ScanEntry]) -> list[MethodResult]:
    """The cases with the lowest whole-brain Dice, and those without one first."""
    cases = [case for entry in entries for case in entry.cases if case.picture]

    def dice(case: MethodResult) -> float:
        value = case.dice.get(WHOLE_BRAIN, float("nan"))
        return -1.0 if np.isnan(value) else value

    return sorted(cases, key=lambda c: (dice(c), c.scan, c.method))[:GALLERY]


def _effects_alt(tables: Tables, methods: Sequence[str]) -> str:
    medians = []
    for method in methods:
        chosen = (tables.dice.method == method) & (tables.dice.region == WHOLE_BRAIN)
        medians.append(f"{title_of(method)} {_number(float(tables.dice[chosen].value.median()))}")
    return f"Box plot of Dice per region and method; whole-brain medians: {', '.join(medians)}"


def _rescan_alt(tables: Tables, methods: Sequence[str]) -> str:
    whole = tables.rescan[(tables.rescan.region == WHOLE_BRAIN) & (tables.rescan.measure == "dice")]
    said = ", ".join(
        f"{title} {_number(float(whole[(whole.method == m) & (whole.implementation == i)].value.median()))}"
        for m, i, title in rescan_groups(whole, methods)
    )
    return f"Dice of each subject after each method and after scanning again; whole-brain medians: {said}"


def _number(value: float | None, digits: int = 4) -> str:
    return "n/a" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def _signed(value: float, digits: int = 4) -> str:
    return "n/a" if np.isnan(value) else f"{value:+.{digits}f}".replace("-", "−")


def _pvalue(value: Any) -> str:
    if np.isnan(value):
        return "n/a"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
