"""A page for every scan, beside the report."""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd

from efface.bids.derivatives import UnitPaths
from efface.io.atomic import write_atomically
from efface.metrics.dice import WHOLE_BRAIN
from efface.report.dice_figures import GROUPS
from efface.report.embed import Picture, jpeg_picture
from efface.report.image_loading import DisplayPolicy, method_views, read_sidecar
from efface.study import Tables
from efface.visualization.palette import title_of
from efface.visualization.slices import PLANES, Views, strip

STRIP_PX, PAGE_PX = 150, 260
MAX_THREADS = 4
"""Pages made at a time: reading gzip is most of the work, and each holds one scan in memory."""


@dataclass(frozen=True)
class MethodResult:
    """One scan and method as a page shows it."""

    scan: str
    link: str
    method: str
    dice: dict[str, float]
    edited_head_ml: float
    edited_brain_ml: float
    verdict: str
    verdict_reason: str
    warnings: tuple[str, ...]
    picture: Picture | None
    missing: str


@dataclass(frozen=True)
class ScanEntry:
    """One scan as the report lists it."""

    scan: str
    link: str
    cases: tuple[MethodResult, ...]
    failed: bool

    @property
    def lowest(self) -> float:
        """Lowest whole-brain Dice over the methods; below all others where there is none."""
        values = [case.dice.get(WHOLE_BRAIN, float("nan")) for case in self.cases]
        return min((v for v in values if not math.isnan(v)), default=-1.0)


def units_of(out_dir: Path, tables: Tables) -> list[UnitPaths]:
    """Every scan that a table names, in order."""
    frames = [tables.edits, tables.failures[~tables.failures.method.str.startswith(("rescan-", "resampled"))]]
    everything = pd.concat([f[["subject", "session", "scan"]] for f in frames]).drop_duplicates()
    rows = sorted(everything.itertuples(index=False, name=None))
    return [UnitPaths(out_dir, subject, session or None, scan) for subject, session, scan in rows]


def page_of(unit: UnitPaths) -> Path:
    """Where a scan's page is."""
    return unit.folder / f"{unit.stem}_report.html"


def link_of(unit: UnitPaths) -> str:
    """Address of a scan's page from the report."""
    return quote(str(page_of(unit).relative_to(unit.out_dir).as_posix()))


def write_pages(
    units: Sequence[UnitPaths],
    tables: Tables,
    methods: Sequence[str],
    policy: DisplayPolicy,
    template: jinja2.Template,
    common: Mapping[str, Any],
) -> list[ScanEntry]:
    """Write every scan's page, and give what the report shows of it, in the order of `units`."""
    slices = _Split(tables)

    def one(unit: UnitPaths) -> ScanEntry:
        mine = slices.of(unit.stem)
        cases, rows = [], []
        for method in methods:
            views, missing = method_views(unit, method, policy)
            what = f"{unit.stem}, {title_of(method)}"
            small = _picture(views, "sagittal", STRIP_PX, what) if views else None
            case = _case(mine, unit, method, small, missing)
            cases.append(case)
            planes = PLANES if views else ()
            rows.append((case, [_picture(views, p, PAGE_PX, f"{what}, {p}") for p in planes if views]))
        failures = mine["failures"].to_dict("records")
        home = "../" * len(page_of(unit).relative_to(unit.out_dir).parent.parts) + "report.html"
        page = template.render(
            **common, scan=unit.stem, rows=rows, groups=GROUPS, failures=failures, home=home,
            input_hash=_input_hash(unit, methods),
        )  # fmt: skip
        write_atomically(page_of(unit), page.encode(), force=True)
        return ScanEntry(unit.stem, link_of(unit), tuple(cases), bool(failures))

    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        # A thread starts without the limits on permissions that hold here.
        return list(pool.map(lambda unit, here: here.run(one, unit), units, [copy_context() for _ in units]))


def remove_old_pages(out_dir: Path, units: Sequence[UnitPaths]) -> None:
    """Remove the pages of scans that are no longer in the study: what they show was decided by an older command."""
    written = {page_of(unit) for unit in units}
    for page in out_dir.glob("sub-*/**/*_report.html"):
        if page not in written:
            page.unlink()


class _Split:
    """Rows of each table by scan, split once: picking them anew for every scan takes the square of the time."""

    def __init__(self, tables: Tables) -> None:
        unions = tables.dice[tables.dice.level != "label"]
        frames = {"dice": unions, "edits": tables.edits, "failures": tables.failures, "qc": tables.quality}
        self._empty = {name: frame.iloc[:0] for name, frame in frames.items()}
        self._parts = {name: dict(list(frame.groupby("scan"))) for name, frame in frames.items()}

    def of(self, scan: str) -> dict[str, pd.DataFrame]:
        return {name: parts.get(scan, self._empty[name]) for name, parts in self._parts.items()}


def _case(
    mine: Mapping[str, pd.DataFrame], unit: UnitPaths, method: str, picture: Picture | None, missing: str
) -> MethodResult:
    dice, edits, qc = (mine[name][mine[name].method == method] for name in ("dice", "edits", "qc"))
    columns = ("edited_head_ml", "edited_brain_ml")
    ml, brain_ml = (float(edits[c].iloc[0]) if len(edits) else float("nan") for c in columns)
    verdict, reason = (str(qc[c].iloc[0]) if len(qc) else "" for c in ("verdict", "reason"))
    warnings = read_sidecar(unit.defaced(method)).get("Warnings") or []
    values = {str(r): float(v) for r, v in zip(dice.region, dice.value, strict=True)}
    return MethodResult(
        unit.stem, link_of(unit), method, values, ml, brain_ml, verdict, reason,
        tuple(str(w) for w in warnings), picture, missing,
    )  # fmt: skip


def _picture(views: Views, plane: str, height_px: int, what: str) -> Picture:
    shown = (
        "edit in orange over the defaced scan, and defaced"
        if views.before is None
        else "before, edit in orange, and after"
    )
    return jpeg_picture(strip(views, plane, height_px), f"{what}: {shown}")


def _input_hash(unit: UnitPaths, methods: Sequence[str]) -> str:
    for method in methods:
        recipe = read_sidecar(unit.defaced(method)).get("Recipe") or {}
        if "input_sha256" in recipe:
            return str(recipe["input_sha256"])
    return ""
