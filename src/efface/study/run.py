"""A study over a data set: what `efface study` calls."""

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from efface._version import __version__
from efface.bids.derivatives import GroupPaths
from efface.bids.filters import BidsFilter
from efface.bids.query import T1wScan, find_scans
from efface.errors import InputError, OutputError
from efface.io.atomic import cannot_write, remove_leftovers, write_atomically
from efface.study.backends import Cluster, cluster_of
from efface.study.executor import Engine, Outcome, Task
from efface.study.records import Row
from efface.study.rescan_job import RescanTask, pairs_of
from efface.study.scan_job import UnitTask
from efface.study.settings import NO_RESCAN, Settings
from efface.study.tables import Tables, collect

log = logging.getLogger(__name__)

LOCK = ".efface.lock"


class Progress(Protocol):
    """Told of every unit that ends."""

    def start(self, total: int) -> None:
        """The number of units is known."""

    def done(self, outcome: Outcome) -> None:
        """One more has ended."""


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    scans
        How many scans were looked at.
    computed
        How many of them needed any work.
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
        What to run on what: `Settings`, or the folder of the data set.
    out_dir
        Where results go; only with a folder.
    validate
        Ask the input for a dataset_description.json and for BIDS names.
    bids_filter
        Look only at scans whose entities match; None looks at all.
    **options
        Other attributes of `Settings`, with a folder: ``methods``, ``segmenter``, ...

    Raises
    ------
    InputError
        If a folder comes without `out_dir`, or a setting is refused.

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
        self.settings = settings if isinstance(settings, Settings) else _settings(settings, out_dir, options)
        self.validate = validate
        self.bids_filter = bids_filter

    def scans(self, subjects: Sequence[str] = (), sessions: Sequence[str] = ()) -> list[T1wScan]:
        """The scans a run would look at.

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
        cluster: Cluster | None = None,
        progress: Progress | None = None,
    ) -> Summary:
        """Do what is missing for every scan, then for every subject with two sessions.

        Parameters
        ----------
        subjects, sessions
            Labels to keep; empty keeps all.
        jobs
            Scans at once on this machine; None takes what cores and memory allow.
        cluster
            Other workers than this machine's (`efface.study.backends`).
        progress
            Told of every unit that ends.

        Raises
        ------
        InputError
            If the data set cannot be used, or `jobs` is not positive.
        OutputError
            If results cannot be written, or another run is writing to the same folder.
        ClusterError
            If there are no workers.
        """
        cluster = cluster or cluster_of(None, jobs)
        sources = self.scans(subjects, sessions)
        self._prepare_output()
        with only_run(self.settings.out_dir):
            remove_leftovers(self.settings.out_dir)
            return self._run(sources, cluster, progress)

    def _run(self, sources: Sequence[T1wScan], cluster: Cluster, progress: Progress | None) -> Summary:
        units = [UnitTask(source, self.settings) for source in sources]
        pairs = pairs_of(sources) if self.settings.rescan != NO_RESCAN else []
        rescans = [RescanTask(pair, self.settings) for pair in pairs]
        if progress:
            progress.start(len(units) + len(rescans))
        outcomes: dict[str, Outcome] = {}
        stages: tuple[Sequence[Task], ...] = (units, rescans)  # a rescan needs what its two units leave on disk
        with Engine(cluster.at_most(len(units))) as engine:
            for tasks in stages:
                for outcome in _outcomes(engine, tasks):
                    outcomes[outcome.name] = outcome
                    if progress:
                        progress.done(outcome)
        ordered = [outcomes[task.name] for tasks in stages for task in tasks]
        failures = tuple(row for outcome in ordered for row in outcome.failures)
        computed = [sum(1 for task in tasks if outcomes[task.name].computed) for tasks in stages]
        return Summary(len(units), computed[0], failures, len(rescans), computed[1])

    def tables(self) -> Tables:
        """Gather the results so far into pandas frames, and write them as the group level does.

        Raises
        ------
        InputError
            If there are no results yet.
        """
        return collect(self.settings.out_dir)

    def _prepare_output(self) -> None:
        bids_dir, out_dir = self.settings.bids_dir.resolve(), self.settings.out_dir.resolve()
        if out_dir == bids_dir:
            msg = f"the output folder {out_dir} is the data set itself: choose another, for example {out_dir}-efface"
            raise InputError(msg)
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"output folder {out_dir} cannot be made ({error.strerror}): choose one you can write to"
            raise OutputError(msg) from error
        content = json.dumps(_description(self.settings), indent=2) + "\n"
        path = GroupPaths(out_dir).description
        if path.is_file() and "efface" not in path.read_text(encoding="utf-8", errors="replace"):
            msg = (
                f"{out_dir} holds another data set (its dataset_description.json is not efface's): choose another folder"
            )
            raise OutputError(msg)
        write_atomically(path, content.encode(), force=True)


def _outcomes(engine: Engine, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """What became of the tasks; those that are up to date cost a worker nothing."""
    todo = []
    for task in tasks:
        if task.up_to_date():
            yield Outcome(task.name, (), 0)
        else:
            todo.append(task)
    yield from engine.run(todo)


@contextlib.contextmanager
def only_run(out_dir: Path) -> Iterator[None]:
    """Keep every other run out of this folder meanwhile.

    Raises
    ------
    OutputError
        If another one is at it, or the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(out_dir / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        msg = f"another efface study is writing to {out_dir}: wait until it has ended, or choose another folder"
        raise OutputError(msg) from error
    except NotImplementedError:
        log.warning("%s cannot be locked on this file system: see that no second study writes to it", out_dir)
    except OSError as error:
        raise cannot_write(out_dir / LOCK, error) from error
    try:
        yield
    finally:
        lock.release()


def _settings(bids_dir: str | Path, out_dir: str | Path | None, options: dict[str, Any]) -> Settings:
    if out_dir is None:
        msg = f"where do the results of {bids_dir} go? Give a folder: Study({str(bids_dir)!r}, OUT_DIR)"
        raise InputError(msg)
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    try:
        return Settings(Path(bids_dir), Path(out_dir), **given)
    except TypeError as error:
        msg = f"a study has no such setting ({error}): see efface.Settings"
        raise InputError(msg) from error


def _description(settings: Settings) -> dict[str, Any]:
    """What BIDS asks of a derivative, and what the report needs to know."""
    return {
        "Name": "efface: defacing and its effects",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "efface", "Version": __version__}],
        "SourceDatasets": [{"URL": settings.bids_dir.resolve().as_uri()}],
        "DatasetLinks": {"raw": settings.bids_dir.resolve().as_uri()},
        "Efface": {
            "Methods": list(settings.methods),
            "Segmenter": settings.segmenter,
            "Segmenters": list(settings.segmenters),
            "SegmenterParameters": {name: dict(params) for name, params in settings.segmenter_params.items()},
            "ProtectBrain": settings.protect_brain,
            "Measures": list(settings.measures),
            "Rescan": settings.rescan,
            "Header": settings.header,
            "MethodParameters": {name: dict(params) for name, params in settings.method_params.items()},
        },
    }


def out_dir_of(path: str | Path) -> Path:
    """The output folder of an earlier run.

    Raises
    ------
    InputError
        If there is none.
    """
    folder = Path(path)
    if not GroupPaths(folder).description.is_file():
        msg = f"{folder} is no study output: run `efface study BIDS {folder} participant` first"
        raise InputError(msg)
    return folder
