"""The unit of work: one scan, defaced by every method, segmented before and after, compared."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.derivatives import ORIGINAL, UnitPaths, recipe_of
from efface.bids.query import T1wScan
from efface.defacing import apply_edit, plan
from efface.errors import AnatomyError, EffaceError, OutputError, one_line
from efface.io.atomic import make_folder, remove_leftovers, write_atomically
from efface.io.deidentify import Sidecar, without_names
from efface.io.scan import Scan, load_labels, load_mask, load_scan
from efface.metrics import measure
from efface.quality import judge
from efface.segmentation import segment
from efface.spatial.types import BoolVolume, LabelVolume
from efface.study.executor import Outcome
from efface.study.provenance import KEY, STATE, is_current, is_finished, read_recipe, state_of, versions, write_recipe
from efface.study.quality_tables import is_judged, quality_settings, write_verdict
from efface.study.records import FAILED, Row, rows_to_tsv
from efface.study.settings import Settings
from efface.study.watchdog import stopped, time_limit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnitTask:
    """One scan of a study, as `efface.study.executor` runs it."""

    source: T1wScan
    settings: Settings

    @property
    def name(self) -> str:
        """The scan's BIDS name."""
        return self.source.stem

    def run(self) -> Outcome:
        """Do what is missing for the scan."""
        return run_unit(self.source, self.settings)

    def up_to_date(self) -> bool:
        """Whether there is nothing to do; without opening the scan."""
        return Unit(self.source, self.settings).up_to_date()

    def stopped(self) -> int:
        """How many steps were stopped for taking too long."""
        return len(stopped(Unit(self.source, self.settings).paths.folder, self.source.stem))

    def lost(self, reason: str) -> Outcome:
        """Leave one row: the whole scan failed."""
        row = failed_row(self.source, self.settings, "unit", reason)
        paths = UnitPaths(self.settings.out_dir, self.source.subject, self.source.session, self.source.stem)
        make_folder(paths.folder)
        write_recipe(paths.results, {}, Status="unfinished")
        write_atomically(paths.results, rows_to_tsv([row]), force=True)
        return Outcome(self.name, (row,), 0)


def run_unit(source: T1wScan, settings: Settings) -> Outcome:
    """Do what is missing for one scan, and write its rows.

    Raises
    ------
    OutputError
        If results cannot be written. Everything else that goes wrong becomes a row with a reason.
    """
    return Unit(source, settings).run()


def failed_row(
    source: T1wScan, settings: Settings, step: str, reason: str, method: str = ORIGINAL, segmenter: str = ""
) -> Row:
    """A row that says what failed and why."""
    return Row(
        source.subject, source.session or "", source.stem, method, settings.implementation(method),
        segmenter or settings.segmenter, step, "", "", float("nan"), FAILED, reason,
    )  # fmt: skip


@dataclass
class Unit:
    """One scan on its way: its rows so far, and the seconds its steps took."""

    source: T1wScan
    settings: Settings
    rows: list[Row] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def paths(self) -> UnitPaths:
        """Where its outputs are."""
        return UnitPaths(self.settings.out_dir, self.source.subject, self.source.session, self.source.stem)

    def run(self) -> Outcome:
        """Do what is missing, and write the rows."""
        for folder in (self.paths.folder, self.paths.folder / "anat"):
            make_folder(folder)
            remove_leftovers(folder)
        state = state_of(self.source)
        try:
            with self.step("load"):
                scan = load_scan(self.source.path)
        except EffaceError as error:
            self.fail("load", str(error))
        else:
            recipe = self.whole_recipe(scan)
            if is_current(self.paths.results, recipe) and self.is_complete():
                write_recipe(self.paths.results, recipe, **{STATE: [state]})  # the same scan in a new file
                return Outcome(self.source.stem, (), 0)
            write_recipe(self.paths.results, {}, Status="unfinished")  # from here on it vouches for nothing
            self.all_methods(scan)
        failures = tuple(row for row in self.rows if row.status == FAILED)
        write_recipe(self.paths.results, {}, Status="unfinished")
        write_atomically(self.paths.results, rows_to_tsv(self.rows), force=True)
        if not failures:  # what failed is tried again
            write_recipe(self.paths.results, recipe, **{STATE: [state]})
        write_atomically(self.paths.timing, json.dumps(self.seconds, indent=2).encode(), force=True)
        for path in stopped(self.paths.folder, self.source.stem):
            path.unlink(missing_ok=True)
        return Outcome(self.source.stem, failures, sum(1 for step in self.seconds if step != "load"))

    def up_to_date(self) -> bool:
        """Whether everything is there, made of this very file by these very settings; the file is not opened."""
        stored = read_recipe(self.paths.results)
        if stored is None or stored.get(STATE) != [state_of(self.source)]:
            return False
        recipe = {name: value for name, value in (stored.get(KEY) or {}).items() if name != "input_sha256"}
        if recipe != self.settings_recipe():
            return False
        made, others = self.files()  # the recipe was written after all of them
        return all(map(os.path.isfile, (*made, *others, self.paths.results, *map(recipe_of, made))))

    def is_complete(self) -> bool:
        """Whether all files are there, and none was being written when an earlier run ended."""
        made, others = self.files()
        return all(path.is_file() for path in others) and all(map(is_finished, made))

    def files(self) -> tuple[list[Path], list[Path]]:
        """What there is of a finished unit: images with a recipe, and the rest."""
        others = [self.paths.brain(), *map(self.paths.mask, self.settings.methods)]
        others += map(self.paths.quality, self.settings.methods)
        scans = (ORIGINAL, *self.settings.methods)
        made = [self.paths.segmentation(m, segmenter) for m in scans for segmenter in self.settings.segmenters]
        return [*made, *map(self.paths.defaced, self.settings.methods)], others

    def whole_recipe(self, scan: Scan) -> dict[str, Any]:
        """What decides all of this unit's rows."""
        return {**self.settings_recipe(), "input_sha256": scan.sha256}

    def settings_recipe(self) -> dict[str, Any]:
        """What decides them besides the scan, as JSON has it."""
        what = {
            "methods": list(self.settings.methods),
            "segmenters": {s: dict(self.settings.segmenter_params.get(s, {})) for s in self.settings.segmenters},
            "protect_brain": self.settings.protect_brain,
            "originals": list(self.settings.originals),
            "measures": list(self.settings.measures),
            "header": self.settings.header,
            "params": {name: dict(values) for name, values in self.settings.method_params.items()},
            "versions": dict(versions()),
        }
        return dict(json.loads(json.dumps(what)))

    def all_methods(self, scan: Scan) -> None:
        """Segment the scan, then deface and segment it by every method."""
        anatomy = HeadAnatomy(scan)
        original = {s: self.attempted(anatomy, ORIGINAL, s) for s in self.settings.segmenters}
        for method in self.settings.methods:
            try:
                defaced = self.defaced(anatomy, method)
            except OutputError:
                raise
            except EffaceError as error:
                self.fail("deface", str(error), method)
                continue
            self.quality(anatomy, defaced, method)
            changed = HeadAnatomy(defaced)
            for segmenter, before in original.items():
                after = None if before is None else self.attempted(changed, method, segmenter)
                if before is not None and after is not None:
                    self.compare(scan, before, after, method, segmenter)

    def attempted(self, anatomy: HeadAnatomy, method: str, segmenter: str) -> LabelVolume | None:
        """The labels, or None and a failed row."""
        try:
            return self.segmentation(anatomy, method, segmenter)
        except OutputError:
            raise
        except EffaceError as error:
            self.fail("segment", str(error), method, segmenter)
            return None

    def defaced(self, anatomy: HeadAnatomy, method: str) -> Scan:
        """The defaced scan: from an earlier run where its recipe is the same, else made now."""
        path, mask_path = self.paths.defaced(method), self.paths.mask(method)
        recipe = self.recipe(anatomy.scan, method=method, protect_brain=self.settings.protect_brain)
        recipe["params"] = dict(self.settings.method_params.get(method, {}))
        recipe["implementation"] = self.settings.implementation(method)
        recipe["header"] = self.settings.header
        # The picture is written last, so that its recipe vouches for the mask too.
        if is_current(path, recipe) and mask_path.is_file():
            scan, mask = load_scan(path), load_mask(mask_path, anatomy.scan)
        else:
            with self.step(f"deface {method}"):
                edit = plan(
                    anatomy,
                    method,
                    recipe["params"],
                    implementation=recipe["implementation"],
                    protect_brain=self.settings.protect_brain,
                )
                (scan, removed), mask = without_names(apply_edit(anatomy.scan, edit), self.settings.header), edit.mask
                carried, odd = Sidecar.of(self.source.path, path, self.settings.header)
                anatomy.scan.save_like(mask, mask_path, force=True)
                write_recipe(path, {}, Status="unfinished")
                scan.save(path, force=True)
                own = {
                    "Sources": [str(self.source.path)],
                    "SkullStripped": False,
                    "Implementation": edit.implementation,
                    "Parameters": dict(edit.params),
                    "Warnings": [*anatomy.warnings, *edit.warnings, *odd],
                    "RemovedFromHeader": list(removed),
                    "RemovedFromSidecar": list(carried.removed) if carried else [],
                }
                write_recipe(path, recipe, **{**(carried.content if carried else {}), **own})
        self.edited(anatomy, mask, method)
        return scan

    def quality(self, anatomy: HeadAnatomy, defaced: Scan, method: str) -> None:
        """The verdict on the defaced scan: from an earlier run where its recipe is the same, else made now."""
        path, source = self.paths.quality(method), self.source
        recipe = self.recipe(anatomy.scan, defaced_sha256=defaced.sha256, check=quality_settings())
        unit = {"subject": source.subject, "session": source.session or "", "scan": source.stem, "method": method}
        unit["implementation"] = self.settings.implementation(method)
        if is_judged(path, recipe):
            return
        try:
            with self.step(f"qc {method}"):
                write_verdict(path, judge(anatomy, defaced), unit, recipe)
        except OutputError:
            raise
        except EffaceError as error:
            self.fail("qc", str(error), method)

    def segmentation(self, anatomy: HeadAnatomy, method: str, segmenter: str) -> LabelVolume:
        """The labels on the scan's RAS+ grid: from an earlier run where the recipe is the same, else made now."""
        path = self.paths.segmentation(method, segmenter)
        params = self.settings.segmenter_params.get(segmenter, {})
        recipe = self.recipe(anatomy.scan, segmenter=segmenter, params=dict(params))
        if is_current(path, recipe):
            if method == ORIGINAL and not self.paths.brain().is_file():
                anatomy.scan.save_like(anatomy.brain, self.paths.brain())
            stored, _ = load_labels(path)
            return np.asarray(anatomy.scan.stored_to_ras(stored), dtype=np.int32)
        with self.step(f"segment {method} {segmenter}"):
            labels = segment(anatomy, segmenter, params)
            write_recipe(path, {}, Status="unfinished")
            if method == ORIGINAL:
                anatomy.scan.save_like(anatomy.brain, self.paths.brain(), force=True)
            # The labels are written last, so that their recipe vouches for the brain mask too.
            anatomy.scan.save_like(labels.values, path, force=True)
            write_recipe(path, recipe, Parameters=dict(labels.provenance.params), Warnings=list(labels.warnings))
        return labels.values

    def compare(self, scan: Scan, original: LabelVolume, defaced: LabelVolume, method: str, segmenter: str) -> None:
        """Add the rows of all measures."""
        for found in measure(original, defaced, scan.spacing_mm, self.settings.measures):
            self.add(method, found.measure, found.level, found.region, found.value, segmenter)

    def edited(self, anatomy: HeadAnatomy, mask: BoolVolume, method: str) -> None:
        """How much the edit changed, and how much of that lies in the original's head and brain mask."""
        voxel_ml = float(np.prod(anatomy.scan.spacing_mm)) / 1000
        try:
            inside = float((mask & self.brain(anatomy)).sum())
        except AnatomyError:  # no brain: already a row: the original could not be segmented either
            inside = float("nan")
        head = float((mask & anatomy.head).sum())
        self.add(method, "edited_ml", "", "", float(mask.sum()) * voxel_ml)
        self.add(method, "edited_head_ml", "", "", head * voxel_ml)
        self.add(method, "edited_brain_ml", "", "", inside * voxel_ml)

    def brain(self, anatomy: HeadAnatomy) -> BoolVolume:
        """The original's brain mask: from disk where it is there."""
        path = self.paths.brain()
        if not anatomy.knows_brain and path.is_file():
            return load_mask(path, anatomy.scan)
        return anatomy.brain

    def recipe(self, scan: Scan, **what: Any) -> dict[str, Any]:
        """What decides a result made from this scan."""
        return {**what, "input_sha256": scan.sha256, "versions": dict(versions())}

    def add(self, method: str, name: str, level: str, region: str, value: float, segmenter: str = "") -> None:
        """Add a row."""
        source = self.source
        implementation = self.settings.implementation(method)
        names = (source.subject, source.session or "", source.stem, method, implementation)
        self.rows.append(Row(*names, segmenter or self.settings.segmenter, name, level, region, value))

    def fail(self, step: str, reason: str, method: str = ORIGINAL, segmenter: str = "") -> None:
        """Add a row that says what failed and why."""
        log.warning("%s", one_line(f"{self.source.stem}: {step} of {method} failed: {reason}"))
        self.rows.append(failed_row(self.source, self.settings, step, reason, method, segmenter))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, and stop it where it takes too long."""
        start = time.perf_counter()
        with time_limit(self.settings.step_limit_s, self.paths.stopped(name), name):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 2)
