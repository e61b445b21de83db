"""Settings of a study, the same for all of its scans."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efface.defacing import METHODS
from efface.errors import InputError
from efface.io.deidentify import SCRUB, check_policy
from efface.metrics import DEFAULT_MEASURES, check_measures
from efface.parameters import parse
from efface.segmentation import DEFAULT_SEGMENTER, SEGMENTERS

TRANSFORMS = ("rigid", "affine", "deformable")
"""How one session can be registered to the other."""
NO_RESCAN = "none"
HALFWAY = "halfway"
RESCANS = (*TRANSFORMS, HALFWAY, NO_RESCAN)
STEP_LIMIT_S = 7200.0
"""Every step takes minutes at most; an external program has its own, shorter limit."""


@dataclass(frozen=True)
class Settings:
    """Settings of a study.

    Paths may be given as text, and names as a list.

    Attributes
    ----------
    bids_dir, out_dir
        The data set, and the output folder.
    methods
        Names in `efface.defacing.METHODS`, run in this order.
    segmenter
        A name in `efface.segmentation.SEGMENTERS`: the main one, which tables, figures and the report describe.
    protect_brain
        Keep the brain out of every edit. Off by default, because the published programs protect nothing.
    method_params
        Parameters of each method, by its name.
    originals
        Methods of which the external programs are run, where they are installed.
    also
        Further segmenters to run; their Dice rows are in ``dice.tsv`` too.
    segmenter_params
        Parameters of each segmenter, by its name.
    measures
        Names in `efface.metrics.MEASURES`; ``dice`` is always among them.
    rescan
        One of `RESCANS`: how a subject's sessions are registered to each other; ``halfway`` samples both
        half-way between them (rigid); or ``none``.
    rescan_pairs
        Table of the two sessions of each subject (`efface.study.session_pairs.load_pairs`); None finds them by dates and
        labels.
    header
        ``scrub`` removes text that may identify a person from headers and sidecars of defaced scans; ``keep`` keeps it.
    sidecar_keep
        Keys of the sidecars to keep besides the acquisition parameters.
    keep_rescans
        Keep the resampled scans of `rescan`, which are undefaced, in a private folder beside `out_dir`.
    step_limit_s
        Time limit of a step of a scan (one method, one segmentation and so on), seconds; a step that exceeds it is
        stopped and becomes a failed row.

    Raises
    ------
    InputError
        If a method, a segmenter, a measure or a parameter is unknown, a value cannot be used, no method is given, or a
        name is given twice.
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
    rescan_pairs: Path | None = None
    header: str = SCRUB
    sidecar_keep: tuple[str, ...] = ()
    keep_rescans: bool = False
    step_limit_s: float = STEP_LIMIT_S

    @property
    def segmenters(self) -> tuple[str, ...]:
        """All segmenters, the main one first."""
        return (self.segmenter, *self.also)

    def implementation(self, method: str) -> str:
        """Return which implementation of a method is run: ``native`` or ``original``."""
        return "original" if method in self.originals else "native"

    def __post_init__(self) -> None:
        for name in ("bids_dir", "out_dir"):
            object.__setattr__(self, name, _path(name, getattr(self, name)))
        if self.rescan_pairs is not None:
            object.__setattr__(self, "rescan_pairs", _path("rescan_pairs", self.rescan_pairs))
        for name in ("methods", "originals", "also", "measures", "sidecar_keep"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        for name in ("method_params", "segmenter_params"):
            _check_mapping(name, getattr(self, name))
        self._check_methods()
        self._check_segmenters()
        self._check_params()
        check_measures(self.measures)
        check_policy(self.header)
        if not isinstance(self.step_limit_s, int | float) or not self.step_limit_s > 0:
            msg = f"the time limit of a step must be a number of seconds above 0; received {self.step_limit_s}"
            raise InputError(msg)
        if self.rescan not in RESCANS:
            msg = f"rescan must be one of {', '.join(RESCANS)}; received {self.rescan}"
            raise InputError(msg)
        if self.rescan_pairs is not None and self.rescan == NO_RESCAN:
            kinds = ", ".join((*TRANSFORMS, HALFWAY))
            msg = f"pairs of rescans go with a registration ({kinds}); received rescan none: leave one out"
            raise InputError(msg)

    def _check_methods(self) -> None:
        unknown = sorted({*self.methods, *self.method_params} - set(METHODS))
        if unknown or not self.methods:
            received = f"unknown {', '.join(unknown)}" if unknown else "none"
            msg = f"methods must be among {', '.join(METHODS)} (or all); received {received}"
            raise InputError(msg)
        if len(set(self.methods)) < len(self.methods):
            msg = f"each method can be given once; received {', '.join(self.methods)}"
            raise InputError(msg)
        others = sorted(set(self.originals) - set(self.methods))
        if others:
            msg = f"originals must be among the methods {', '.join(self.methods)}; received {', '.join(others)}"
            raise InputError(msg)

    def _check_segmenters(self) -> None:
        unknown = {*self.segmenters, *self.segmenter_params} - set(SEGMENTERS)
        if unknown or len(set(self.segmenters)) < len(self.segmenters):
            received = ", ".join((*self.segmenters, *sorted(unknown - set(self.segmenters))))
            msg = f"segmenters must be among {', '.join(SEGMENTERS)}, each once; received {received}"
            raise InputError(msg)

    def _check_params(self) -> None:
        """Parse all parameters as the methods and segmenters will, so that a wrong one fails before the first scan."""
        for method, params in self.method_params.items():
            external = METHODS[method].external if method in self.originals else None
            if external is None:
                parse(METHODS[method].params, params, what=method)
            else:
                parse(external.params, params, what=f"the external program of {method}")
        for name, params in self.segmenter_params.items():
            parse(SEGMENTERS[name].params, params, what=f"the segmenter {name}")


def _path(name: str, value: Any) -> Path:
    try:
        return Path(value)
    except TypeError as error:
        msg = f"{name} must be a path; received {value!r}"
        raise InputError(msg) from error


def _check_mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(params, Mapping) for params in value.values()):
        msg = f'{name} must be a mapping of mappings like {{"quickshear": {{"buffer": 5}}}}; received {value!r}'
        raise InputError(msg)


def _names(name: str, value: Any) -> tuple[str, ...]:
    """Return a collection of names as a tuple; a single text would be taken apart into letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        msg = f"{name} must be a list of names; received {value!r}: give [{value!r}]"
        raise InputError(msg)
    return tuple(value)
