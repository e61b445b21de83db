"""Experiment 3.3: two sessions of a person compared as the original and a defaced scan are.

The first session is registered to the second and the other way round, segmented again, and compared with the
segmentation of the session it was registered to, on that session's own grid: no label is ever resampled. So
``rescan-1-2`` is measured on the second session's grid, ``rescan-2-1`` and the methods on the first's. The control
group ``resampled`` is the first session sampled through a small transform and back.

References
----------
Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022), section 3.3.
"""

import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.derivatives import ORIGINAL, RescanPaths
from efface.bids.query import T1wScan
from efface.errors import EffaceError, OutputError, one_line
from efface.io.atomic import make_folder, remove_leftovers, write_atomically
from efface.io.scan import Scan, load_scan
from efface.metrics import measure
from efface.study.executor import Outcome
from efface.study.provenance import KEY, STATE, is_current, is_finished, read_recipe, state_of, versions, write_recipe
from efface.study.records import FAILED, Row, rows_to_tsv
from efface.study.scan_job import Unit
from efface.study.session_registration import CONTROL_DEG, CONTROL_MM, FINEST_MM, INTERPOLATION, align, resample_and_back
from efface.study.settings import TRANSFORMS, Settings
from efface.study.watchdog import stopped

__all__ = [
    "RESAMPLE",
    "RESAMPLED",
    "RESCAN_12",
    "RESCAN_21",
    "RESCAN_GROUPS",
    "TRANSFORMS",
    "Pair",
    "RescanTask",
    "pairs_of",
]

log = logging.getLogger(__name__)

RESCAN_12, RESCAN_21, RESAMPLED = "rescan-1-2", "rescan-2-1", "resampled"
RESCAN_GROUPS = (RESCAN_12, RESCAN_21, RESAMPLED)
"""Groups beside the methods, in the order of the paper's Figure 4; the last is the control."""
RESAMPLE = "resample"
"""The implementation of the control group."""


@dataclass(frozen=True)
class Pair:
    """Two sessions of a subject, in the order of their labels."""

    first: T1wScan
    second: T1wScan


def pairs_of(sources: Sequence[T1wScan]) -> list[Pair]:
    """The first two sessions of every subject that has them.

    Of several scans of a session those are taken whose names are the same in both sessions, else the first of each.
    """
    pairs = []
    for _, scans in itertools.groupby(sorted(sources, key=lambda s: s.subject), key=lambda s: s.subject):
        sessions: dict[str, dict[str, T1wScan]] = {}
        for scan in scans:
            if scan.session:
                name = scan.stem.replace(f"_ses-{scan.session}", "", 1)
                sessions.setdefault(scan.session, {}).setdefault(name, scan)
        if len(sessions) < 2:
            continue
        first, second = (sessions[label] for label in sorted(sessions)[:2])
        shared = [name for name in first if name in second]
        if shared:
            pairs.append(Pair(first[shared[0]], second[shared[0]]))
        else:
            pairs.append(Pair(next(iter(first.values())), next(iter(second.values()))))
    return pairs


@dataclass(frozen=True)
class RescanTask:
    """One subject's rescan, as `efface.study.executor` runs it; after the units of both sessions."""

    pair: Pair
    settings: Settings

    @property
    def name(self) -> str:
        """The subject, and what was done."""
        return f"sub-{self.pair.first.subject} rescan ({self.settings.rescan})"

    def run(self) -> Outcome:
        """Do what is missing.

        Raises
        ------
        OutputError
            If results cannot be written. Everything else that goes wrong becomes a row with a reason.
        """
        return _Rescan(self).run()

    def up_to_date(self) -> bool:
        """Whether there is nothing to do; without opening a scan."""
        return _Rescan(self).up_to_date()

    def stopped(self) -> int:
        """How many steps were stopped for taking too long."""
        return len(_Rescan(self).stopped())

    def lost(self, reason: str) -> Outcome:
        """Leave one row for each group."""
        work = _Rescan(self)
        for group in RESCAN_GROUPS:
            work.fail(group, "rescan", reason)
        return work.finish(None)


@dataclass
class _Rescan:
    task: RescanTask
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = self.task.settings
        self.first, self.second = (Unit(s, self.settings) for s in (self.task.pair.first, self.task.pair.second))
        self.paths = RescanPaths(self.settings.out_dir, self.first.source.subject, self.settings.rescan)

    def run(self) -> Outcome:
        make_folder(self.paths.folder)
        remove_leftovers(self.paths.folder)
        for unit in (self.first, self.second):
            remove_leftovers(unit.paths.folder / "anat")
        self.states = self.input_states()
        try:
            scans = [load_scan(unit.source.path) for unit in (self.first, self.second)]
        except EffaceError as error:
            for group in RESCAN_GROUPS:
                self.fail(group, "load", str(error))
            return self.finish(None)
        recipe = {**self.settings_recipe(), "input_sha256": [scan.sha256 for scan in scans]}
        if is_current(self.paths.results, recipe) and all(map(is_finished, self.images())):
            write_recipe(self.paths.results, recipe, **{STATE: self.states})  # the same scans in new files
            return Outcome(self.task.name, (), 0)
        first, second = (HeadAnatomy(scan) for scan in scans)
        self.group(RESCAN_12, self.first, self.second, first, second)
        self.group(RESCAN_21, self.second, self.first, second, first)
        self.group(RESAMPLED, self.first, self.first, first, first)
        return self.finish(recipe)

    def group(
        self, name: str, moving: Unit, fixed: Unit, moving_anatomy: HeadAnatomy, fixed_anatomy: HeadAnatomy
    ) -> None:
        """Sample a scan on the fixed scan's grid, segment it, and compare with the fixed scan's own segmentation."""
        step = "resample" if name == RESAMPLED else "register"
        try:
            anatomy = HeadAnatomy(self.sampled(name, moving, fixed, moving_anatomy.scan, fixed_anatomy))
        except OutputError:
            raise
        except EffaceError as error:
            self.fail(name, step, str(error))
            return
        for segmenter in self.settings.segmenters:
            try:
                original = fixed.segmentation(fixed_anatomy, ORIGINAL, segmenter)
                labels = moving.segmentation(anatomy, self.description(name), segmenter)
            except OutputError:
                raise
            except EffaceError as error:
                self.fail(name, "segment", str(error), segmenter)
                continue
            for found in measure(original, labels, anatomy.scan.spacing_mm, self.settings.measures):
                place = (found.measure, found.level, found.region)
                self.rows.append(Row(*self.names(name, segmenter), *place, found.value))

    def sampled(self, name: str, moving: Unit, fixed: Unit, scan: Scan, fixed_anatomy: HeadAnatomy) -> Scan:
        """The moving scan on the fixed grid: from an earlier run where its recipe is the same, else made now."""
        path = moving.paths.resampled(self.description(name))
        target = fixed_anatomy.scan
        recipe: dict[str, Any] = {
            "input_sha256": scan.sha256,
            "versions": dict(versions()),
            "interpolation": INTERPOLATION,
        }
        if name == RESAMPLED:
            recipe.update(turn_deg=CONTROL_DEG, shift_mm=CONTROL_MM)
        else:
            recipe.update(fixed_sha256=target.sha256, transform=self.settings.rescan, finest_mm=FINEST_MM)
        if not is_current(path, recipe):
            with moving.step(f"sample {name}"):
                if name == RESAMPLED:
                    made = resample_and_back(scan)
                else:
                    made = align(target, scan, fixed.brain(fixed_anatomy), self.settings.rescan)
                write_recipe(path, {}, Status="unfinished")
                target.save_like(made.values, path, force=True)
                write_recipe(
                    path, recipe, Sources=[str(moving.source.path), str(fixed.source.path)], SkullStripped=False,
                    Registration=made.record,
                )  # fmt: skip
        return load_scan(path)

    def images(self) -> Iterator[Any]:
        """Everything that an up-to-date comparison has on disk."""
        groups = ((RESCAN_12, self.first), (RESCAN_21, self.second), (RESAMPLED, self.first))
        for name, unit in groups:
            yield unit.paths.resampled(self.description(name))
        for segmenter in self.settings.segmenters:
            for unit in (self.first, self.second):
                yield unit.paths.segmentation(ORIGINAL, segmenter)
            for name, unit in groups:
                yield unit.paths.segmentation(self.description(name), segmenter)

    def description(self, name: str) -> str:
        return RESAMPLED if name == RESAMPLED else f"rescan{self.settings.rescan}"

    def input_states(self) -> list[list[int]]:
        """What tells that the inputs are the same files."""
        return [state_of(unit.source) for unit in (self.first, self.second)]

    def stopped(self) -> list[Path]:
        """Traces of steps that were stopped."""
        return [path for unit in (self.first, self.second) for path in stopped(unit.paths.folder, unit.source.stem)]

    def up_to_date(self) -> bool:
        """Whether everything is there, made of these very files by these very settings; they are not opened."""
        stored = read_recipe(self.paths.results)
        if stored is None or stored.get(STATE) != self.input_states():
            return False
        recipe = {name: value for name, value in (stored.get(KEY) or {}).items() if name != "input_sha256"}
        same = recipe == self.settings_recipe() and self.paths.results.is_file()
        return same and all(map(is_finished, self.images()))

    def settings_recipe(self) -> dict[str, Any]:
        """What decides all of the rows besides the scans, as JSON has it."""
        what = {
            "rescan": self.settings.rescan,
            "segmenters": {s: dict(self.settings.segmenter_params.get(s, {})) for s in self.settings.segmenters},
            "measures": list(self.settings.measures),
            "interpolation": INTERPOLATION,
            "finest_mm": FINEST_MM,
            "control": [CONTROL_DEG, CONTROL_MM],
            "versions": dict(versions()),
        }
        return dict(json.loads(json.dumps(what)))

    def names(self, name: str, segmenter: str) -> tuple[str, str, str, str, str, str]:
        source = self.second.source if name == RESCAN_21 else self.first.source
        implementation = RESAMPLE if name == RESAMPLED else self.settings.rescan
        return (source.subject, source.session or "", source.stem, name, implementation, segmenter)

    def fail(self, name: str, step: str, reason: str, segmenter: str = "") -> None:
        log.warning("%s", one_line(f"{self.task.name}: {step} of {name} failed: {reason}"))
        names = self.names(name, segmenter or self.settings.segmenter)
        self.rows.append(Row(*names, step, "", "", float("nan"), FAILED, reason))

    def finish(self, recipe: dict[str, Any] | None) -> Outcome:
        """Write the rows, and the recipe only where nothing failed: what failed is tried again."""
        make_folder(self.paths.folder)
        failures = tuple(row for row in self.rows if row.status == FAILED)
        write_recipe(self.paths.results, {}, Status="unfinished")
        write_atomically(self.paths.results, rows_to_tsv(self.rows), force=True)
        if recipe is not None and not failures:
            write_recipe(self.paths.results, recipe, **{STATE: self.states})
        for path in self.stopped():
            path.unlink(missing_ok=True)
        seconds = {f"{unit.source.stem} {k}": v for unit in (self.first, self.second) for k, v in unit.seconds.items()}
        write_atomically(self.paths.timing, json.dumps(seconds, indent=2).encode(), force=True)
        return Outcome(self.task.name, failures, len(seconds))
