"""Settings of one `efface share`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efface.defacing import METHODS, check_carries_over
from efface.errors import InputError
from efface.io.deidentify import SCRUB
from efface.io.deidentify import check_policy as check_header_policy
from efface.parameters import parse
from efface.share import dates


@dataclass(frozen=True)
class ShareSettings:
    """What `efface share` was asked for.

    Attributes
    ----------
    bids_dir, out_dir
        The data set, which is never written to, and the one that may be shared.
    method
        A name in `efface.defacing.METHODS`.
    params
        Its parameters.
    link
        Hard links where nothing in a file changes, instead of copies.
    dates
        ``remove``, ``shift`` or ``keep`` (`efface.share.dates`).
    header
        ``scrub`` or ``keep`` (`efface.io.deidentify`).
    sidecar_keep
        Keys of sidecars to keep besides acquisition parameters.
    across_sessions
        Let the reference of another session of the subject decide where a session has none of its own.
    also
        Paths relative to the data set that are taken along whatever they are.

    Raises
    ------
    InputError
        If the method, a parameter or a policy is unknown, the method cannot deface other images alike, or one folder
        lies inside the other.
    """

    bids_dir: Path
    out_dir: Path
    method: str = "pydeface"
    params: Mapping[str, Any] = field(default_factory=dict)
    link: bool = False
    dates: str = dates.REMOVE
    header: str = SCRUB
    sidecar_keep: tuple[str, ...] = ()
    across_sessions: bool = False
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            msg = f"unknown method {self.method}; expected one of {', '.join(METHODS)}"
            raise InputError(msg)
        check_carries_over(self.method)
        parse(METHODS[self.method].params, dict(self.params), what=self.method)
        dates.check_policy(self.dates)
        check_header_policy(self.header)
        source, target = (Path(os.path.realpath(folder)) for folder in (self.bids_dir, self.out_dir))
        if source == target or source in target.parents or target in source.parents:
            msg = (
                f"the data set {self.bids_dir} and the shared one {self.out_dir} must not lie in each other: choose "
                f"another output folder, for example {source.parent / (source.name + '-shared')}"
            )
            raise InputError(msg)

    def recipe(self) -> dict[str, Any]:
        """What decides the outcome of an image besides the image itself."""
        return {
            "method": self.method,
            "params": {name: str(value) for name, value in sorted(self.params.items())},
            "header": self.header,
            "dates": self.dates == dates.KEEP,
            "sidecar_keep": sorted(self.sidecar_keep),
            "across_sessions": self.across_sessions,
        }
