"""The job of one subject with two sessions: compare the sessions as undefaced and defaced scans are compared.

One session is registered to the other, segmented again, and compared with the segmentation of the session it was
registered to, on that session's own grid: no label is ever resampled. The names are the paper's: in ``rescan-1-2``, its
Rescan(1-2), the second session is registered to the first, and ``rescan-2-1`` is the reverse. So ``rescan-1-2`` and the
methods are measured on the first session's grid, ``rescan-2-1`` on the second's. The control group ``resampled`` is the
first session sampled through a small transform and back.

References
----------
Gao, Jin, Prince, Carass. "Effects of defacing whole head MRI on neuroanalysis." Proc. SPIE 12032 (2022), section 3.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.derivatives import ORIGINAL, RescanPaths
from efface.bids.query import T1wScan
from efface.bids.shareable import names_only
from efface.io.scan import Scan
from efface.metrics import measure
from efface.metrics.dice import LEVELS
from efface.study import provenance
from efface.study.job import Job, Outputs
from efface.study.records import JobRows, RowLabels
from efface.study.resampled_scans import (
    CONSTANTS,
    RESAMPLED,
    RESAMPLED_HALFWAY,
    description_of,
    kept_path,
    resampled_control,
    rescanned,
)
from efface.study.segmentations import segmented, stored_labels
from efface.study.session_pairs import SessionPair, pairs_of
from efface.study.settings import Settings
from efface.study.steps import StepContext, paths_of

__all__ = [
    "ALL_GROUPS",
    "GROUPS_KEY",
    "HALFWAY_GROUPS",
    "RESAMPLE",
    "RESAMPLED",
    "RESAMPLED_HALFWAY",
    "RESCAN_12",
    "RESCAN_21",
    "RESCAN_GROUPS",
    "RESCAN_HALFWAY",
    "RescanJob",
    "SessionPair",
    "pairs_of",
]

RESCAN_12, RESCAN_21 = "rescan-1-2", "rescan-2-1"
RESCAN_GROUPS = (RESCAN_12, RESCAN_21, RESAMPLED)
"""Groups beside the methods, in the order of the paper's Figure 4; the last is the control."""
MOVING_AND_FIXED = {RESCAN_12: (1, 0), RESCAN_21: (0, 1), RESAMPLED: (0, 0)}
"""Of each group, the session (0: first, 1: second) that is resampled, and the session it is compared with."""
RESCAN_HALFWAY = "rescan-halfway"
HALFWAY_GROUPS = {RESCAN_HALFWAY: (1, 0), RESAMPLED_HALFWAY: (0, 0)}
"""The same of the groups in the space half-way between the sessions; both images are resampled there."""
ALL_GROUPS = (*RESCAN_GROUPS, *HALFWAY_GROUPS)
"""All groups of rescans, in the order of tables and figures."""
GROUPS_KEY = "moving_and_fixed"
"""Key of the recipe that says what the names of the groups mean; recipes of earlier versions have none."""
RESAMPLE = "resample"
"""The implementation of the control group."""


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
    groups: ClassVar[Mapping[str, tuple[int, int]]] = MOVING_AND_FIXED

    def compute(self, scans: Sequence[Scan], contexts: Sequence[StepContext], rows: JobRows) -> None:
        """Sample each group's image, segment it, and compare with the segmentation of the fixed session."""
        anatomies = [HeadAnatomy(scan) for scan in scans]
        for group, (moving, fixed) in MOVING_AND_FIXED.items():
            sampled = None
            with rows.failing(group, "resample" if group == RESAMPLED else "register"):
                if group == RESAMPLED:
                    sampled = resampled_control(contexts[moving], scans[moving])
                else:
                    sampled = rescanned(group, contexts[moving], scans[moving], contexts[fixed], anatomies[fixed])
            if sampled is None:
                continue
            description, grid = description_of(group, self.settings.rescan), scans[fixed]
            for segmenter in self.settings.segmenters:
                with rows.failing(group, "segment", segmenter):
                    before = segmented(contexts[fixed], anatomies[fixed], ORIGINAL, segmenter)
                    after = stored_labels(contexts[moving], sampled.sha256, grid, description, segmenter)
                    if after is None:
                        after = segmented(contexts[moving], sampled.anatomy, description, segmenter)
                    rows.add(group, measure(before, after, grid.spacing_mm, self.settings.measures), segmenter)

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
        params = self.segmenter_params
        return provenance.as_json(
            {
                **self.chosen(),
                "levels": list(LEVELS),
                **CONSTANTS,
                "versions": dict(provenance.versions()),
                "data_sha256": {name: provenance.segmentation_data(name, params[name]) for name in params},
            }
        )

    def chosen(self) -> dict[str, Any]:
        """Return the part of the recipe that the study's settings decide."""
        return {
            "rescan": self.settings.rescan,
            GROUPS_KEY: {group: list(sessions) for group, sessions in self.groups.items()},
            "pair": [source.stem for source in self.sources],
            "segmenters": {name: names_only(params) for name, params in self.segmenter_params.items()},
            "measures": list(self.settings.measures),
        }

    def outputs(self) -> Outputs:
        """List the registrations, all segmentations that are compared, and the images where they are kept."""
        sessions = [paths_of(source, self.settings) for source in self.sources]
        images, kept = [], []
        for group, (index, _) in MOVING_AND_FIXED.items():
            moving, description = sessions[index], description_of(group, self.settings.rescan)
            images.append(moving.registration(description))
            kept += [kept_path(moving, description)] if self.settings.keep_rescans else []
            images += [moving.segmentation(description, segmenter) for segmenter in self.settings.segmenters]
        undefaced = [p.segmentation(ORIGINAL, s) for p in sessions for s in self.settings.segmenters]
        return Outputs([*images, *undefaced], kept)

    def label(self, method: str, segmenter: str) -> RowLabels:
        """Return the first columns of a row; the scan is the one that was resampled."""
        moving, _ = self.groups[method]
        source = self.sources[moving]
        implementation = RESAMPLE if method in (RESAMPLED, RESAMPLED_HALFWAY) else self.settings.rescan
        made_with = (method, implementation, segmenter or self.settings.segmenter)
        return RowLabels(source.subject, source.session or "", source.stem, *made_with)

    def fail_all(self, rows: JobRows, step: str, reason: str) -> None:
        """Add one row for each group."""
        for group in self.groups:
            rows.fail(group, step, reason)
