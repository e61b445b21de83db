"""Jobs: the pieces of work of a study, each of which stands alone and resumes where an earlier run stopped."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from efface.bids.derivatives import RescanPaths, UnitPaths, recipe_of
from efface.bids.query import T1wScan
from efface.bids.shareable import shareable
from efface.errors import EffaceError, OutputError
from efface.io.atomic import as_private_as, make_folder, remove_leftovers, write_atomically
from efface.io.scan import Scan, load_scan
from efface.study import provenance
from efface.study.executor import Outcome
from efface.study.records import JobRows, RowLabels, rows_to_tsv
from efface.study.settings import Settings
from efface.study.steps import StepContext, paths_of
from efface.study.watchdog import remove_empty_notes, stop_notes

INPUT = "input_sha256"
LOAD = "load"


class Outputs(NamedTuple):
    """Files of a finished job besides its table: images with a recipe, and the rest."""

    images: list[Path]
    others: list[Path]


class Job(ABC):
    """One piece of a study's work: some scans in, images and a table of rows out.

    A job is a frozen record of what to do; it can be pickled, and holds no state between runs. The executor calls
    `is_up_to_date`, `run`, `lost` and `count_stopped` (`efface.study.executor.Task`). Subclasses say what is computed.
    """

    settings: Settings
    whole: ClassVar[str]
    """What a failed row calls the whole job, in the place of a step."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name for progress and messages."""

    @property
    @abstractmethod
    def sources(self) -> tuple[T1wScan, ...]:
        """The scans it reads."""

    @property
    @abstractmethod
    def paths(self) -> UnitPaths | RescanPaths:
        """Where its outputs are."""

    @property
    def results(self) -> Path:
        """Table of its rows."""
        return self.paths.results

    @property
    def timing(self) -> Path:
        """Seconds per step, JSON."""
        return self.paths.timing

    @property
    def segmenter_params(self) -> dict[str, dict[str, Any]]:
        """Parameters of every segmenter of the study."""
        given = self.settings.segmenter_params
        return {segmenter: dict(given.get(segmenter, {})) for segmenter in self.settings.segmenters}

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Return what decides its results besides the scans' content, as JSON holds it."""

    @abstractmethod
    def chosen(self) -> dict[str, Any]:
        """Return the part of the recipe that the study's settings decide."""

    @abstractmethod
    def outputs(self) -> Outputs:
        """List the files of the finished job besides its table."""

    @abstractmethod
    def label(self, method: str, segmenter: str) -> RowLabels:
        """Return the first columns of a row; an empty segmenter means the study's main one."""

    @abstractmethod
    def compute(self, scans: Sequence[Scan], contexts: Sequence[StepContext], rows: JobRows) -> None:
        """Do what is missing and add all rows.

        Raises
        ------
        OutputError
            If results cannot be written.
        """

    @abstractmethod
    def fail_all(self, rows: JobRows, step: str, reason: str) -> None:
        """Add the rows of a job that failed as a whole."""

    def run(self) -> Outcome:
        """Do what is missing and write the rows.

        Raises
        ------
        OutputError
            If results cannot be written. Every other expected error becomes a row with a reason.
        """
        with as_private_as(source.path for source in self.sources):
            return self._run()

    def _run(self) -> Outcome:
        contexts = [StepContext.of(source, self.settings) for source in self.sources]
        for folder in (self.results.parent, *(context.paths.folder / "anat" for context in contexts)):
            make_folder(folder)
            remove_leftovers(folder)
        for context in contexts:
            remove_empty_notes(context.paths.folder, context.source.stem)
        rows, states, recipe = JobRows(self.name, self.label, self._cleaned), self.input_states(), None
        try:
            scans = [_load(context) for context in contexts]
        except OutputError:
            raise
        except EffaceError as error:
            self.fail_all(rows, LOAD, str(error))
        else:
            digests = [scan.sha256 for scan in scans]
            recipe = {**self.recipe(), INPUT: digests if len(digests) > 1 else digests[0]}
            if provenance.is_current(self.results, recipe) and self.is_complete():
                provenance.update_state(self.results, states)  # the same scans in new files
                return Outcome(self.name, (), 0)
            provenance.mark_unfinished(self.results)  # until the rows are written, nothing counts as done
            self.compute(scans, contexts, rows)
        return self._finish(rows, recipe, contexts, states)

    def lost(self, reason: str) -> Outcome:
        """Write the rows of a job whose process died, or that raised an unexpected error."""
        make_folder(self.results.parent)
        rows = JobRows(self.name, self.label, self._cleaned)
        self.fail_all(rows, self.whole, reason)
        with as_private_as(source.path for source in self.sources):
            return self._finish(rows, None, [], [])

    def is_up_to_date(self) -> bool:
        """Whether everything is there, made from these very files by these very settings; no scan is opened."""
        stored = provenance.read_recipe(self.results)
        if stored is None or stored.get(provenance.STATE) != self.input_states():
            return False
        recipe = {name: value for name, value in (stored.get(provenance.KEY) or {}).items() if name != INPUT}
        images, others = self.outputs()  # the recipe was written after all of them
        files = (self.results, *images, *others, *map(recipe_of, images))
        return provenance.is_same(recipe, self.recipe()) and all(map(os.path.isfile, files))

    def is_complete(self) -> bool:
        """Whether all files are there, and none was being written when an earlier run ended."""
        images, others = self.outputs()
        return all(path.is_file() for path in others) and all(map(provenance.is_finished, images))

    def count_stopped(self) -> int:
        """Count the steps that were stopped because they took too long; the next run skips them."""
        return len(self._stop_notes())

    def input_states(self) -> list[list[int]]:
        """Sizes and modification times of the scans' files."""
        return [provenance.state_of(source) for source in self.sources]

    def _cleaned(self, reason: str) -> str:
        return str(shareable(reason, bids_dir=self.settings.bids_dir, out_dir=self.settings.out_dir))

    def _finish(
        self, rows: JobRows, recipe: dict[str, Any] | None, contexts: Sequence[StepContext], states: list[list[int]]
    ) -> Outcome:
        """Write rows and timing; the recipe only where nothing failed, so that what failed is tried again."""
        with provenance.writing(self.results, None if rows.failures else recipe) as record:
            write_atomically(self.results, rows_to_tsv(rows.rows), force=True)
            record[provenance.STATE] = states
        if rows.failures:
            provenance.mark_failed(self.results, self.chosen())
        seconds = {(c.source.stem, step): s for c in contexts for step, s in c.timer.seconds.items()}
        shown = {step if len(contexts) == 1 else f"{stem} {step}": s for (stem, step), s in seconds.items()}
        write_atomically(self.timing, json.dumps(shown, indent=2).encode(), force=True)
        for path in self._stop_notes():
            path.unlink(missing_ok=True)
        return Outcome(self.name, rows.failures, sum(1 for _, step in seconds if step != LOAD))

    def _stop_notes(self) -> list[Path]:
        folders = ((paths_of(source, self.settings).folder, source.stem) for source in self.sources)
        return [path for folder, stem in folders for path in stop_notes(folder, stem)]


def _load(context: StepContext) -> Scan:
    with context.timer.step(LOAD):
        return load_scan(context.source.path)
