"""The job of one subject with two sessions, both sampled half-way between them: a rescan that is fair to the rescan.

Each session is interpolated once, segmented again there, and the two segmentations are compared (``rescan-halfway``).
The control (``resampled-halfway``) compares the first session there with itself after a small known move. It is asked
for by ``--rescan halfway``, beside the paper's rescans or in their place; see `efface.study.halfway_space`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from efface.anatomy.head_anatomy import HeadAnatomy
from efface.io.scan import Scan
from efface.metrics import measure
from efface.spatial.types import LabelVolume
from efface.study.halfway_space import MOVING_ORDER, HalfwaySpace, halfway_space
from efface.study.job import Outputs
from efface.study.records import JobRows
from efface.study.resampled_scans import CONSTANTS, SampledScan, kept_path, sampled_scan
from efface.study.rescan_job import HALFWAY_GROUPS, RESAMPLED_HALFWAY, RESCAN_HALFWAY, RescanJob
from efface.study.segmentations import AS_STORED, brain_of, segmented, stored_labels
from efface.study.session_registration import register_sessions
from efface.study.steps import StepContext, paths_of, recipe_for

FIRST = "first"
IMAGES: Mapping[str, tuple[int, str]] = {
    FIRST: (0, "halfway"),
    RESCAN_HALFWAY: (1, "halfway"),
    RESAMPLED_HALFWAY: (0, "halfwayresampled"),
}
"""Of the image that all are compared with, and of each group's: the session it shows, and its BIDS description."""


@dataclass(frozen=True)
class HalfwayJob(RescanJob):
    """One subject's rescan in half-way space; it runs after the scan jobs, whose brain mask it reads."""

    groups: ClassVar[Mapping[str, tuple[int, int]]] = HALFWAY_GROUPS

    def compute(self, scans: Sequence[Scan], contexts: Sequence[StepContext], rows: JobRows) -> None:
        """Sample both sessions and the control half-way, segment them there, and compare."""
        anatomy = HeadAnatomy(scans[0])
        spacing_mm = np.sqrt(scans[0].spacing_mm * scans[1].spacing_mm)

        @functools.cache
        def space() -> HalfwaySpace:
            found = register_sessions(scans[0], scans[1], brain_of(contexts[0], anatomy), dof=6)
            return halfway_space(scans[0].grid, scans[1].grid, found.matrix)

        for group in self.groups:
            pair = None
            with rows.failing(group, "register"):
                pair = [_sampled(name, scans, contexts, space) for name in (FIRST, group)]
            if pair is None:
                continue
            for segmenter in self.settings.segmenters:
                with rows.failing(group, "segment", segmenter):
                    before, after = (
                        _labels(contexts, image, name, segmenter)
                        for image, name in zip(pair, (FIRST, group), strict=True)
                    )
                    rows.add(group, measure(before, after, spacing_mm, self.settings.measures), segmenter)

    def recipe(self) -> dict[str, Any]:
        """Return what decides its results besides the scans' content, as JSON holds it."""
        return {**super().recipe(), "moving_order": MOVING_ORDER}

    def outputs(self) -> Outputs:
        """List the registrations and segmentations, and the images where they are kept."""
        images, kept = [], []
        for index, description in IMAGES.values():
            paths = paths_of(self.sources[index], self.settings)
            images.append(paths.registration(description))
            kept += [kept_path(paths, description)] if self.settings.keep_rescans else []
            images += [paths.segmentation(description, segmenter) for segmenter in self.settings.segmenters]
        return Outputs(images, kept)


def _sampled(
    name: str, scans: Sequence[Scan], contexts: Sequence[StepContext], space: Callable[[], HalfwaySpace]
) -> SampledScan:
    """Sample one of `IMAGES`, or take the record of an earlier run."""
    index, description = IMAGES[name]
    recipe = recipe_for(
        scans[0].sha256, second_sha256=scans[1].sha256, image=name, moving_order=MOVING_ORDER, **CONSTANTS
    )

    def make() -> tuple[Scan, dict[str, Any]]:
        between = space()
        sample = {FIRST: between.first, RESCAN_HALFWAY: between.second, RESAMPLED_HALFWAY: between.control}[name]
        record = {
            "Transform": "halfway",
            "HalfwayToFirst": between.to_first.tolist(),
            "HalfwayToSecond": between.to_second.tolist(),
        }
        return sample(scans[index]), record

    return sampled_scan(description, description, [contexts[index], contexts[1 - index]], recipe, make)


def _labels(contexts: Sequence[StepContext], image: SampledScan, name: str, segmenter: str) -> LabelVolume:
    index, description = IMAGES[name]
    found = stored_labels(contexts[index], image.sha256, AS_STORED, description, segmenter)
    return segmented(contexts[index], image.anatomy, description, segmenter) if found is None else found
