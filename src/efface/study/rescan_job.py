"""The job of one subject with two sessions: compare the sessions as undefaced and defaced scans are compared.

The first session is registered to the second and the other way round, segmented again, and compared with the
segmentation of the session it was registered to, on that session's own grid: no label is ever resampled. So
``rescan-1-2`` is measured on the second session's grid, ``rescan-2-1`` and the methods on the first's. The control
group ``resampled`` is the first session sampled through a small transform and back.

References
----------
Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022), section 3.3.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.derivatives import ORIGINAL, RescanPaths
from efface.bids.query import T1wScan
from efface.io.scan import Scan
from efface.metrics import measure
from efface.study import provenance
from efface.study.job import Job, Outputs
from efface.study.records import JobRows, RowLabels
from efface.study.resampled_scans import CONSTANTS, RESAMPLED, description_of, resampled_control, rescanned
from efface.study.segmentations import segmented
from efface.study.settings import Settings
from efface.study.steps import StepContext, paths_of

__all__ = ["RESAMPLE", "RESAMPLED", "RESCAN_12", "RESCAN_21", "RESCAN_GROUPS", "RescanJob", "SessionPair", "pairs_of"]

RESCAN_12, RESCAN_21 = "rescan-1-2", "rescan-2-1"
RESCAN_GROUPS = (RESCAN_12, RESCAN_21, RESAMPLED)
"""Groups beside the methods, in the order of the paper's Figure 4; the last is the control."""
RESAMPLE = "resample"
"""The implementation of the control group."""


@dataclass(frozen=True)
class SessionPair:
    """Two sessions of a subject, in the order of their labels."""

    first: T1wScan
    second: T1wScan


def pairs_of(sources: Sequence[T1wScan]) -> list[SessionPair]:
    """Pair the first two sessions of every subject that has them.

    Where a session has several scans, those with the same name in both sessions are taken, else the first of each.
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
            pairs.append(SessionPair(first[shared[0]], second[shared[0]]))
        else:
            pairs.append(SessionPair(next(iter(first.values())), next(iter(second.values()))))
    return pairs


@dataclass(frozen=True)
class RescanJob(Job):
    """One subject's rescan; it runs after the scan jobs of both sessions, whose segmentations it reads.

    Attributes
    ----------
    pair
        The two sessions.
    settings
        Of the study.
    """

    pair: SessionPair
    settings: Settings
    whole: ClassVar[str] = "rescan"

    def compute(self, scans: Sequence[Scan], contexts: Sequence[StepContext], rows: JobRows) -> None:
        """Sample each group's image, segment it, and compare with the segmentation of the fixed session."""
        anatomies = [HeadAnatomy(scan) for scan in scans]
        for group, moving, fixed in ((RESCAN_12, 0, 1), (RESCAN_21, 1, 0), (RESAMPLED, 0, 0)):
            image = None
            with rows.failing(group, "resample" if group == RESAMPLED else "register"):
                if group == RESAMPLED:
                    image = resampled_control(contexts[moving], scans[moving])
                else:
                    image = rescanned(group, contexts[moving], scans[moving], contexts[fixed], anatomies[fixed])
            if image is None:
                continue
            sampled, description = HeadAnatomy(image), description_of(group, self.settings.rescan)
            for segmenter in self.settings.segmenters:
                with rows.failing(group, "segment", segmenter):
                    before = segmented(contexts[fixed], anatomies[fixed], ORIGINAL, segmenter)
                    after = segmented(contexts[moving], sampled, description, segmenter)
                    rows.add(group, measure(before, after, image.spacing_mm, self.settings.measures), segmenter)

    @property
    def name(self) -> str:
        """The subject and the kind of registration."""
        return f"sub-{self.pair.first.subject} rescan ({self.settings.rescan})"

    @property
    def sources(self) -> tuple[T1wScan, ...]:
        """Both sessions."""
        return (self.pair.first, self.pair.second)

    @property
    def paths(self) -> RescanPaths:
        """Where table and timing are."""
        return RescanPaths(self.settings.out_dir, self.pair.first.subject, self.settings.rescan)

    def recipe(self) -> dict[str, Any]:
        """Return what decides its results besides the scans' content, as JSON holds it."""
        settings = self.settings
        params = self.segmenter_params
        return provenance.as_json(
            {
                "rescan": settings.rescan,
                "segmenters": params,
                "measures": list(settings.measures),
                **CONSTANTS,
                "versions": dict(provenance.versions()),
                "data_sha256": {name: provenance.segmentation_data(name, params[name]) for name in params},
            }
        )

    def outputs(self) -> Outputs:
        """List the resampled images and all segmentations that are compared."""
        first, second = (paths_of(source, self.settings) for source in self.sources)
        images = []
        for group, moving in ((RESCAN_12, first), (RESCAN_21, second), (RESAMPLED, first)):
            description = description_of(group, self.settings.rescan)
            images.append(moving.resampled(description))
            images += [moving.segmentation(description, segmenter) for segmenter in self.settings.segmenters]
        undefaced = [p.segmentation(ORIGINAL, s) for p in (first, second) for s in self.settings.segmenters]
        return Outputs([*images, *undefaced], [])

    def label(self, method: str, segmenter: str) -> RowLabels:
        """Return the first columns of a row; the scan is the one that was resampled."""
        source = self.pair.second if method == RESCAN_21 else self.pair.first
        implementation = RESAMPLE if method == RESAMPLED else self.settings.rescan
        made_with = (method, implementation, segmenter or self.settings.segmenter)
        return RowLabels(source.subject, source.session or "", source.stem, *made_with)

    def fail_all(self, rows: JobRows, step: str, reason: str) -> None:
        """Add one row for each group."""
        for group in RESCAN_GROUPS:
            rows.fail(group, step, reason)
