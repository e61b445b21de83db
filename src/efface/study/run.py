"""A study of a BIDS data set: its scan jobs, its rescan jobs and its tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from efface.bids.dataset_links import note_place
from efface.bids.filters import BidsFilter
from efface.bids.query import T1wScan, find_scans
from efface.errors import InputError
from efface.io.atomic import as_private_as, remove_leftovers
from efface.study import provenance
from efface.study.backends import Backend, backend_of
from efface.study.executor import Executor, Outcome
from efface.study.halfway_job import HalfwayJob
from efface.study.job import Job
from efface.study.output_folder import make_output_folder, make_private_folder, only_run, remove_undefaced
from efface.study.records import Row
from efface.study.rescan_job import RescanJob
from efface.study.scan_job import ScanJob
from efface.study.session_pairs import (
    NoRescan,
    SessionPair,
    check_pairs,
    find_pairs,
    load_pairs,
    warn_of_intervals,
)
from efface.study.settings import HALFWAY, NO_RESCAN, Settings
from efface.study.stored_settings import options_of, write_description
from efface.study.study_record import StudyRecord
from efface.study.tables import Tables, collect


class Progress(Protocol):
    """Progress callback."""

    def start(self, total: int) -> None:
        """Called once, with the number of jobs."""

    def done(self, outcome: Outcome) -> None:
        """Called when a job finishes."""


@dataclass(frozen=True)
class Summary:
    """Result of a run.

    Attributes
    ----------
    scans
        Number of scans.
    computed
        Number of scans for which anything was computed.
    failures
        All failed rows, in the order of the data set; those of rescans last.
    rescans, rescans_computed
        The same for the subjects whose two sessions were compared.
    """

    scans: int
    computed: int
    failures: tuple[Row, ...]
    rescans: int = 0
    rescans_computed: int = 0


class Study:
    """The experiments of Gao et al. (2022), sections 3.1 and 3.3, on a BIDS data set.

    Parameters
    ----------
    settings
        `Settings`, or the folder of the data set.
    out_dir
        Output folder; required with a folder, not allowed with `Settings`.
    validate
        Check that the input has a dataset_description.json and BIDS names.
    bids_filter
        Use only scans whose entities match; None uses all.
    **options
        Other attributes of `Settings`, with a folder: ``methods``, ``segmenter``, ...

    Raises
    ------
    InputError
        If a folder comes without `out_dir`, `Settings` come with further options, or a setting cannot be used.

    Examples
    --------
    >>> study = Study("bids", "out", methods=["quickshear", "pydeface"])  # doctest: +SKIP
    >>> study.run()  # doctest: +SKIP
    >>> study.tables().dice  # doctest: +SKIP

    References
    ----------
    Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022).
    """

    def __init__(
        self,
        settings: Settings | str | Path,
        out_dir: str | Path | None = None,
        *,
        validate: bool = True,
        bids_filter: BidsFilter | None = None,
        **options: Any,
    ) -> None:
        self.settings = _settings(settings, out_dir, options)
        self.validate = validate
        self.bids_filter = bids_filter

    def scans(self, subjects: Sequence[str] = (), sessions: Sequence[str] = ()) -> list[T1wScan]:
        """List the scans of a run.

        Parameters
        ----------
        subjects, sessions
            Labels to keep; empty keeps all.

        Raises
        ------
        InputError
            As `efface.bids.query.find_scans`.
        """
        return find_scans(
            self.settings.bids_dir,
            subjects=subjects,
            sessions=sessions,
            bids_filter=self.bids_filter,
            validate=self.validate,
        )

    def run(
        self,
        *,
        subjects: Sequence[str] = (),
        sessions: Sequence[str] = (),
        jobs: int | None = None,
        cluster: Backend | None = None,
        progress: Progress | None = None,
    ) -> Summary:
        """Do what is missing for every scan, then for every subject with two sessions.

        Parameters
        ----------
        subjects, sessions
            Labels to keep; empty keeps all.
        jobs
            Number of scans at once on this machine; None takes what cores and memory allow.
        cluster
            Other workers (`efface.study.backends`); not together with `jobs`.
        progress
            Called when a job finishes.

        Raises
        ------
        InputError
            If the data set, the table of pairs or a folder of weights cannot be used, `jobs` is not positive, or both
            `jobs` and `cluster` are given.
        DataPackageError
            If a package with the data of a segmenter is not installed.
        OutputError
            If results cannot be written, or another run is writing to the same folder.
        ClusterError
            If there are no workers.
        """
        if jobs is not None and cluster is not None:
            msg = f"jobs and cluster exclude each other; received jobs={jobs} and {cluster}: give one of them"
            raise InputError(msg)
        backend = cluster or backend_of(None, jobs)
        sources = self.scans(subjects, sessions)
        found = self._find_pairs(sources, subjects, sessions)
        for segmenter in self.settings.segmenters:  # missing weights end the run before the first scan
            provenance.segmentation_data(segmenter, self.settings.segmenter_params.get(segmenter, {}))
        make_output_folder(self.settings.bids_dir, self.settings.out_dir)
        with only_run(self.settings.out_dir):
            remove_leftovers(self.settings.out_dir)
            remove_undefaced(self.settings.out_dir)
            if self.settings.keep_rescans:
                make_private_folder(self.settings.out_dir)
            self._prepare_output(subjects, sessions)
            record = StudyRecord(self.settings.bids_dir, self.settings.out_dir)
            with as_private_as(source.path for source in sources):
                record.add_scans(sources, subjects, sessions)
                record.add_pairs(found, subjects, sessions)
            warn_of_intervals(found)
            pairs = [one for one in found if isinstance(one, SessionPair)]
            return self._run(sources, pairs, backend, progress)

    def _find_pairs(
        self, sources: Sequence[T1wScan], subjects: Sequence[str], sessions: Sequence[str]
    ) -> list[SessionPair | NoRescan]:
        """Find the rescans of a run, by the table of pairs where one is given."""
        if self.settings.rescan == NO_RESCAN:
            return []
        chosen = None
        if self.settings.rescan_pairs is not None:
            chosen = load_pairs(self.settings.rescan_pairs)
            complete = self.scans(subjects) if sessions else sources
            check_pairs(chosen, complete, {label.removeprefix("sub-") for label in subjects})
        return find_pairs(sources, chosen)

    def _run(
        self,
        sources: Sequence[T1wScan],
        pairs: Sequence[SessionPair],
        backend: Backend,
        progress: Progress | None,
    ) -> Summary:
        scan_jobs = [ScanJob(source, self.settings) for source in sources]
        kind = HalfwayJob if self.settings.rescan == HALFWAY else RescanJob
        rescan_jobs = [kind(pair, self.settings) for pair in pairs]
        if progress:
            progress.start(len(scan_jobs) + len(rescan_jobs))
        outcomes: dict[str, Outcome] = {}
        stages: tuple[Sequence[Job], ...] = (scan_jobs, rescan_jobs)  # a rescan reads the outputs of its two scan jobs
        with Executor(backend.at_most(len(scan_jobs))) as executor:
            for jobs in stages:
                for outcome in _outcomes(executor, jobs):
                    outcomes[outcome.name] = outcome
                    if progress:
                        progress.done(outcome)
        ordered = [outcomes[job.name] for jobs in stages for job in jobs]
        failures = tuple(row for outcome in ordered for row in outcome.failures)
        computed = [sum(1 for job in jobs if outcomes[job.name].computed) for jobs in stages]
        return Summary(len(scan_jobs), computed[0], failures, len(rescan_jobs), computed[1])

    def tables(self) -> Tables:
        """Collect the results so far into pandas frames and write the group tables.

        Raises
        ------
        InputError
            If there are no results yet.
        """
        return collect(self.settings.out_dir)

    def _prepare_output(self, subjects: Sequence[str] = (), sessions: Sequence[str] = ()) -> None:
        """Make the output folder and store the settings of this run in it."""
        make_output_folder(self.settings.bids_dir, self.settings.out_dir)
        options = options_of(
            self.settings, bids_filter=self.bids_filter, subjects=subjects, sessions=sessions, validate=self.validate
        )
        write_description(self.settings, options)
        note_place(self.settings.bids_dir, self.settings.out_dir)


def _outcomes(executor: Executor, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Yield the outcomes of all jobs; those that are up to date never reach a worker."""
    todo = []
    for job in jobs:
        if job.is_up_to_date():
            yield Outcome(job.name, (), 0)
        else:
            todo.append(job)
    yield from executor.run(todo)


def _settings(settings: Settings | str | Path, out_dir: str | Path | None, options: dict[str, Any]) -> Settings:
    if isinstance(settings, Settings):
        given = [*(["out_dir"] if out_dir is not None else []), *options]
        if given:
            msg = f"Settings hold all options; received {', '.join(given)} too: use dataclasses.replace(settings, ...)"
            raise InputError(msg)
        return settings
    if out_dir is None:
        msg = f"where do the results of {settings} go? Give a folder: Study({str(settings)!r}, OUT_DIR)"
        raise InputError(msg)
    try:
        return Settings(Path(settings), Path(out_dir), **options)
    except TypeError as error:
        msg = f"a study has no such setting ({error}): see efface.Settings"
        raise InputError(msg) from error
