"""The commands that make a study again, rendered from the settings that the study stores.

See `efface.study.stored_settings` for the stored keys. Keys that an older study lacks are left out.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface.parameters import as_text

SHOWN_SEGMENTER_PARAMETERS = {"slant": ("weights",)}
"""Parameters of segmenters that have an option of ``efface study`` of their own."""


def commands(settings: Mapping[str, Any], raw: str, out_dir: Path) -> str:
    """Render all runs of a study, in order, and the group level.

    Parameters
    ----------
    settings
        What ``dataset_description.json`` keeps under ``Efface``.
    raw
        Path of the data set, or what stands for it.
    out_dir
        Output of the study, or what stands for it.

    Returns
    -------
    str
        Shell commands, one a line.
    """
    runs = settings.get("Runs") or [settings]
    made = [participant_command(run, raw, out_dir) for run in runs]
    group = shlex.join(["efface", "study", raw, str(out_dir), "group"])
    return "\n".join([*made, group])


def participant_command(run: Mapping[str, Any], raw: str, out_dir: Path) -> str:
    """Render one run as a shell command."""
    words = ["efface", "study", raw, str(out_dir), "participant", "--methods", ",".join(run["Methods"])]
    words += ["--segmenter", ",".join(run.get("Segmenters") or [run["Segmenter"]])]
    for key, option in (("Original", "--original"), ("Measures", "--measures")):
        words += [option, ",".join(run[key])] if run.get(key) else []
    for key, option in (
        ("Rescan", "--rescan"), ("RescanPairs", "--rescan-pairs"), ("Header", "--header"),
        ("SlantWeights", "--slant-weights"),
    ):  # fmt: skip
        words += [option, str(run[key])] if run.get(key) else []
    words += [word for pair in _params(run) for word in ("--param", pair)]
    words += ["--keep-rescans"] if run.get("KeepRescans") else []
    words += [word for key in run.get("SidecarKeep") or () for word in ("--sidecar-keep", key)]
    words += ["--step-limit", f"{run['StepLimit']:g}"] if run.get("StepLimit") else []
    words += ["--bids-filter", json.dumps({"t1w": run["BidsFilter"]})] if run.get("BidsFilter") else []
    for key, option in (("ProtectBrain", "--protect-brain"), ("SkipBidsValidation", "--skip-bids-validation")):
        words += [option] if run.get(key) else []
    for key, option in (("ParticipantLabels", "--participant-label"), ("SessionLabels", "--session-label")):
        words += [option, *run[key]] if run.get(key) else []
    return shlex.join(words)


def _params(run: Mapping[str, Any]) -> list[str]:
    """``M.NAME=VALUE`` of every parameter that was set and has no option of its own."""
    return [
        f"{owner}.{name}={as_text(value)}"
        for key in ("MethodParameters", "SegmenterParameters")
        for owner, params in (run.get(key) or {}).items()
        for name, value in params.items()
        if name not in SHOWN_SEGMENTER_PARAMETERS.get(owner, ())
    ]
