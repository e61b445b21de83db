"""What every step of one scan needs: the scan's file, the settings, the output paths and the timer."""

from dataclasses import dataclass
from typing import Any

from efface.bids.dataset_links import uri_of
from efface.bids.derivatives import UnitPaths
from efface.bids.query import T1wScan
from efface.bids.shareable import shareable
from efface.study import provenance
from efface.study.settings import Settings
from efface.study.watchdog import StepTimer


@dataclass(frozen=True)
class StepContext:
    """One scan of a job and its timer, as the step functions take them.

    Attributes
    ----------
    source
        The scan's file.
    settings
        Of the study.
    timer
        Measures and limits the steps of this scan.
    """

    source: T1wScan
    settings: Settings
    timer: StepTimer

    @classmethod
    def of(cls, source: T1wScan, settings: Settings) -> "StepContext":
        """Make the context of a scan, with a new timer."""
        return cls(source, settings, StepTimer(paths_of(source, settings), settings.step_limit_s))

    @property
    def paths(self) -> UnitPaths:
        """Where the scan's outputs are."""
        return paths_of(self.source, self.settings)

    @property
    def uri(self) -> str:
        """BIDS URI of the scan."""
        return uri_of(self.source.path, self.settings.bids_dir)

    def shareable(self, value: Any) -> Any:
        """Remove absolute paths from what is written beside the results (`efface.bids.shareable`)."""
        return shareable(value, bids_dir=self.settings.bids_dir, out_dir=self.settings.out_dir)


def paths_of(source: T1wScan, settings: Settings) -> UnitPaths:
    """Outputs of one scan."""
    return UnitPaths(settings.out_dir, source.subject, source.session, source.stem)


def recipe_for(sha256: str, **what: Any) -> dict[str, Any]:
    """Return what decides a result made from a scan: `what`, the scan's hash, and the versions of all software."""
    return {**what, "input_sha256": sha256, "versions": dict(provenance.versions())}
