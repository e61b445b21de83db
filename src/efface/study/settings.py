"""What a study was asked to do; the same for every scan of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efface.defacing import METHODS
from efface.errors import InputError
from efface.io.deidentify import SCRUB, check_policy
from efface.metrics import DEFAULT_MEASURES, check_measures
from efface.segmentation import DEFAULT_SEGMENTER, SEGMENTERS

TRANSFORMS = ("rigid", "affine", "deformable")
"""How one session can be registered to the other."""
NO_RESCAN = "none"
RESCANS = (*TRANSFORMS, NO_RESCAN)
STEP_LIMIT_S = 7200.0
"""No step takes more than minutes; an original program has its own, shorter limit."""


@dataclass(frozen=True)
class Settings:
    """Settings of a study.

    Attributes
    ----------
    bids_dir, out_dir
        The data set, and where results go.
    methods
        Names in `efface.defacing.METHODS`, run in this order.
    segmenter
        A name in `efface.segmentation.SEGMENTERS`: the one that tables, figures and the report speak of.
    protect_brain
        Keep the brain out of every edit. Off by default: the study measures the methods as published.
    method_params
        Parameters for each method, by its name.
    originals
        Of these methods the original programs are run, where they are installed.
    also
        More segmenters to run; their Dice rows are in ``dice.tsv`` too.
    segmenter_params
        Parameters for each segmenter, by its name.
    measures
        Names in `efface.metrics.MEASURES`; ``dice`` is always among them.
    rescan
        One of `RESCANS`: how a subject's sessions are registered to each other, or ``none``.
    header
        ``scrub``: what may name somebody goes from the headers and sidecars of defaced scans; ``keep`` keeps it.
    step_limit_s
        A step of a scan (one method, one segmentation, ...) that takes longer is stopped, and is a failed row.

    Raises
    ------
    InputError
        If a method, a measure or the segmenter is unknown, no method is given, or one is given twice.
    """

    bids_dir: Path
    out_dir: Path
    methods: tuple[str, ...] = tuple(METHODS)
    segmenter: str = DEFAULT_SEGMENTER
    protect_brain: bool = False
    method_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    originals: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    segmenter_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measures: tuple[str, ...] = DEFAULT_MEASURES
    rescan: str = "affine"
    header: str = SCRUB
    step_limit_s: float = STEP_LIMIT_S

    @property
    def segmenters(self) -> tuple[str, ...]:
        """All of them, the main one first."""
        return (self.segmenter, *self.also)

    def implementation(self, method: str) -> str:
        """Which implementation of a method is run: ``native`` or ``original``."""
        return "original" if method in self.originals else "native"

    def __post_init__(self) -> None:
        unknown = sorted({*self.methods, *self.method_params} - set(METHODS))
        if unknown or not self.methods:
            received = f"unknown {', '.join(unknown)}" if unknown else "none"
            msg = f"methods must be among {', '.join(METHODS)} (or all); received {received}"
            raise InputError(msg)
        if len(set(self.methods)) < len(self.methods):
            msg = f"each method can be given once; received {', '.join(self.methods)}"
            raise InputError(msg)
        strangers = sorted(set(self.originals) - set(self.methods))
        if strangers:
            msg = f"originals must be among the methods {', '.join(self.methods)}; received {', '.join(strangers)}"
            raise InputError(msg)
        odd = sorted({*self.segmenters, *self.segmenter_params} - set(SEGMENTERS))
        if odd or len(set(self.segmenters)) < len(self.segmenters):
            msg = f"segmenters must be among {', '.join(SEGMENTERS)}, each once; received {', '.join(self.segmenters)}"
            raise InputError(msg)
        check_measures(self.measures)
        check_policy(self.header)
        if not self.step_limit_s > 0:
            msg = f"the time limit of a step must be more than 0 s; received {self.step_limit_s:g}"
            raise InputError(msg)
        if self.rescan not in RESCANS:
            msg = f"rescan must be one of {', '.join(RESCANS)}; received {self.rescan}"
            raise InputError(msg)
