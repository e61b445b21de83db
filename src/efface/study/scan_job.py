"""The job of one scan: deface it by every method, judge each result, segment before and after, compare."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from efface import quality
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.bids.derivatives import ORIGINAL, UnitPaths
from efface.bids.query import T1wScan
from efface.bids.shareable import names_only
from efface.defacing.outward import REGION
from efface.io.scan import Scan
from efface.metrics import measure
from efface.metrics.dice import LEVELS
from efface.quality import Judge
from efface.spatial.types import LabelVolume
from efface.study import provenance
from efface.study.defaced_scans import defaced, edited_volumes
from efface.study.job import Job, Outputs
from efface.study.records import JobRows, RowLabels
from efface.study.segmentations import segmented
from efface.study.settings import Settings
from efface.study.steps import StepContext, paths_of
from efface.study.verdicts import judged

DEFACE, QC, SEGMENT = "deface", "qc", "segment"
"""Names of the steps, in rows of failures."""


@dataclass(frozen=True)
class ScanJob(Job):
    """One scan of a study.

    Attributes
    ----------
    source
        The scan.
    settings
        Of the study.
    """

    source: T1wScan
    settings: Settings
    whole: ClassVar[str] = "unit"

    def compute(self, scans: Sequence[Scan], contexts: Sequence[StepContext], rows: JobRows) -> None:
        """Segment the scan; then, by every method, deface, judge and segment it, and compare."""
        (scan,), (context,) = scans, contexts
        anatomy = HeadAnatomy(scan)
        judge = Judge(anatomy)
        before = dict(_segmented_by_all(context, anatomy, ORIGINAL, self.settings.segmenters, rows))
        for method in self.settings.methods:
            result = None
            with rows.failing(method, DEFACE):
                made = defaced(context, anatomy, method)
                rows.add(method, edited_volumes(context, anatomy, made.mask))
                result = made
            if result is None:
                continue
            with rows.failing(method, QC):
                judged(context, judge, result.scan, method)
            for segmenter, labels in _segmented_by_all(context, HeadAnatomy(result.scan), method, list(before), rows):
                rows.add(method, measure(before[segmenter], labels, scan.spacing_mm, self.settings.measures), segmenter)

    @property
    def name(self) -> str:
        """The scan's BIDS name."""
        return self.source.stem

    @property
    def sources(self) -> tuple[T1wScan, ...]:
        """The scan."""
        return (self.source,)

    @property
    def paths(self) -> UnitPaths:
        """Where its outputs are."""
        return paths_of(self.source, self.settings)

    def recipe(self) -> dict[str, Any]:
        """Return what decides its results besides the scan's content, as JSON holds it."""
        settings = self.settings
        params = self.segmenter_params
        segmentation_data = {name: provenance.segmentation_data(name, params[name]) for name in params}
        return provenance.as_json(
            {
                **self.chosen(),
                "levels": list(LEVELS),
                "versions": dict(provenance.versions()),
                "data_sha256": {"defacing": provenance.defacing_data(), **segmentation_data},
                "external_versions": {
                    name: provenance.external_version(name, settings.method_params.get(name, {}).get("program"))
                    for name in settings.originals
                },
                "check": dict(quality.settings()),
                "region": REGION,
            }
        )

    def chosen(self) -> dict[str, Any]:
        """Return the part of the recipe that the study's settings decide."""
        settings = self.settings
        return {
            "methods": list(settings.methods),
            "segmenters": {name: names_only(params) for name, params in self.segmenter_params.items()},
            "protect_brain": settings.protect_brain,
            "originals": list(settings.originals),
            "measures": list(settings.measures),
            "header": settings.header,
            "sidecar_keep": sorted(settings.sidecar_keep),
            "params": {name: names_only(values) for name, values in settings.method_params.items()},
        }

    def outputs(self) -> Outputs:
        """List images with a recipe (segmentations, defaced scans), and brain mask, edit masks and verdicts."""
        paths, methods = self.paths, self.settings.methods
        images = [paths.segmentation(m, s) for m in (ORIGINAL, *methods) for s in self.settings.segmenters]
        others = [paths.brain(), *map(paths.mask, methods), *map(paths.quality, methods)]
        return Outputs([*images, *map(paths.defaced, methods)], others)

    def label(self, method: str, segmenter: str) -> RowLabels:
        """Return the first columns of a row."""
        source, settings = self.source, self.settings
        made_with = (method, settings.implementation(method), segmenter or settings.segmenter)
        return RowLabels(source.subject, source.session or "", source.stem, *made_with)

    def fail_all(self, rows: JobRows, step: str, reason: str) -> None:
        """Add one row: the whole scan failed."""
        rows.fail(ORIGINAL, step, reason)


def _segmented_by_all(
    context: StepContext, anatomy: HeadAnatomy, description: str, segmenters: Sequence[str], rows: JobRows
) -> Iterator[tuple[str, LabelVolume]]:
    """Segment one image by several segmenters; one that fails is a row, and the others go on."""
    for segmenter in segmenters:
        labels = None
        with rows.failing(description, SEGMENT, segmenter):
            labels = segmented(context, anatomy, description, segmenter)
        if labels is not None:
            yield segmenter, labels
